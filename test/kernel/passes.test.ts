import { describe, expect, test } from "vitest";
import fc from "fast-check";
import { legalize } from "../../codegen/legalize.ts";
import { simplify, simplifyExpr } from "../../codegen/simplify.ts";
import { unroll } from "../../codegen/unroll.ts";
import { statements } from "../../codegen/rewrite.ts";
import * as x from "../../src/expr.ts";
import { interpret, isInterpretError } from "../../src/interpret.ts";
import { verifyKernel } from "../../src/verify.ts";
import type { Expr, Kernel, Op, Stmt } from "../../src/kernel.ts";
import { showExpr } from "../../src/show.ts";
import { kernel, loop, read, when, write } from "./kernels.ts";
import { IN, OUT, randomKernel } from "./random.ts";

const a = Float32Array.from({ length: IN }, (_, i) => Math.fround(Math.sin(i) * 3));

/** Everything a kernel computes, as bits; or the reason it cannot be run. */
function results(k: Kernel): { readonly bits: readonly number[] } | { readonly error: string } {
  const f = new Float32Array(OUT);
  const i = new Int32Array(OUT);
  try {
    interpret(k, { buffers: { a, f, i }, scalars: { p: 5, q: -1.5 }, groups: 2, check: { groups: false } });
  } catch (e) {
    if (isInterpretError(e)) return { error: `${e.kind}: ${e.message}` };
    throw e;
  }
  return { bits: [...new Int32Array(f.buffer), ...i] };
}

const lacking = (...ops: Op[]) => {
  const all = Object.keys(x.rules) as Op[];
  return new Set(all.filter((o) => !ops.includes(o)));
};

describe("passes keep every bit of random kernels", () => {
  const passes: { readonly [name: string]: (k: Kernel) => Kernel } = {
    simplify,
    unroll,
    "unroll, simplify": (k) => simplify(unroll(k)),
    "simplify, unroll, simplify": (k) => simplify(unroll(simplify(k))),
    legalize: (k) =>
      legalize(k, lacking("madd", "abs", "neg", "floor", "sum", "most", "rem", "ne", "gt", "ge", "not")),
  };
  for (const [name, pass] of Object.entries(passes))
    test(name, () => {
      let ran = 0;
      fc.assert(
        fc.property(randomKernel, (k) => {
          expect(verifyKernel(k)).toEqual([]);
          const before = results(k);
          const after = pass(k);
          expect(verifyKernel(after)).toEqual([]);
          if ("error" in before) return;
          ran++;
          expect(results(after)).toEqual(before);
        }),
        { numRuns: 300 },
      );
      // Kernels that meet NaN are no test of a pass; most must run.
      expect(ran).toBeGreaterThan(100);
    });
});

describe("simplify", () => {
  const [i, j] = [x.ref("i"), x.ref("j")];
  const o = (name: Op, ...args: Expr[]) => x.op(name, args);
  const n = x.i32;
  const cases: readonly (readonly [Expr, string])[] = [
    [o("add", o("add", i, n(2)), n(3)), "i + 5"],
    [o("add", o("add", i, n(2)), o("sub", j, n(2))), "i + j"],
    [o("mul", o("add", i, n(1)), n(64)), "i * 64 + 64"],
    [o("mul", n(4), o("mul", i, n(8))), "i * 32"],
    [o("sub", o("add", i, n(7)), o("add", j, n(3))), "i - j + 4"],
    [o("sub", n(7), o("add", j, n(3))), "4 - j"],
    [o("round", x.f32(2.5)), "2.0"],
    [o("round", x.f32(-3.5)), "-4.0"],
    // A fold never makes −0.
    [o("round", x.f32(-0.25)), "round(-0.25)"],
    [o("add", o("mul", i, n(0)), n(0)), "0"],
    [o("add", n(2147483647), n(1)), "-2147483648"],
    [o("div", n(-7), n(2)), "-7 / 2"],
    [o("mul", x.ref("f", "f32"), x.f32(1)), "f"],
    [o("add", x.ref("f", "f32"), x.f32(0)), "f + 0.0"],
    [o("mul", x.ref("f", "f32"), x.f32(0)), "f * 0.0"],
    [o("add", o("add", x.ref("f", "f32"), x.f32(1)), x.f32(2)), "f + 1.0 + 2.0"],
    [o("div", x.f32(1), x.f32(0)), "1.0 / 0.0"],
    [o("select", o("lt", n(1), n(2)), i, j), "i"],
    [o("not", o("lt", i, j)), "i >= j"],
    [o("and", o("lt", i, j), x.bool(true)), "i < j"],
    [o("and", o("lt", i, j), x.bool(false)), "false"],
  ];
  for (const [e, want] of cases) test(showExpr(e), () => expect(showExpr(simplifyExpr(e))).toBe(want));

  test("a fold makes no infinity, NaN or -0, which have no literal everywhere", () => {
    for (const e of [
      x.neg(x.f32(0)),
      o("mul", x.f32(3e38), x.f32(3e38)),
      o("div", x.f32(0), x.f32(0)),
      o("unbits", n(0x7fc00000)),
    ])
      expect(simplifyExpr(e)).toEqual(e);
  });

  test("what is decided is opened, what is unused goes", () => {
    const k = kernel(
      [
        x.let_("one", n(1)),
        x.let_("dead", x.load("a", n(3))),
        x.var_("gone", n(2)),
        x.set("gone", n(3)),
        when(
          x.eq(x.ref("one"), n(1)),
          [x.let_("t", x.load("a", x.ref("one"))), x.store("o", n(0), x.ref("t", "f32"))],
          [x.store("o", n(9), x.f32(9))],
        ),
        when(x.lt(x.group, n(7)), [
          x.let_("t", x.load("a", x.ref("one"))),
          x.store("o", n(1), x.ref("t", "f32")),
        ]),
        loop("never", 5, 5, [x.store("o", n(9), x.f32(9))]),
        loop("once", 2, 3, [x.store("o", x.ref("once"), x.f32(9))]),
        loop("empty", 0, x.group, [x.let_("unused", x.ref("empty"))]),
      ],
      { buffers: [read("a"), write("o")] },
    );
    const s = simplify(k);
    expect(verifyKernel(s)).toEqual([]);
    expect([...statements(s.body)].map((t) => t.s)).toEqual(["let", "store", "if", "let", "store", "store"]);
    const out = (which: Kernel) => {
      const arrays = { a: Float32Array.from([1, 2, 3, 4]), o: new Float32Array(10) };
      interpret(which, { buffers: arrays, scalars: {}, groups: 1 });
      return [...arrays.o];
    };
    expect(out(s)).toEqual(out(k));
  });

  test("a copy of a variable is no copy", () => {
    const k = kernel(
      [x.var_("v", x.load("a", n(0))), x.let_("old", x.ref("v", "f32")), x.set("v", x.f32(9)), x.store("o", n(0), x.ref("old", "f32")), x.store("o", n(1), x.ref("v", "f32"))],
      { buffers: [read("a"), write("o")] },
    ); // prettier-ignore
    const o2 = new Float32Array(2);
    interpret(simplify(k), { buffers: { a: Float32Array.from([1]), o: o2 }, scalars: {}, groups: 1 });
    expect([...o2]).toEqual([1, 9]);
  });
});

describe("unroll", () => {
  test("counters become constants, names stay apart", () => {
    const body: Stmt[] = [
      x.let_("t", x.mul(x.ref("i"), x.ref("j"))),
      x.store("o", x.add(x.mul(x.ref("i"), x.i32(3)), x.ref("j")), x.float(x.ref("t"))),
    ];
    const inner: Stmt = { s: "for", name: "j", from: x.i32(0), to: x.i32(3), step: 1, unroll: true, body };
    const k = kernel(
      [{ s: "for", name: "i", from: x.i32(0), to: x.i32(2), step: 1, unroll: true, body: [inner] }],
      {
        buffers: [write("o")],
      },
    );
    const u = unroll(k);
    expect(u.body.length).toBe(12);
    expect(new Set(u.body.flatMap((s) => (s.s === "let" ? s.name : []))).size).toBe(6);
    expect(verifyKernel(u)).toEqual([]);
  });
  test("bounds that are not constants are our bug", () => {
    const k = kernel([{ s: "for", name: "i", from: x.i32(0), to: x.group, step: 1, unroll: true, body: [] }]);
    expect(() => unroll(k)).toThrow("heddle: internal: kernel 'test' unrolls 'i'");
  });
});
