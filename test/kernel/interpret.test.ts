import { describe, expect, test } from "vitest";
import fc from "fast-check";
import * as x from "../../src/expr.ts";
import { interpret, isInterpretError, scriptOf } from "../../src/interpret.ts";
import type { FailureKind, InterpretError, Launch } from "../../src/interpret.ts";
import type { Expr, Kernel, Op, Stmt } from "../../src/kernel.ts";
import { apply, barrier, both, evaluate, kernel, loop, read, when, write } from "./kernels.ts";

const { i32, f32, ref, load, store, let_, var_, set, add, mul, op } = x;

function error(k: Kernel, launch: Partial<Launch> = {}): InterpretError {
  try {
    interpret(k, { buffers: {}, scalars: {}, groups: 1, ...launch });
  } catch (e) {
    if (isInterpretError(e)) return e;
    throw e;
  }
  throw new Error("nothing was refused");
}
const floats = (...values: number[]) => Float32Array.from(values);
const shared = (length: number, type: "f32" | "i32" = "f32") => [{ name: "S", type, length }];

describe("every operation", () => {
  const cases: {
    readonly [O in Op]?: readonly (readonly [type: "f32" | "i32", args: number[], result: number])[];
  } = {
    add: [
      ["f32", [0.1, 0.2], Math.fround(Math.fround(0.1) + Math.fround(0.2))],
      ["i32", [2 ** 31 - 1, 1], -(2 ** 31)],
    ],
    sub: [
      ["f32", [1, 1e-9], 1],
      ["i32", [-(2 ** 31), 1], 2 ** 31 - 1],
    ],
    mul: [
      ["f32", [3e38, 10], Infinity],
      ["i32", [65537, 65537], 131073],
    ],
    div: [
      ["f32", [1, 3], Math.fround(1 / 3)],
      ["i32", [7, 2], 3],
    ],
    rem: [["i32", [7, 4], 3]],
    min: [
      ["f32", [-1, 2], -1],
      ["i32", [3, -4], -4],
    ],
    max: [
      ["f32", [-1, 2], 2],
      ["i32", [3, -4], 3],
    ],
    neg: [
      ["f32", [2.5], -2.5],
      ["i32", [-(2 ** 31)], -(2 ** 31)],
    ],
    abs: [["f32", [-2.5], 2.5]],
    sqrt: [["f32", [2], Math.fround(Math.sqrt(2))]],
    floor: [["f32", [-1.5], -2]],
    round: [
      ["f32", [2.5], 2],
      ["f32", [3.5], 4],
      ["f32", [-2.5], -2],
      ["f32", [-0.3], -0],
      ["f32", [16777217], 16777216],
    ],
    // The product is rounded before the addition: 0.1·10 is 1 in f32, though 1.0000000149 exactly.
    madd: [["f32", [0.1, 10, -1], 0]],
    exp2: [
      ["f32", [-1e30], 0],
      ["f32", [0.5], Math.fround(Math.SQRT2)],
    ],
    log2: [["f32", [8], 3]],
    and: [["i32", [12, 10], 8]],
    or: [["i32", [12, 10], 14]],
    xor: [["i32", [12, 10], 6]],
    shl: [["i32", [1, 31], -(2 ** 31)]],
    shr: [["i32", [-8, 1], -4]],
  };
  for (const [name, rows] of Object.entries(cases))
    for (const [type, args, want] of rows ?? [])
      test(`${name} ${type} ${args.join(" ")}`, () =>
        expect(evaluate(type, apply(name as Op, type, ...args))).toBe(want));

  test("comparisons and logic", () => {
    const pick = (c: Expr) => evaluate("i32", x.select(c, i32(1), i32(0)));
    const table: readonly (readonly [Op, boolean, boolean, boolean])[] = [
      ["eq", false, true, false], ["ne", true, false, true], ["lt", true, false, false],
      ["le", true, true, false], ["gt", false, false, true], ["ge", false, true, true],
    ]; // prettier-ignore
    for (const [name, less, same, more] of table)
      for (const type of ["i32", "f32"] as const)
        expect([1, 2, 3].map((a) => pick(apply(name, type, a, 2)))).toEqual([less, same, more].map(Number));
    for (const a of [true, false]) {
      expect(pick(x.not(x.bool(a)))).toBe(Number(!a));
      for (const b of [true, false]) {
        expect(pick(x.and(x.bool(a), x.bool(b)))).toBe(Number(a && b));
        expect(pick(x.or(x.bool(a), x.bool(b)))).toBe(Number(a || b));
        expect(pick(op("xor", [x.bool(a), x.bool(b)]))).toBe(Number(a !== b));
      }
    }
  });

  test("conversions", () => {
    expect(evaluate("f32", x.float(i32(16777217)))).toBe(16777216);
    expect(evaluate("i32", op("int", [f32(-2.75)]))).toBe(-2);
    expect(evaluate("i32", op("bits", [f32(1)]))).toBe(0x3f800000);
    expect(evaluate("f32", op("unbits", [i32(0x40490fdb)]))).toBe(Math.fround(Math.PI));
  });

  test("vectors", () => {
    const v = load("a", i32(1), "f32x4");
    const k = (value: Expr) => {
      const vector = value.type === "f32x4";
      const o = new Float32Array(vector ? 4 : 1);
      interpret(kernel([store("o", i32(0), value)], { buffers: [read("a"), write("o")] }), {
        buffers: { a: floats(9, 1, 2, 3, 4), o },
        scalars: {},
        groups: 1,
      });
      return [...o];
    };
    expect(k(v)).toEqual([1, 2, 3, 4]);
    expect(k(add(v, x.splat(f32(10))))).toEqual([11, 12, 13, 14]);
    expect(k(op("shuffle", [v, x.neg(v)], [3, 4, 0, 7]))).toEqual([4, -1, 1, -4]);
    expect(k(op("lane", [v], [2]))).toEqual([3]);
    expect(k(op("sum", [v]))).toEqual([10]);
    expect(k(op("most", [x.neg(v)]))).toEqual([-1]);
    expect(k(x.float(op("iota", [i32(5)])))).toEqual([5, 6, 7, 8]);
    expect(k(x.select(x.lt(v, x.splat(f32(2.5))), v, x.splat(f32(0))))).toEqual([1, 2, 0, 0]);
    expect(k(x.select(x.bool(true), v, x.splat(f32(0))))).toEqual([1, 2, 3, 4]);
  });
});

describe("statements", () => {
  test("loops, ifs, variables: a prefix sum of even rows", () => {
    const k = kernel(
      [
        var_("t", f32(0)),
        loop("i", 0, ref("n"), [
          when(
            x.eq(x.rem(ref("i"), i32(2)), i32(0)),
            [set("t", add(ref("t", "f32"), load("a", ref("i"))))],
            [{ s: "comment", text: "odd rows repeat" }],
          ),
          store("o", add(mul(x.group, ref("n")), ref("i")), ref("t", "f32")),
        ]),
      ],
      { buffers: [read("a"), write("o")], scalars: [{ name: "n", type: "i32" }] },
    );
    const o = new Float32Array(10);
    interpret(k, { buffers: { a: floats(1, 2, 3, 4, 5), o }, scalars: { n: 5 }, groups: 2 });
    expect([...o]).toEqual([1, 1, 4, 4, 9, 1, 1, 4, 4, 9]);
  });

  test("a range runs its groups only", () => {
    const k = kernel([store("o", x.group, f32(1))], { buffers: [write("o")] });
    const o = new Float32Array(5);
    interpret(k, { buffers: { o }, scalars: {}, groups: 5, range: [1, 3] });
    expect([...o]).toEqual([0, 1, 1, 0, 0]);
  });

  test("a vector variable may be shuffled into itself", () => {
    const v = ref("v", "f32x4");
    const k = kernel(
      [
        var_("v", load("a", i32(0), "f32x4")),
        set("v", op("shuffle", [v, v], [3, 2, 1, 0])),
        store("o", i32(0), v),
      ],
      { buffers: [read("a"), write("o")] },
    );
    const o = new Float32Array(4);
    interpret(k, { buffers: { a: floats(1, 2, 3, 4), o }, scalars: {}, groups: 1 });
    expect([...o]).toEqual([4, 3, 2, 1]);
  });

  test("a let keeps the value its variable had", () => {
    const k = kernel(
      [var_("v", i32(1)), let_("before", ref("v")), set("v", i32(2)), store("o", i32(0), ref("before"))],
      { buffers: [write("o", "i32")] },
    );
    const o = new Int32Array(1);
    interpret(k, { buffers: { o }, scalars: {}, groups: 1 });
    expect(o[0]).toBe(1);
  });

  test("lanes work together across barriers", () => {
    // Each lane stores, then the sum of all lanes is taken by a tree; everything is uniform.
    const W = 8;
    const S = (i: Expr) => load("S", i);
    const k = kernel(
      [
        store("S", x.laneId, x.float(add(x.laneId, i32(1)))),
        barrier,
        var_("w", i32(W / 2)),
        loop("round", 0, 3, [
          when(x.lt(x.laneId, ref("w")), [
            store("S", x.laneId, add(S(x.laneId), S(add(x.laneId, ref("w"))))),
          ]),
          barrier,
          set("w", x.div(ref("w"), i32(2))),
        ]),
        let_("total", S(i32(0))),
        store("o", add(mul(x.group, i32(W)), x.laneId), ref("total", "f32")),
      ],
      { buffers: [write("o")], shared: shared(W), workgroup: W },
    );
    const o = new Float32Array(2 * W);
    interpret(k, { buffers: { o }, scalars: {}, groups: 2 });
    expect([...o]).toEqual(Array.from({ length: 2 * W }, () => 36));
  });

  test("a barrier inside an if that all lanes take", () => {
    const k = kernel(
      [
        var_("b", x.bool(true)),
        when(x.gt(ref("n"), i32(0)), [
          store("S", x.laneId, x.float(x.laneId)),
          barrier,
          set("b", x.bool(false)),
        ]),
        when(x.not(ref("b", "bool")), [store("o", x.laneId, load("S", x.sub(i32(3), x.laneId)))]),
      ],
      { buffers: [write("o")], shared: shared(4), workgroup: 4, scalars: [{ name: "n", type: "i32" }] },
    );
    const o = new Float32Array(4);
    interpret(k, { buffers: { o }, scalars: { n: 1 }, groups: 1 });
    expect([...o]).toEqual([3, 2, 1, 0]);
  });

  test("long loops move into functions without changing a bit", () => {
    // 400 statements in a nested loop, with outer variables of every type that change inside.
    const many: Stmt[] = [];
    for (let i = 0; i < 400; i++)
      many.push(set("t", x.madd(ref("t", "f32"), f32(0.999), load("a", i32(i % 7)))));
    const k = kernel(
      [
        var_("t", f32(0)), var_("n", i32(0)), var_("odd", x.bool(false)),
        loop("i", 0, 5, [...many, set("n", add(ref("n"), i32(1))), set("odd", x.not(ref("odd", "bool")))]),
        store("o", i32(0), ref("t", "f32")),
        store("o", i32(1), x.float(ref("n"))),
        store("o", i32(2), x.select(ref("odd", "bool"), f32(1), f32(0))),
      ],
      { buffers: [read("a"), write("o")] },
    ); // prettier-ignore
    expect(scriptOf(k)).toContain("function part_");
    const a = floats(1, -2, 3, 0.1, 0.7, -4, 2);
    const o = new Float32Array(3);
    interpret(k, { buffers: { a, o }, scalars: {}, groups: 1 });
    let t = 0;
    for (let i = 0; i < 2000; i++) t = Math.fround(Math.fround(t * Math.fround(0.999)) + a[(i % 400) % 7]!);
    expect([...o]).toEqual([t, 5, 1]);
  });

  test("stores round to the storage type, ties to even", () => {
    const k = (dtype: "f16" | "bf16") =>
      kernel([loop("i", 0, ref("n"), [store("o", ref("i"), load("a", ref("i")))])], {
        buffers: [read("a"), write("o", dtype)],
        scalars: [{ name: "n", type: "i32" }],
      });
    const run = (dtype: "f16" | "bf16", ...values: number[]) => {
      const o = new Float32Array(values.length);
      interpret(k(dtype), { buffers: { a: floats(...values), o }, scalars: { n: values.length }, groups: 1 });
      return [...o];
    };
    expect(run("f16", 2049, 2051, 65519, 65520, -65520, 2 ** -24, 2 ** -25, 3 * 2 ** -25, -1e-9)).toEqual([
      2048,
      2052,
      65504,
      Infinity,
      -Infinity,
      2 ** -24,
      0,
      2 ** -23,
      -0,
    ]);
    expect(run("bf16", 257, 259, -257, 1e-40, 3.4e38)).toEqual([256, 260, -256, 2 ** -133, Infinity]);
  });

  test("a launch runs more than 30 million operations a second", () => {
    const k = kernel(
      [var_("t", f32(0)), loop("i", 0, 20_000_000, [set("t", x.madd(ref("t", "f32"), f32(0.5), load("S", x.op("and", [ref("i"), i32(7)]))))]), store("o", i32(0), ref("t", "f32"))],
      { buffers: [read("S"), write("o")] },
    ); // prettier-ignore
    const start = performance.now();
    interpret(k, {
      buffers: { S: new Float32Array(8).fill(1), o: new Float32Array(1) },
      scalars: {},
      groups: 1,
    });
    // Three operations an iteration; some 300 million a second when the machine is ours alone.
    expect((3 * 20e6) / ((performance.now() - start) / 1000)).toBeGreaterThan(30e6);
  });
});

describe("every broken promise is an error with its place", () => {
  const one = (
    kind: FailureKind,
    body: readonly Stmt[],
    rest: Partial<Kernel> = {},
    launch: Partial<Launch> = {},
  ) => {
    const e = error(kernel(body, rest), launch);
    expect(e.kind).toBe(kind);
    expect(e.name).toBe("InterpretError");
    expect(e.kernel).toBe("test");
    return e;
  };
  const o4 = () => ({ buffers: { o: new Float32Array(4) } });

  test("bounds: below, above, and the tail of a vector", () => {
    const a = { buffers: [read("a"), write("o")] };
    const given = () => ({ buffers: { a: new Float32Array(6), o: new Float32Array(4) } });
    for (const [i, type] of [
      [-1, "f32"],
      [6, "f32"],
      [3, "f32x4"],
      [-1, "f32x4"],
    ] as const) {
      const e = one("bounds", [when(x.bool(true), [let_("t", load("a", i32(i), type))])], a, given());
      expect(e.path).toBe("body[0] if › [0] let t");
      expect(e.values).toEqual([i, 6]);
    }
    for (const [i, value] of [
      [4, f32(1)],
      [-1, f32(1)],
      [1, x.splat(f32(1))],
    ] as const)
      one("bounds", [store("o", i32(i), value)], a, given());
    one("bounds", [let_("t", load("T", i32(2), "i32"))], {
      tables: [{ name: "T", type: "i32", values: [1, 2] }],
    });
    one("bounds", [store("S", i32(4), f32(1))], { shared: shared(4) });
    // Both sides of a select are evaluated.
    one("bounds", [let_("t", x.select(x.lt(i32(9), i32(6)), load("a", i32(9)), f32(0)))], a, given());
    // The last legal vector.
    interpret(kernel([let_("t", load("a", i32(2), "f32x4"))], a), { ...given(), scalars: {}, groups: 1 });
  });

  test("uninitialised: shared memory, also of the group before, and outputs", () => {
    const S = (type: "f32" | "i32" | "f32x4" = "f32") => let_("t", load("S", i32(0), type));
    expect(one("uninitialised", [S()], { shared: shared(4) }).message).toContain("'S' at 0");
    one("uninitialised", [S("i32")], { shared: shared(4, "i32") });
    const three = [0, 1, 2].map((i) => store("S", i32(i), f32(1)));
    one("uninitialised", [...three, S("f32x4")], { shared: shared(4) });
    for (const type of ["f32", "i32"] as const) {
      const k = [
        when(x.eq(x.group, i32(0)), [store("S", i32(0), type === "f32" ? f32(1) : i32(1))]),
        let_("t", load("S", i32(0), type)),
      ];
      expect(one("uninitialised", k, { shared: shared(4, type) }, { groups: 2 }).group).toBe(1);
    }
    for (const groups of [true, false])
      one(
        "uninitialised",
        [store("o", i32(0), f32(1)), let_("t", load("o", i32(1)))],
        { buffers: [write("o")] },
        { ...o4(), check: { groups } },
      );
    interpret(kernel([store("o", i32(0), f32(1)), let_("t", load("o", i32(0)))], { buffers: [write("o")] }), {
      ...o4(),
      scalars: {},
      groups: 1,
      check: { groups: false },
    });
  });

  test("nan: where it arises, and where it would be lost", () => {
    const zero = { scalars: [{ name: "z", type: "f32" as const }] };
    const given = { scalars: { z: 0 } };
    const nan = x.div(ref("z", "f32"), ref("z", "f32"));
    one("nan", [let_("t", nan)], zero, given);
    one("nan", [var_("t", f32(0)), set("t", nan)], zero, given);
    one("nan", [var_("t", x.neg(ref("z", "f32"))), set("t", x.add(ref("t", "f32"), nan))], zero, given);
    one("nan", [let_("t", op("shuffle", [x.splat(nan), x.splat(f32(0))], [4, 5, 6, 7]))], zero, given);
    one("nan", [let_("t", x.lt(nan, f32(0)))], zero, given);
    one("nan", [let_("t", op("int", [nan]))], zero, given);
    one("nan", [let_("t", op("bits", [nan]))], zero, given);
    one("nan", [let_("t", x.select(x.bool(false), nan, f32(0)))], zero, given);
    one(
      "nan",
      [let_("t", op("lane", [op("shuffle", [x.splat(f32(0)), x.splat(nan)], [0, 1, 2, 7])], [0]))],
      zero,
      given,
    );
    one("nan", [let_("t", op("unbits", [i32(0x7fc00000)]))]);
    one("nan", [let_("t", x.log2(f32(Infinity))), let_("u", x.sub(ref("t", "f32"), ref("t", "f32")))]);
    const e = one(
      "nan",
      [store("o", i32(0), load("a", i32(0)))],
      { buffers: [read("a"), write("o")] },
      { buffers: { a: floats(NaN), o: floats(0) } },
    );
    expect(e.message).toContain("NaN read from 'a'");
  });

  test("access: a buffer that is only read, a table", () => {
    one("access", [store("a", i32(0), f32(1))], { buffers: [read("a")] }, { buffers: { a: floats(0) } });
    one("access", [store("T", i32(0), f32(1))], { tables: [{ name: "T", type: "f32", values: [1] }] });
  });

  test("division and domain", () => {
    for (const [a, b] of [
      [-1, 2],
      [1, 0],
      [1, -1],
    ] as const)
      for (const name of ["div", "rem"] as const) one("division", [let_("t", apply(name, "i32", a, b))]);
    for (const by of [-1, 32])
      for (const name of ["shl", "shr"] as const) one("domain", [let_("t", apply(name, "i32", 1, by))]);
    for (const v of [2147483648, -2147483904]) one("domain", [let_("t", op("int", [f32(v)]))]);
    for (const v of [0, -1]) one("domain", [let_("t", x.log2(f32(v)))]);
  });

  const exchange = (middle: readonly Stmt[]) => [
    store("S", x.laneId, f32(1)),
    ...middle,
    let_("t", load("S", x.sub(i32(1), x.laneId))),
  ];
  const two = { shared: shared(4), workgroup: 2 };

  test("race: a missing barrier between two lanes", () => {
    // Without the barrier lane 0 reads what lane 1 has yet to write, which is not initialised either.
    const preset = [
      when(x.eq(x.laneId, i32(0)), [store("S", i32(0), f32(0)), store("S", i32(1), f32(0))]),
      barrier,
    ];
    const e = one("race", [...preset, ...exchange([])], two);
    expect(e.lane).toBe(1);
    interpret(kernel([...preset, ...exchange([barrier])], two), { buffers: {}, scalars: {}, groups: 3 });
  });

  test("race: write after read, write after write, many readers, i32, vectors", () => {
    const k = (...body: Stmt[]) => one("race", body, { ...two, workgroup: 3 });
    const first = [
      when(
        x.eq(x.laneId, i32(0)),
        [0, 1, 2, 3].map((i) => store("S", i32(i), f32(1))),
      ),
      barrier,
    ];
    k(store("S", i32(0), f32(1)));
    k(...first, when(x.eq(x.laneId, i32(0)), [let_("t", load("S", i32(3)))], [store("S", i32(3), f32(2))]));
    k(...first, when(x.lt(x.laneId, i32(2)), [let_("t", load("S", i32(3)))], [store("S", i32(3), f32(2))]));
    k(
      ...first,
      when(
        x.eq(x.laneId, i32(1)),
        [let_("t", load("S", i32(0), "f32x4"))],
        [store("S", add(x.laneId, i32(1)), f32(2))],
      ),
    );
    // No barrier is met between the two, though one is passed by.
    const idle = when(x.lt(x.group, i32(0)), [barrier]);
    k(
      ...first,
      let_("t", load("S", i32(0))),
      idle,
      when(x.eq(x.laneId, i32(0)), [store("S", i32(0), f32(2))]),
    );
    one("race", [store("S", i32(0), i32(1))], { shared: shared(1, "i32"), workgroup: 2 });
    // Reading together is fine, and so is writing in an epoch of one's own.
    interpret(
      kernel(
        [
          ...first,
          let_("t", load("S", i32(0))),
          barrier,
          when(x.eq(x.laneId, i32(2)), [store("S", i32(0), f32(2))]),
        ],
        { ...two, workgroup: 3 },
      ),
      { buffers: {}, scalars: {}, groups: 2 },
    );
  });

  test("race: a buffer, within a group and between groups", () => {
    const buffers = { buffers: [both("o")] };
    one("race", [store("o", i32(0), f32(1))], { ...buffers, workgroup: 2 }, o4());
    one("race", [store("o", i32(0), f32(1))], buffers, { ...o4(), groups: 2 });
    one(
      "race",
      [let_("t", load("o", i32(0))), when(x.eq(x.group, i32(1)), [store("o", i32(0), f32(1))])],
      buffers,
      { ...o4(), groups: 2 },
    );
    one(
      "race",
      [when(x.eq(x.group, i32(0)), [store("o", i32(0), f32(1))]), let_("t", load("o", i32(0)))],
      buffers,
      { ...o4(), groups: 2 },
    );
    interpret(kernel([store("o", i32(0), f32(1))], buffers), {
      ...o4(),
      scalars: {},
      groups: 2,
      check: { groups: false },
    });
  });

  test("uniform: lanes that disagree on the way to a barrier", () => {
    one("uniform", [when(x.eq(x.laneId, i32(0)), [barrier])], { workgroup: 2 });
    one("uniform", [loop("i", 0, x.laneId, [barrier])], { workgroup: 2 });
    one("uniform", [loop("i", 0, 2, [when(x.eq(x.laneId, ref("i")), [], [barrier])])], { workgroup: 2 });
  });

  test("argument: missing, misfit, unknown or overlapping", () => {
    const k = { buffers: [read("a"), write("o")], scalars: [{ name: "n", type: "i32" as const }] };
    const room = new Float32Array(8);
    const fine = { buffers: { a: floats(1), o: floats(1) }, scalars: { n: 1 } };
    one("argument", [], k, { ...fine, scalars: {} });
    one("argument", [], k, { ...fine, scalars: { n: 0.5 } });
    one("argument", [], k, { ...fine, scalars: { n: 1, m: 1 } });
    one("argument", [], k, { ...fine, buffers: { a: floats(1) } });
    one("argument", [], k, { ...fine, buffers: { a: floats(1), o: new Int32Array(1) } });
    one("argument", [], k, { ...fine, buffers: { a: room.subarray(0, 5), o: room.subarray(4) } });
    one("argument", [], k, { ...fine, groups: 2, range: [1, 3] });
    interpret(kernel([], k), {
      ...fine,
      groups: 1,
      buffers: { a: room.subarray(0, 4), o: room.subarray(4) },
    });
  });
});

test("random f32 expressions agree with fround arithmetic", () => {
  type Node = { readonly e: Expr; readonly v: number };
  const leaf = fc
    .double({ min: -100, max: 100, noNaN: true })
    .map((v): Node => ({ e: f32(v), v: Math.fround(v) }));
  const node = fc.letrec<{ n: Node }>((tie) => ({
    n: fc.oneof(
      { maxDepth: 5 },
      leaf,
      fc.tuple(tie("n"), tie("n")).map(([a, b]): Node => ({ e: add(a.e, b.e), v: Math.fround(a.v + b.v) })),
      fc
        .tuple(tie("n"), tie("n"))
        .map(([a, b]): Node => ({ e: op("mul", [a.e, b.e]), v: Math.fround(a.v * b.v) })),
      fc
        .tuple(tie("n"), tie("n"))
        .map(([a, b]): Node => ({ e: op("max", [a.e, b.e]), v: Math.max(a.v, b.v) })),
      tie("n").map((a): Node => ({ e: op("abs", [a.e]), v: Math.abs(a.v) })),
    ),
  })).n;
  fc.assert(
    fc.property(
      node.filter((n) => Number.isFinite(n.v)),
      (n) => {
        expect(evaluate("f32", n.e)).toBe(n.v);
      },
    ),
    { numRuns: 300 },
  );
});
