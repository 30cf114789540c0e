import { describe, expect, test } from "vitest";
import { legalize } from "../../codegen/legalize.ts";
import { exprsOf, statements } from "../../codegen/rewrite.ts";
import * as x from "../../src/expr.ts";
import { interpret } from "../../src/interpret.ts";
import { verifyKernel } from "../../src/verify.ts";
import type { Expr, Kernel, Op } from "../../src/kernel.ts";
import { kernel, loop, read, when, write } from "./kernels.ts";

const all = Object.keys(x.rules) as Op[];
/** What WASM SIMD has. */
const wasm = all.filter((o) => !["exp2", "log2", "madd", "sum", "most"].includes(o));
/** The fewest operations anything can be spelled with. */
const bare = all.filter(
  (o) => !["exp2", "log2", "madd", "sum", "most", "round", "floor", "abs", "neg", "min", "max", "rem", "not", "ne", "gt", "le"].includes(o),
); // prettier-ignore

function opsOf(k: Kernel): Set<Op> {
  const found = new Set<Op>();
  const visit = (e: Expr): void => {
    if (e.e === "op") {
      found.add(e.op);
      e.args.forEach(visit);
    } else if (e.e === "load") visit(e.index);
  };
  for (const s of statements(k.body)) exprsOf(s).forEach(visit);
  return found;
}

/** o[i] = name(a[i]) for vectors of four. */
const mapping = (name: Op, vector: boolean): Kernel =>
  kernel(
    [loop("i", 0, x.ref("n"), [x.store("o", x.ref("i"), x.op(name, [x.load("a", x.ref("i"), vector ? "f32x4" : "f32")]))], vector ? 4 : 1)],
    { buffers: [read("a"), write("o")], scalars: [{ name: "n", type: "i32" }] },
  ); // prettier-ignore

function run(k: Kernel, a: Float32Array): Float32Array {
  expect(verifyKernel(k)).toEqual([]);
  const o = new Float32Array(a.length);
  interpret(k, { buffers: { a, o }, scalars: { n: a.length }, groups: 1 });
  return o;
}

const ulp = (v: number) => 2 ** (Math.max(-126, Math.floor(Math.log2(Math.abs(v)))) - 23);
/** f32 numbers between two others, about `count` of them, evenly spread over their bit patterns. */
function sample(from: number, to: number, count: number): Float32Array {
  const out = Float32Array.from({ length: count }, (_, i) => from + ((to - from) * i) / (count - 1));
  return out;
}

describe("exp2 by polynomial", () => {
  for (const [title, ops] of [
    ["wasm", wasm],
    ["bare", bare],
    ["fused", [...wasm, "madd"]],
  ] as const)
    for (const vector of [true, false])
      test(`${title}, ${vector ? "vectors" : "scalars"}`, () => {
        const k = legalize(mapping("exp2", vector), new Set<Op>(ops as readonly Op[]));
        for (const o of opsOf(k)) expect(ops).toContain(o);
        let worst = 0;
        const ranges = [sample(-126, 127.4, 400_000), sample(-1.5, 1.5, 400_000), sample(-30, 0, 200_000)];
        for (const a of ranges)
          run(k, a).forEach((got, i) => {
            const want = 2 ** a[i]!;
            worst = Math.max(worst, Math.abs(got - want) / ulp(want));
          });
        console.log(`exp2 ${title}: ${worst.toFixed(3)} ulp`);
        expect(worst).toBeLessThan(1.3);
        const exact = Float32Array.from({ length: 252 }, (_, i) => i - 126);
        expect([...run(k, exact)]).toEqual([...exact].map((e) => 2 ** e));
        const low = Float32Array.from([-127, -150, -1e4, -1e30, -3e30, -Infinity, -126.6, -1e9]);
        expect([...run(k, low)]).toEqual(Array.from(low, () => 0));
        expect([...run(k, Float32Array.from([128, 1e9, 3e38, Infinity]))]).toEqual(
          Array.from({ length: 4 }, () => Infinity),
        );
      });

  test("costs 13 vector operations", () => {
    let count = 0;
    const k = legalize(mapping("exp2", true), new Set<Op>([...wasm, "madd"]));
    const visit = (e: Expr): void => {
      if (e.e !== "op" || !x.isVector(e.type) || e.op === "splat") return;
      // Reinterpreting a vector costs nothing.
      if (e.op !== "bits" && e.op !== "unbits") count++;
      e.args.forEach(visit);
    };
    for (const s of statements(k.body)) exprsOf(s).forEach(visit);
    expect(count).toBe(13);
  });
});

test("log2 by polynomial", () => {
  for (const ops of [wasm, bare, [...wasm, "madd"]]) {
    const k = legalize(mapping("log2", true), new Set<Op>(ops as readonly Op[]));
    for (const o of opsOf(k)) expect(ops).toContain(o);
    const near = sample(0.5, 2, 400_000);
    const wide = sample(-126, 127.9, 400_000).map((e) => 2 ** e);
    let [worst, least] = [0, 0];
    for (const a of [near, wide])
      run(k, a).forEach((got, i) => {
        const want = Math.log2(a[i]!);
        const off = Math.abs(got - want);
        least = Math.max(least, Math.min(off / ulp(want), off / 1e-7));
        if (want !== 0) worst = Math.max(worst, off / ulp(want));
      });
    console.log(`log2: ${worst.toFixed(3)} ulp; min(ulp, 1e-7) ${least.toFixed(3)}`);
    expect(worst).toBeLessThan(3);
    expect([...run(k, Float32Array.from([1, 2, 0.5, 2 ** 20]))]).toEqual([0, 1, -1, 20]);
  }
});

test("every spelling agrees with the operation, in scalars and vectors", () => {
  const values = Float32Array.from([
    0.25, -0.25, 0.5, -0.5, 1.5, -1.5, 2.5, -2.5, 3, -3, 0, 8388609, -8388609, 1e30, -1e30, 4194304.5,
  ]);
  for (const name of ["round", "floor", "abs", "neg"] as const)
    for (const vector of [true, false]) {
      const k = mapping(name, vector);
      expect([...run(legalize(k, new Set(bare)), values)].map((v) => v + 0)).toEqual(
        [...run(k, values)].map((v) => v + 0),
      );
    }
  const b = x.load("a", x.op("and", [x.add(x.ref("i"), x.i32(4)), x.i32(7)]), "f32x4");
  const v = x.load("a", x.ref("i"), "f32x4");
  const combos: Expr[] = [
    x.op("min", [v, b]), x.op("max", [v, b]), x.madd(v, b, v), x.splat(x.op("sum", [v])), x.splat(x.op("most", [v])),
    ...(["ne", "gt", "le", "ge"] as const).map((c) => x.select(x.op(c, [v, b]), v, b)),
    x.select(x.not(x.lt(v, b)), v, b),
    x.select(x.op("xor", [x.lt(v, b), x.eq(v, v)]), v, b),
    x.splat(x.float(x.rem(x.ref("i"), x.i32(3)))),
  ]; // prettier-ignore
  for (const e of combos) {
    const k = kernel([loop("i", 0, x.ref("n"), [x.store("o", x.ref("i"), e)], 4)], {
      buffers: [read("a"), write("o")],
      scalars: [{ name: "n", type: "i32" }],
    });
    const legal = legalize(k, new Set<Op>([...bare.filter((o) => o !== "xor" && o !== "not"), "not"]));
    const data = values.map((t) => (Math.abs(t) > 1e20 ? 7 : t));
    expect([...run(legal, data)].map((t) => t + 0)).toEqual([...run(k, data)].map((t) => t + 0));
  }
});

test("in the bounds of a loop and the condition of an if, values are bound before", () => {
  const n = x.op("int", [x.exp2(x.f32(3))]);
  const k = kernel(
    [
      x.var_("c", x.i32(0)),
      loop("i", 0, n, [
        when(x.lt(x.exp2(x.float(x.ref("i"))), x.f32(20)), [x.set("c", x.add(x.ref("c"), x.i32(1)))]),
      ]),
      x.store("o", x.i32(0), x.float(x.ref("c"))),
    ],
    { buffers: [write("o")] },
  );
  const legal = legalize(k, new Set(bare));
  expect(verifyKernel(legal)).toEqual([]);
  const o = new Float32Array(1);
  interpret(legal, { buffers: { o }, scalars: {}, groups: 1 });
  expect(o[0]).toBe(5);
});

test("what cannot be spelled is our bug", () => {
  expect(() => legalize(mapping("sqrt", true), new Set(bare.filter((o) => o !== "sqrt")))).toThrow(
    "heddle: internal: kernel 'test' needs 'sqrt' of f32x4, which the target lacks",
  );
});
