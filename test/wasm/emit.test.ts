import fc from "fast-check";
import { beforeAll, describe, expect, it } from "vitest";
import wabt from "wabt";
import { legalize } from "../../codegen/legalize.ts";
import { emitModule } from "../../codegen/wasm/module.ts";
import { wasmOps } from "../../codegen/wasm/value.ts";
import * as x from "../../src/expr.ts";
import { interpret } from "../../src/interpret.ts";
import type { Kernel, Stmt } from "../../src/kernel.ts";
import { engine } from "../../runtime/wasm/engine.ts";
import { IN, OUT, randomKernel } from "../kernel/random.ts";

const features = { simd: true, threads: true, relaxed_simd: true, bulk_memory: true } as const;
let tools: Awaited<ReturnType<typeof wabt>>;
beforeAll(async () => {
  tools = await wabt();
});

type Arrays = { readonly [name: string]: Float32Array | Int32Array };
/** Runs groups [begin, end) of a kernel as WebAssembly; `buffers` are written back. */
function run(
  kernel: Kernel,
  buffers: Arrays,
  scalars: { readonly [name: string]: number },
  [begin, end]: readonly [number, number],
) {
  const { bytes, dataEnd } = emitModule([kernel], { relaxed: false });
  const { Instance, Memory, Module } = engine();
  const memory = new Memory({ initial: 16, maximum: 65536 });
  const { exports } = new Instance(new Module(bytes), { env: { memory } });
  let free = Math.max(65536, dataEnd);
  const place = (bytes: number) => {
    const at = free;
    free += Math.ceil(bytes / 16) * 16;
    return at;
  };
  const scratch = place(kernel.shared.reduce((sum, s) => sum + 4 * s.length, 0));
  const views = kernel.buffers.map((b) => {
    const array = buffers[b.name]!;
    const at = place(array.byteLength);
    const view = array instanceof Int32Array ? new Int32Array(memory.buffer, at, array.length) : new Float32Array(memory.buffer, at, array.length); // prettier-ignore
    view.set(array);
    return { at, view, array };
  });
  const call = exports[kernel.name] as (...args: number[]) => void;
  call(begin, end, scratch, ...views.map((v) => v.at), ...kernel.scalars.map((s) => scalars[s.name]!));
  for (const { view, array } of views) array.set(view);
}

const bitsOf = (array: Float32Array | Int32Array) =>
  Array.from(new Int32Array(array.buffer, array.byteOffset, array.length), (bits, i) =>
    // Which zero `min` and `max` of two zeros give, and the bits of a NaN, are left to the target.
    array instanceof Float32Array && array[i] === 0 ? 0 : Number.isNaN(array[i]) ? NaN : bits,
  );

describe("against the interpreter", () => {
  let compared = 0;
  it("random kernels give the same bits", () => {
    const a = Float32Array.from({ length: IN }, (_, i) => Math.fround(Math.sin(i * 7) * 5));
    fc.assert(
      fc.property(
        randomKernel,
        fc.integer(),
        fc.float({ noNaN: true, noDefaultInfinity: true, min: -100, max: 100 }),
        (random, p, q) => {
          const kernel = legalize(random, wasmOps);
          const fresh = () => ({ a, f: new Float32Array(OUT), i: new Int32Array(OUT) });
          const [expected, found] = [fresh(), fresh()];
          const scalars = { p, q };
          try {
            interpret(kernel, { buffers: expected, scalars, groups: 3, check: { groups: false } });
          } catch (error) {
            // Random arithmetic may promise nothing: NaN, conversions out of range, uninitialised reads.
            if (error instanceof Error && error.name === "InterpretError") return;
            throw error;
          }
          run(kernel, found, scalars, [0, 3]);
          compared++;
          expect(bitsOf(found.f)).toEqual(bitsOf(expected.f));
          expect(found.i).toEqual(expected.i);
        },
      ),
      { numRuns: 1500 },
    );
    expect(compared).toBeGreaterThan(300);
  });

  it("every module is valid, plain and relaxed, for shared memory too", () => {
    fc.assert(
      fc.property(fc.array(randomKernel, { minLength: 1, maxLength: 3 }), (kernels) => {
        const legal = kernels.map((k, i) => legalize({ ...k, name: `k${i}` }, wasmOps));
        const plain = emitModule(legal, { relaxed: false });
        const relaxed = emitModule(legal, { relaxed: true });
        expect(engine().validate(plain.bytes)).toBe(true);
        expect(plain.bytes[plain.memoryFlag]).toBe(1);
        for (const { bytes, memoryFlag } of [plain, relaxed]) {
          tools.readWasm(bytes, features).validate();
          const shared = bytes.slice();
          shared[memoryFlag] = 3;
          const text = tools.readWasm(shared, features).toText({});
          expect(text).toMatch(/\(memory \(;0;\) 1 65536 shared\)/);
        }
      }),
      { numRuns: 40 },
    );
  });
});

const kernelOf = (body: readonly Stmt[], more: Partial<Kernel> = {}): Kernel => ({
  name: "k",
  buffers: [
    { name: "a", dtype: "f32", access: "read" },
    { name: "out", dtype: "f32", access: "write" },
  ],
  scalars: [{ name: "n", type: "i32" }],
  tables: [],
  shared: [],
  workgroup: 1,
  body,
  ...more,
});
const n = x.ref("n");
const i = x.ref("i");
const loop = (to: x.AnyExpr | number, body: readonly Stmt[], step = 1): Stmt => ({
  s: "for",
  name: "i",
  from: x.i32(0),
  to: typeof to === "number" ? x.i32(to) : (to as typeof n),
  step,
  body,
});

describe("by hand", () => {
  /** Interpreter and WebAssembly on a = 0, 1, 2 …; returns `out` after they agreed. */
  const both = (kernel: Kernel, N: number, groups = 1) => {
    const legal = legalize(kernel, wasmOps);
    const make = () => ({ a: Float32Array.from({ length: 64 }, (_, k) => k), out: new Float32Array(64) });
    const [expected, found] = [make(), make()];
    interpret(legal, { buffers: expected, scalars: { n: N }, groups });
    run(legal, found, { n: N }, [0, groups]);
    expect(found.out).toEqual(expected.out);
    return found.out;
  };

  it("indices with negative parts, and parts that look like overflow", () => {
    const out = both(
      kernelOf([
        loop(8, [
          x.store("out", x.add(x.sub(i, x.i32(8)), x.i32(8)), x.load("a", x.sub(x.i32(20), i))),
          x.store("out", x.add(i, x.i32(32)), x.load("a", x.add(x.mul(x.sub(i, x.i32(7)), x.i32(2)), x.i32(14)))),
        ]),
        x.store("out", x.add(x.mul(n, x.i32(0x40000000)), x.i32(63)), x.f32(5)),
      ]),
      4,
    ); // prettier-ignore
    expect(out.slice(0, 8)).toEqual(Float32Array.from([20, 19, 18, 17, 16, 15, 14, 13]));
    expect(out.slice(32, 40)).toEqual(Float32Array.from([0, 2, 4, 6, 8, 10, 12, 14]));
    expect(out[63]).toBe(5);
  });

  it("large constants in indices whose rest is negative", () => {
    const big = 0x100000;
    const out = both(
      kernelOf(
        [
          x.store("out", x.add(x.sub(n, x.i32(big)), x.i32(big)), x.load("t", x.add(x.sub(n, x.i32(3)), x.i32(3)))),
          x.store("out", x.add(x.sub(n, x.i32(16384)), x.i32(16384 + 4)), x.load("t", x.add(n, x.i32(1)))),
        ],
        { tables: [{ name: "t", type: "f32", values: [10, 20, 30, 40] }] },
      ),
      1,
    ); // prettier-ignore
    expect([out[1], out[5]]).toEqual([20, 30]);
  });

  it("loops that run never, once, and past their end", () => {
    for (const [N, sum] of [[-5, 0], [0, 0], [1, 1], [3, 1], [4, 2], [7, 3]] as const)
      expect(
        both(
          kernelOf([
            x.var_("sum", x.f32(0)),
            loop(n, [x.set("sum", x.op("add", [x.ref("sum", "f32"), x.f32(1)]))], 3),
            x.store("out", x.i32(0), x.ref("sum", "f32")),
          ]),
          N,
        )[0],
      ).toBe(sum); // prettier-ignore
  });

  it("a loop's bound is evaluated once", () => {
    const v = x.ref("v");
    const out = both(
      kernelOf([
        x.var_("v", n),
        loop(v, [x.set("v", x.add(v, x.i32(1))), x.store("out", i, x.float(v))]),
        x.store("out", x.i32(10), x.float(v)),
      ]),
      3,
    );
    expect([...out.slice(0, 4), out[10]]).toEqual([4, 5, 6, 0, 6]);
  });

  it("a variable in an address is read anew after it was set", () => {
    const v = x.ref("v");
    const out = both(
      kernelOf([
        x.var_("v", x.i32(3)),
        x.store("out", v, x.f32(1)),
        x.set("v", x.add(v, x.i32(1))),
        x.store("out", v, x.f32(2)),
        { s: "if", cond: x.gt(n, x.i32(0)), then: [x.set("v", x.i32(7)), x.store("out", v, x.f32(3))] },
        x.store("out", x.add(v, x.i32(1)), x.f32(4)),
        loop(3, [x.store("out", x.add(v, x.i32(10)), x.float(i)), x.set("v", x.add(v, x.i32(2)))]),
        x.store("out", v, x.f32(9)),
      ]),
      1,
    );
    expect(out.slice(3, 9)).toEqual(Float32Array.from([1, 2, 0, 0, 3, 4]));
    expect([out[17], out[19], out[21], out[13]]).toEqual([0, 1, 2, 9]);
  });

  it("names that a sibling block uses again", () => {
    const out = both(
      kernelOf([
        { s: "if", cond: x.gt(n, x.i32(0)), then: [x.let_("t", x.i32(1)), x.store("out", x.ref("t"), x.f32(1))] },
        { s: "if", cond: x.gt(n, x.i32(0)), then: [x.let_("t", x.i32(2)), x.store("out", x.ref("t"), x.f32(2))] },
        loop(2, [x.let_("t", x.add(i, x.i32(5))), x.store("out", x.ref("t"), x.f32(3))]),
        loop(2, [x.let_("t", x.add(i, x.i32(8))), x.store("out", x.ref("t"), x.f32(4))]),
      ]),
      1,
    ); // prettier-ignore
    expect(out.slice(0, 10)).toEqual(Float32Array.from([0, 1, 2, 0, 0, 3, 3, 0, 4, 4]));
  });

  it("tables, shared arrays of odd lengths, and lanes", () => {
    const out = both(
      kernelOf(
        [
          x.store("s", x.i32(0), x.load("t", x.add(n, x.i32(1)))),
          loop(8, [x.store("u", i, x.op("mul", [x.load("a", i), x.load("s", x.i32(0))]))]),
          x.let_("v", x.load("u", x.i32(2), "f32x4")),
          x.store("out", x.i32(0), x.op("shuffle", [x.ref("v", "f32x4"), x.load("t", x.i32(0), "f32x4")], [3, 0, 4, 7])),
          x.store("out", x.i32(4), x.op("sum", [x.ref("v", "f32x4")])),
          x.store("out", x.i32(5), x.op("most", [x.ref("v", "f32x4")])),
          x.store("out", x.i32(6), x.op("lane", [x.load("a", x.i32(9), "f32x4")], [2])),
          x.store("out", x.i32(8), x.op("float", [x.op("iota", [n])])),
        ],
        {
          tables: [{ name: "t", type: "f32", values: [10, 20, 30, 40] }],
          shared: [{ name: "s", type: "f32", length: 3 }, { name: "u", type: "f32", length: 9 }],
        },
      ),
      1,
    ); // prettier-ignore
    expect(out.slice(0, 12)).toEqual(Float32Array.from([150, 60, 10, 40, 420, 150, 11, 0, 1, 2, 3, 4]));
  });

  it("groups of a range only", () => {
    const out = new Float32Array(64);
    const kernel = kernelOf([x.store("out", x.group, x.float(x.add(x.group, x.i32(1))))]);
    run(kernel, { a: new Float32Array(4), out }, { n: 0 }, [2, 5]);
    run(kernel, { a: new Float32Array(4), out }, { n: 0 }, [9, 9]);
    run(kernel, { a: new Float32Array(4), out }, { n: 0 }, [9, 8]);
    expect(out.slice(0, 10)).toEqual(Float32Array.from([0, 0, 3, 4, 5, 0, 0, 0, 0, 0]));
  });

  it("refuses what it cannot emit", () => {
    const emit = (k: Kernel) => () => emitModule([k], { relaxed: false });
    expect(emit(kernelOf([], { workgroup: 4 }))).toThrow("heddle: internal: wasm: 'k' has 4 lanes");
    const half = { name: "a", dtype: "f16", access: "read" } as const;
    expect(emit(kernelOf([], { buffers: [half] }))).toThrow(
      "heddle: internal: wasm: 'k' has a buffer of f16",
    );
    expect(emit(kernelOf([x.store("out", x.i32(0), x.exp2(x.f32(1)))]))).toThrow(
      "no 'exp2' of f32: legalize",
    );
  });
});
