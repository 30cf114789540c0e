import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { legalize } from "../../codegen/legalize.ts";
import type { Launch } from "../../codegen/lower/launch.ts";
import { simt, simtSharedBytes } from "../../codegen/machine/simt.ts";
import { simplify } from "../../codegen/simplify.ts";
import { unroll } from "../../codegen/unroll.ts";
import { emitModule } from "../../codegen/wasm/module.ts";
import { wgslOps } from "../../codegen/wgsl/expression.ts";
import * as x from "../../src/expr.ts";
import { interpret, isInterpretError } from "../../src/interpret.ts";
import type { Element, Expr, Kernel, Rows, Stmt, Tile, TileKernel } from "../../src/kernel.ts";
import { showKernel } from "../../src/show.ts";
import { seal, type AttentionShape } from "../../src/spec.ts";
import { verifyKernel, verifyTileKernel } from "../../src/verify/kernel.ts";
import { barrier, both, kernel, loop, read, when, write } from "../kernel/kernels.ts";
import { randomSpec } from "../schedule/specs.ts";
import { direct } from "./direct.ts";
import { hold, launchesOf, nodeOf, noise, run, scheduled } from "./simt-attention.ts";

const { f32, i32, laneId } = x;
const number = x.float(laneId);

describe("the statement", () => {
  /** Every lane stores what it was given, one f32 or four. */
  const swapping = (value: Expr, mask: 1 | 2, workgroup = 8): Kernel => {
    const type = value.type === "f32x4" ? "f32x4" : "f32";
    const body = [
      x.exchange("y", value, mask),
      x.store("o", x.mul(laneId, i32(type === "f32" ? 1 : 4)), x.ref("y", type)),
    ];
    return kernel(body, { buffers: [write("o")], workgroup });
  };
  const outcome = (k: Kernel, length = 8): readonly number[] => {
    const o = new Float32Array(length);
    interpret(k, { buffers: { o }, scalars: {}, groups: 1 });
    return [...o];
  };
  const failing = (k: Kernel): string => {
    try {
      outcome(k, 64);
    } catch (e) {
      if (isInterpretError(e)) return `${e.kind}: ${e.message}`;
      throw e;
    }
    return "";
  };

  it("gives each lane what its partner has", () => {
    expect(outcome(swapping(number, 1))).toEqual([1, 0, 3, 2, 5, 4, 7, 6]);
    expect(outcome(swapping(number, 2))).toEqual([2, 3, 0, 1, 6, 7, 4, 5]);
    const four = x.mul(x.splat(number), x.float(x.op("iota", [i32(1)])));
    expect(outcome(swapping(four, 2), 32).slice(8, 16)).toEqual([0, 0, 0, 0, 1, 2, 3, 4]);
    expect(showKernel(swapping(number, 2))).toContain("let y = float(lane) of lane ^ 2");
  });

  it("stays what it is through the passes, in loops and under conditions that all lanes share", () => {
    const body: readonly Stmt[] = [
      x.var_("sum", number),
      {
        ...(loop("i", 0, 3, [
          x.exchange("a", x.op("exp2", [x.mul(x.ref("sum", "f32"), f32(0.25))]), 1),
          x.exchange("unused", x.ref("a", "f32"), 2),
          when(x.ge(x.ref("i"), i32(1)), [
            x.exchange("b", x.add(x.ref("a", "f32"), x.ref("sum", "f32")), 2),
            x.set("sum", x.add(x.ref("sum", "f32"), x.ref("b", "f32"))),
          ]),
        ]) as Extract<Stmt, { s: "for" }>),
        unroll: true,
      },
      x.store("o", laneId, x.ref("sum", "f32")),
    ];
    const k = kernel(body, { buffers: [write("o")], workgroup: 8 });
    const flat = simplify(unroll(simplify(k)));
    const legal = simplify(legalize(flat, wgslOps));
    const count = legal.body.filter((s) => s.s === "exchange").length;
    // Of the first iteration nobody reads anything.
    expect(count).toBe(4);
    for (const each of [k, flat, legal]) {
      expect(verifyKernel(each)).toEqual([]);
      expect(outcome(each)).toEqual(outcome(k));
    }
    expect(outcome(k)[0]).not.toBe(0);
    const spelled = legalize(k, new Set([...wgslOps].filter((o) => o !== "exp2")));
    expect(verifyKernel(spelled)).toEqual([]);
    outcome(spelled).forEach((v, i) => expect(v).toBeCloseTo(outcome(k)[i] ?? NaN, 4));
  });

  it("orders no memory: what a partner stored is not there yet", () => {
    const racing = (between: readonly Stmt[]) =>
      kernel(
        [
          x.store("s", laneId, number),
          x.exchange("y", number, 1),
          ...between,
          x.store("o", laneId, x.add(x.ref("y", "f32"), x.load("s", x.op("xor", [laneId, i32(1)])))),
        ],
        { buffers: [write("o")], shared: [{ name: "s", type: "f32", length: 8 }], workgroup: 8 },
      );
    expect(failing(racing([]))).toMatch(/^race/);
    expect(failing(racing([barrier]))).toBe("");
  });

  it("is refused where not every lane comes by", () => {
    const y = x.exchange("y", number, 1);
    const few: readonly (readonly [string, readonly Stmt[]])[] = [
      ["a condition", [when(x.lt(laneId, i32(4)), [y])]],
      ["a bound", [loop("i", 0, laneId, [y])]],
      ["a loaded condition", [when(x.lt(x.load("io", laneId), f32(1)), [y])]],
    ];
    for (const [title, body] of few) {
      const k = kernel(body, { buffers: [write("o"), both("io")], workgroup: 8 });
      expect(verifyKernel(k).join(), title).toMatch(/an exchange in control flow that may differ/);
    }
    // What was exchanged differs, so it decides nothing that all must agree on.
    const decides = [y, when(x.lt(x.ref("y", "f32"), f32(9)), [barrier])];
    expect(verifyKernel(kernel(decides, { workgroup: 8 })).join()).toMatch(/a barrier in control flow/);
    expect(failing(kernel(few[0]?.[1] ?? [], { buffers: [write("o")], workgroup: 8 }))).toMatch(
      /^uniform: lanes disagree on the condition of an if/,
    );
    expect(failing(kernel(few[1]?.[1] ?? [], { buffers: [write("o")], workgroup: 8 }))).toMatch(
      /^uniform: lanes disagree on the bounds of a loop/,
    );
  });

  it("is refused in groups without whole fours, of other types and by other masks", () => {
    for (const workgroup of [1, 2, 6]) {
      expect(verifyKernel(swapping(number, 1, workgroup)).join()).toMatch(/no multiple of four/);
      expect(failing(swapping(number, 1, workgroup))).toMatch(/^uniform: an exchange/);
    }
    const integers = kernel([x.exchange("y", laneId, 1)], { workgroup: 4 });
    expect(verifyKernel(integers).join()).toMatch(/lanes exchange f32 or f32x4, not i32/);
    const far = kernel([x.exchange("y", number, 4 as 2)], { workgroup: 8 });
    expect(verifyKernel(far).join()).toMatch(/an exchange by 4/);
    expect(verifyKernel(kernel([x.exchange("y", number, 1), x.exchange("y", number, 1)], { workgroup: 4 })))
      .toHaveLength(1); // prettier-ignore
    expect(() => emitModule([swapping(number, 1, 4)], { relaxed: false })).toThrow(
      /4 lanes, a thread is one/,
    );
  });
});

const at = (name: string): Expr<Element> => x.at(name);
const everyRow = (buffer: string, rows: number, cols: number): Rows => ({
  buffer,
  base: i32(0),
  stride: i32(cols),
  count: i32(rows),
  cols,
});

/** Sums and maxima of rows of a tile that a copy or a product made, spread over the rows again. */
function reducing(rows: number, cols: number, home: "copy" | "acc" | "dot", width: number): TileKernel {
  const makes: { readonly [H in typeof home]: readonly Tile[] } = {
    copy: [],
    acc: [{ s: "mma", acc: "t", a: "a", b: "b" }],
    dot: [{ s: "mma", acc: "t", a: "a", b: "c", transposed: true }],
  };
  const fill = (tile: string, value: number): Tile => ({ s: "fill", tile, value: f32(value) });
  return {
    name: "reducing",
    buffers: [read("x"), write("o"), write("p")],
    scalars: [],
    tables: [],
    shared: [],
    workgroup: 1,
    tiles: [
      { name: "t", rows, cols },
      { name: "wide", rows, cols: width },
      { name: "a", rows, cols: 4 },
      { name: "b", rows: 4, cols },
      { name: "c", rows: cols, cols: 4 },
      { name: "sum", rows, cols: 1 },
      { name: "peak", rows, cols: 1 },
    ],
    body: [
      { s: "copy", tile: "t", rows: everyRow("x", rows, cols) },
      { s: "copy", tile: "a", rows: everyRow("x", rows, 4) },
      { s: "copy", tile: "b", rows: everyRow("x", 4, cols) },
      { s: "copy", tile: "c", rows: everyRow("x", cols, 4) },
      fill("sum", 0.5),
      fill("peak", -2),
      {
        s: "for",
        name: "i",
        from: i32(0),
        to: i32(2),
        step: 1,
        body: [
          ...makes[home],
          { s: "reduce", into: "peak", from: "t", op: "max" },
          { s: "map", tile: "t", value: x.sub<Element>(at("t"), at("peak")) },
          { s: "reduce", into: "sum", from: "t", op: "add" },
        ],
      },
      { s: "map", tile: "wide", value: x.add<Element>(at("sum"), at("peak")) },
      { s: "write", tile: "wide", rows: everyRow("o", rows, width) },
      { s: "write", tile: "sum", rows: everyRow("p", rows, 1) },
    ],
  };
}

const barriers = (body: readonly Stmt[]): number =>
  body.reduce((n, s) => {
    if (s.s === "for") return n + barriers(s.body);
    if (s.s === "if") return n + barriers(s.then) + barriers(s.else ?? []);
    return n + (s.s === "barrier" ? 1 : 0);
  }, 0);
const scratch = (k: Kernel) => k.shared.some((s) => s.name.startsWith("partials"));
const exchanges = (k: Kernel) => JSON.stringify(k.body).includes('"exchange"');

describe("reductions that exchange", () => {
  it("mean the same, and every lane of a row gets the same bits", () => {
    const seen = { exchanged: 0, met: 0, alone: 0 };
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 21 }),
        fc.integer({ min: 1, max: 40 }),
        fc.constantFrom("copy" as const, "acc" as const, "dot" as const),
        fc.constantFrom(1, 2, 4, 16, 64),
        (rows, cols, home, lanes) => {
          const tiles = reducing(rows, cols, home, 48);
          expect(verifyTileKernel(tiles)).toEqual([]);
          const size = Math.max(rows, cols, 4) * Math.max(cols, 4);
          const memory = () => ({
            x: noise(size, 7),
            o: new Float32Array(rows * 48).fill(NaN),
            p: new Float32Array(rows).fill(NaN),
          });
          const [expected, actual] = [memory(), memory()];
          direct(tiles, expected, {}, 1);
          const k = simt({ lanes, sharedBytes: 1 << 20, exchange: true })(tiles);
          expect(verifyKernel(k)).toEqual([]);
          interpret(k, { buffers: actual, scalars: {}, groups: 1 });
          for (const name of ["o", "p"] as const)
            actual[name].forEach((v, i) => {
              const e = expected[name][i] ?? NaN;
              if (!(Math.abs(v - e) <= 1e-4 * Math.max(1, Math.abs(e))))
                throw new Error(`${name}[${i}] is ${v}, not ${e}`);
            });
          for (let r = 0; r < rows; r++)
            expect(new Set(actual.o.subarray(r * 48, r * 48 + 48)).size, `row ${r}`).toBe(1);
          seen[!exchanges(k) ? "alone" : scratch(k) ? "met" : "exchanged"] += 1;
          if (lanes < 4) expect(exchanges(k)).toBe(false);
        },
      ),
      { numRuns: 120 },
    );
    for (const times of Object.values(seen)) expect(times).toBeGreaterThan(5);
  });
});

/** Rows × keys of a tile, and lengths around their edges. */
const tiles = fc.constantFrom([4, 4], [8, 16], [16, 8], [8, 12]);
const lengths = fc.oneof(fc.integer({ min: 1, max: 48 }), fc.constantFrom(3, 4, 5, 7, 8, 15, 16, 17, 31, 33));
const small = randomSpec({ maxSegment: 48, maxBranches: 4 }).filter((s) => s.heads <= 3);

describe("attention with exchanges", () => {
  it.each(["branch", "class"] as const)("%s equals the reference, in slices too", (kind) => {
    let [held, swapped] = [0, 0];
    fc.assert(
      fc.property(
        small,
        lengths,
        tiles,
        fc.constantFrom(undefined, { depth: 8, values: 1 }, { depth: 8, values: 4 }),
        fc.constantFrom(16, 32, 64),
        fc.boolean(),
        (spec, N, [rows = 0, keys = 0], tiling, lanes, decays) => {
          const schedule = scheduled(spec, { kind, rows, keys }, N);
          if (schedule === null) return;
          const node = nodeOf(spec, decays && spec.headDim % 2 === 0 ? { base: 512, block: 8 } : undefined);
          const launches = launchesOf(node, schedule, tiling).map((l): Launch<Kernel> => {
            // As little memory as the kernel can do with, or as much as it likes.
            const sharedBytes = tiling === undefined ? 1 << 16 : simtSharedBytes(l.kernel, lanes, true);
            const made = simt({ lanes, sharedBytes, exchange: true })(l.kernel);
            expect(verifyKernel(made, { sharedBytes })).toEqual([]);
            if (exchanges(made)) swapped += 1;
            return { ...l, kernel: made };
          });
          const place = { N, B: 1 };
          hold(node, run(node, launches, place), place);
          held += 1;
        },
      ),
      { numRuns: 50 },
    );
    expect(held).toBeGreaterThan(10);
    expect(swapped).toBeGreaterThan(10);
  });

  // Four lanes across hold a row of 16 scores, so no partial result is left to meet in memory.
  it("waits less and takes less memory", () => {
    const spec = seal<AttentionShape>({
      name: "trial",
      heads: 1,
      headDim: 64,
      kvHeads: 1,
      causal: true,
      branches: [{ segment: Infinity, dilation: 1 }],
      offsets: [[0]],
      padding: "masked",
      align: "segment",
      combine: "softmax",
      gradient: "full",
      scale: 0.125,
      dtype: "f32",
    });
    const node = nodeOf(spec);
    const schedule = scheduled(spec, { kind: "dense", rows: 32, keys: 16 }, 70);
    if (schedule === null) throw new Error("dense is legal here");
    const [launch] = launchesOf(node, schedule);
    if (launch === undefined) throw new Error("dense is one launch");
    const [without, with_] = [false, true].map((exchange) => ({
      kernel: simt({ lanes: 64, sharedBytes: 1 << 16, exchange })(launch.kernel),
      bytes: simtSharedBytes(launch.kernel, 64, exchange),
    }));
    if (without === undefined || with_ === undefined) throw new Error("two kernels");
    expect(barriers(with_.kernel.body)).toBeLessThan(barriers(without.kernel.body));
    expect(with_.bytes).toBeLessThan(without.bytes);
    const place = { N: 70, B: 1 };
    hold(node, run(node, [{ ...launch, kernel: with_.kernel }], place), place);
  });
});
