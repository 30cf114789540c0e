import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { distribute } from "../../codegen/distribute.ts";
import { simd } from "../../codegen/machine/simd.ts";
import * as x from "../../src/expr.ts";
import { interpret } from "../../src/interpret.ts";
import type { Buffer, Element, Expr, Rows, Stmt, Tile, TileDecl, TileKernel } from "../../src/kernel.ts";
import { verified } from "../../src/verify.ts";
import { direct } from "./direct.ts";

const { i32, f32, at, row, col } = x;
type Value = Expr<Element>;

const input = (name: string): Buffer => ({ name, dtype: "f32", access: "read" });
const output = (name: string): Buffer => ({ name, dtype: "f32", access: "write" });
const tile = (name: string, rows: number, cols: number): TileDecl => ({ name, rows, cols });

function kernelOf(
  tiles: readonly TileDecl[],
  body: readonly Stmt<Tile>[],
  more: Partial<TileKernel> = {},
): TileKernel {
  return {
    name: "trial",
    buffers: [input("x"), input("y"), { name: "ids", dtype: "i32", access: "read" }, output("o")],
    scalars: [{ name: "count", type: "i32" }],
    tables: [
      { name: "table", type: "f32", values: Array.from({ length: 64 }, (_, i) => Math.fround(Math.sin(i))) },
    ],
    shared: [],
    workgroup: 1,
    tiles,
    body,
    ...more,
  };
}

const rowsAt = (
  buffer: string,
  cols: number,
  more: { base?: number; stride?: number; count?: number | "count"; gather?: number } = {},
): Rows => ({
  buffer,
  base: i32(more.base ?? 0),
  stride: i32(more.stride ?? cols),
  count: more.count === "count" ? x.ref("count") : i32(more.count ?? 1 << 20),
  cols,
  ...(more.gather === undefined ? {} : { gather: { buffer: "ids", base: i32(more.gather) } }),
});
const copy = (to: string, rows: Rows, scale?: number): Tile => ({
  s: "copy",
  tile: to,
  rows,
  ...(scale === undefined ? {} : { scale: f32(scale) }),
});
const write = (from: string, rows: Rows, value?: Value): Tile => ({
  s: "write",
  tile: from,
  rows,
  ...(value === undefined ? {} : { value }),
});
const fill = (to: string, value: number): Tile => ({ s: "fill", tile: to, value: f32(value) });
const map = (to: string, value: Value): Tile => ({ s: "map", tile: to, value });
const mma = (acc: string, a: string, b: string, transposed = false): Tile => ({
  s: "mma",
  acc,
  a,
  b,
  transposed,
});
const reduce = (into: string, from: string, how: "add" | "max"): Tile => ({
  s: "reduce",
  into,
  from,
  op: how,
});

/** Numbers of no pattern; the same for the same seed. */
function noise(length: number, seed: number): Float32Array {
  let state = seed * 2654435761 + 12345;
  return Float32Array.from({ length }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) | 0;
    return (state >>> 8) / (1 << 23) - 1;
  });
}

/** Runs a kernel on the machine and directly; outputs must agree, elements nobody writes must stay. */
function agree(
  kernel: TileKernel,
  sizes: { readonly x: number; readonly y?: number; readonly o: number },
  options: { readonly count?: number; readonly ids?: readonly number[]; readonly tolerance?: number } = {},
): void {
  const memory = () => ({
    x: noise(sizes.x, 1),
    y: noise(sizes.y ?? 1, 2),
    ids: Int32Array.from(options.ids ?? [0]),
    o: new Float32Array(sizes.o).fill(NaN),
  });
  const scalars = { count: options.count ?? 0 };
  const expected = memory();
  direct(kernel, expected, scalars, 1);
  const actual = memory();
  interpret(verified(distribute(simd)(kernel)), { buffers: actual, scalars, groups: 1 });
  const tolerance = options.tolerance ?? 1e-5;
  for (let i = 0; i < sizes.o; i++) {
    const [a, e] = [actual.o[i] ?? NaN, expected.o[i] ?? NaN];
    if (Number.isNaN(e) ? !Number.isNaN(a) : !(Math.abs(a - e) <= tolerance * Math.max(1, Math.abs(e))))
      throw new Error(`o[${i}] is ${a}, not ${e}`);
  }
}

const RAGGED = [1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 33];
const size = fc.integer({ min: 1, max: 21 });

describe("copy and write", () => {
  it("move rows of any width and count, and touch nothing else", () => {
    fc.assert(
      fc.property(
        size,
        size,
        size,
        fc.integer({ min: 0, max: 24 }),
        fc.boolean(),
        (rows, cols, wide, count, dynamic) => {
          const width = Math.min(wide, cols);
          const n = Math.min(rows, count);
          const stride = width + 3;
          const from = rowsAt("x", width, { base: 2, stride, count: dynamic ? "count" : count });
          const to = rowsAt("o", cols, { base: 1, stride: cols + 2 });
          const kernel = kernelOf([tile("t", rows, cols)], [copy("t", from, 0.5), write("t", to)]);
          agree(kernel, { x: 2 + Math.max(0, n - 1) * stride + width, o: 1 + rows * (cols + 2) }, { count });
        },
      ),
    );
  });

  it("follow a list of rows, both ways", () => {
    fc.assert(
      fc.property(
        size,
        fc.integer({ min: 1, max: 10 }),
        fc.integer({ min: 0, max: 10 }),
        (cols, rows, count) => {
          const ids = [99, ...Array.from({ length: rows }, (_, i) => (i * 7) % 11)];
          const kernel = kernelOf(
            [tile("t", rows, cols)],
            [
              copy("t", rowsAt("x", cols, { count: "count", gather: 1 })),
              write("t", rowsAt("o", cols, { count: "count", gather: 1, base: 3 })),
            ],
          );
          agree(kernel, { x: 11 * cols, o: 11 * cols + 3 }, { count, ids });
        },
      ),
    );
  });

  it("move column vectors, contiguous or strided", () => {
    for (const rows of RAGGED)
      for (const stride of [1, 3])
        for (const count of [0, rows - 1, rows]) {
          const kernel = kernelOf(
            [tile("t", rows, 1)],
            [
              copy("t", rowsAt("x", 1, { stride, count: "count", base: 1 })),
              write("t", rowsAt("o", 1, { stride }), x.add<Element>(at("t"), x.float<Element>(row))),
            ],
          );
          agree(kernel, { x: 1 + rows * stride, o: rows * stride }, { count });
        }
  });
});

describe("mma", () => {
  it("multiplies tiles of any size, plain and transposed, ragged and scaled", () => {
    fc.assert(
      fc.property(
        size,
        size,
        size,
        fc.boolean(),
        fc.integer({ min: 0, max: 21 }),
        (m, n, k, transposed, count) => {
          const b = transposed ? tile("b", n, k) : tile("b", k, n);
          const kernel = kernelOf(
            [tile("a", m, k), b, tile("c", m, n)],
            [
              copy("a", rowsAt("x", k, { count: "count" }), 0.25),
              copy("b", rowsAt("y", b.cols, { count: "count" })),
              fill("c", 1),
              mma("c", "a", "b", transposed),
              mma("c", "a", "b", transposed),
              write("c", rowsAt("o", n)),
            ],
          );
          agree(kernel, { x: m * k, y: n * k, o: m * n }, { count });
        },
      ),
      { numRuns: 100 },
    );
  });

  it("reads weight panels at a first row and column", () => {
    fc.assert(
      fc.property(
        size,
        size,
        fc.integer({ min: 0, max: 3 }),
        fc.integer({ min: 0, max: 5 }),
        (n, k, panel, first) => {
          const depth = first + k + 1;
          const panels = panel + Math.ceil(n / 8);
          const kernel = kernelOf(
            [tile("a", 6, k), tile("c", 6, n)],
            [
              copy("a", rowsAt("x", k)),
              fill("c", 0),
              {
                s: "mma",
                acc: "c",
                a: "a",
                b: { buffer: "y", base: i32(5), depth, row: i32(first), col: i32(panel * 8) },
              },
              write("c", rowsAt("o", n)),
            ],
          );
          agree(kernel, { x: 6 * k, y: 5 + panels * depth * 8, o: 6 * n });
        },
      ),
    );
  });

  it("multiplies by a tile that was mapped, and by a product of its own", () => {
    fc.assert(
      fc.property(size, size, size, size, (q, keys, d, e) => {
        // The shape of attention: S = Q Kᵀ, P = f(S), O += P V, with both tiles of keys changed in place.
        const kernel = kernelOf(
          [tile("q", q, d), tile("k", keys, d), tile("v", keys, e), tile("s", q, keys), tile("o_", q, e)],
          [
            copy("q", rowsAt("x", d)),
            copy("k", rowsAt("y", d, { count: "count" })),
            copy("v", rowsAt("y", e, { base: 1 })),
            map("q", x.mul<Element>(at("q"), f32(0.5))),
            map("k", x.add<Element>(at("k"), x.float<Element>(x.add<Element>(row, col)))),
            map("v", x.sub<Element>(at("v"), x.float<Element>(row))),
            fill("s", 0),
            mma("s", "q", "k", true),
            map("s", x.exp2<Element>(x.mul<Element>(at("s"), f32(0.01)))),
            fill("o_", 0),
            mma("o_", "s", "v"),
            write("o_", rowsAt("o", e)),
          ],
        );
        agree(
          kernel,
          { x: q * d, y: keys * Math.max(d, e) + 1, o: q * e },
          { count: keys - 1, tolerance: 1e-4 },
        );
      }),
      { numRuns: 60 },
    );
  });
});

describe("names and rows", () => {
  it("lets a tile be called like a buffer", () => {
    const kernel = kernelOf(
      [tile("x", 5, 7), tile("o", 5, 1)],
      [
        copy("x", rowsAt("x", 7)),
        fill("o", 0),
        reduce("o", "x", "add"),
        map("x", x.sub<Element>(at("x"), at("o"))),
        write("x", rowsAt("o", 7)),
      ],
    );
    agree(kernel, { x: 35, o: 35 });
  });

  it("multiplies what the last copy left, in loops and branches", () => {
    // The left operand has more rows first, then fewer, then more again: no row may be forgotten or kept.
    for (const count of [0, 1, 4, 5, 9]) {
      const step = (n: number, base: number): readonly Stmt<Tile>[] => [
        copy("a", rowsAt("x", 6, { count: n, base })),
        mma("c", "a", "b"),
      ];
      const kernel = kernelOf(
        [tile("a", 9, 6), tile("b", 6, 5), tile("c", 9, 5)],
        [
          copy("b", rowsAt("y", 5)),
          fill("c", 0),
          copy("a", rowsAt("x", 6, { count: "count" })),
          {
            s: "for",
            name: "t",
            from: i32(0),
            to: i32(2),
            step: 1,
            body: [mma("c", "a", "b"), ...step(3, 6)],
          },
          // oxlint-disable-next-line unicorn/no-thenable
          { s: "if", cond: x.gt(x.ref("count"), i32(3)), then: step(9, 0), else: step(2, 1) },
          write("c", rowsAt("o", 5)),
        ],
      );
      agree(kernel, { x: 54, y: 30, o: 45 }, { count });
    }
  });

  it("refuses a right operand that is used in another way", () => {
    const tiles = [tile("a", 4, 8), tile("b", 8, 8), tile("c", 4, 8), tile("v", 8, 1)];
    const bad: readonly (readonly Tile[])[] = [
      [mma("c", "a", "b"), mma("c", "a", "b", true)],
      [mma("c", "a", "b"), mma("b", "b", "b")],
      [mma("c", "a", "b", true), reduce("v", "b", "add")],
      [mma("c", "a", "v")],
    ];
    for (const body of bad)
      expect(() => distribute(simd)(kernelOf(tiles, body))).toThrow(/heddle: internal: simd/);
  });
});

/** Values of every kind: f32 over tiles t [rows, cols], c [rows, 1], r [1, cols], tables, buffers and indices. */
const value = fc.letrec<{ f: Value; i: Value; b: Value }>((tie) => ({
  f: fc.oneof(
    { maxDepth: 3 },
    fc.constantFrom<Value>(at("t"), at("u"), at("c"), at("r"), at("one"), f32(0.5), f32(-2)),
    tie("i").map((i) => x.float<Element>(i)),
    fc
      .tuple(fc.constantFrom(x.add, x.sub, x.mul, x.min, x.max), tie("f"), tie("f"))
      .map(([f, a, b]) => f<Element>(a, b)),
    fc.tuple(tie("b"), tie("f"), tie("f")).map(([c, a, b]) => x.select<Element>(c, a, b)),
    tie("f").map((a) => x.madd<Element>(a, a, f32(1))),
    tie("f").map((a) => x.abs<Element>(a)),
    tie("i").map((i) => x.load<Element>("table", x.op<Element>("and", [i, i32(63)]))),
    fc
      .tuple(fc.nat({ max: 5 }), fc.nat({ max: 3 }), fc.nat({ max: 9 }))
      .map(([a, b, c]) =>
        x.load<Element>(
          "y",
          x.add<Element>(x.add<Element>(x.mul<Element>(col, i32(b)), i32(c)), x.mul<Element>(row, i32(a))),
        ),
      ),
  ),
  i: fc.oneof(
    { maxDepth: 2 },
    fc.constantFrom<Value>(row, col, i32(3), x.ref("count")),
    fc
      .tuple(fc.constantFrom(x.add, x.sub, x.mul, x.min, x.max), tie("i"), tie("i"))
      .map(([f, a, b]) => f<Element>(a, b)),
    fc
      .tuple(fc.constantFrom(1, 2, 3, 4, 6, 8), fc.boolean())
      .map(([n, d]) => (d ? x.div<Element> : x.rem<Element>)(col, i32(n))),
    fc
      .tuple(fc.constantFrom(1, 2, 3), fc.boolean())
      .map(([n, d]) => (d ? x.div<Element> : x.rem<Element>)(row, i32(n))),
    fc.constantFrom(1, 2, 3).map((n) => x.op<Element>("and", [col, i32(n)])),
  ),
  b: fc.oneof(
    { maxDepth: 1 },
    fc
      .tuple(fc.constantFrom(x.eq, x.ne, x.lt, x.le, x.gt, x.ge), tie("i"), tie("i"))
      .map(([f, a, b]) => f<Element>(a, b)),
    fc.tuple(fc.constantFrom(x.lt, x.ge), tie("f"), tie("f")).map(([f, a, b]) => f<Element>(a, b)),
    fc.tuple(fc.constantFrom(x.and, x.or), tie("b"), tie("b")).map(([f, a, b]) => f<Element>(a, b)),
    tie("b").map((b) => x.not<Element>(b)),
  ),
}));

describe("map and write values", () => {
  // A product of accumulators makes `u` wider than `t` would be alone.
  const program = (rows: number, cols: number, v: Value, target: "t" | "c" | "r" | "k"): TileKernel =>
    kernelOf(
      [
        tile("t", rows, cols),
        tile("u", rows, cols),
        tile("k", rows, cols),
        tile("c", rows, 1),
        tile("r", 1, cols),
        tile("one", 1, 1),
        tile("z", 2, cols),
        tile("w", 2, rows),
      ],
      [
        copy("t", rowsAt("x", cols)),
        copy("u", rowsAt("x", cols, { base: 1 })),
        copy("k", rowsAt("x", cols, { base: 2 })),
        copy("c", rowsAt("x", 1, { base: 3 })),
        copy("r", rowsAt("x", cols, { base: 4 })),
        fill("one", 2),
        // Makes k a transposed right operand, so that lanes must run along its rows.
        copy("z", rowsAt("x", cols)),
        fill("w", 0),
        mma("w", "z", "k", true),
        map(target, v),
        write(target, rowsAt("o", target === "c" ? 1 : cols)),
      ],
    );
  const sizes = (rows: number, cols: number) => ({ x: rows * cols + 64, y: 400, o: rows * cols });

  it("give every element its own value", () => {
    fc.assert(
      fc.property(
        size,
        size,
        value.f,
        fc.constantFrom("t" as const, "k" as const),
        (rows, cols, v, target) => {
          agree(program(rows, cols, v, target), sizes(rows, cols), { count: 5 });
        },
      ),
      { numRuns: 100 },
    );
  });

  it("do so in column and row vectors", () => {
    const narrow = (v: Value, other: string): Value => {
      const keep = (e: Value): Value => {
        if (e.e === "at") return [other, "one"].includes(e.tile) ? e : at(other);
        if (e.e === "op") return { ...e, args: e.args.map(keep) };
        if (e.e === "load") return { ...e, index: keep(e.index) };
        return e;
      };
      return keep(v);
    };
    fc.assert(
      fc.property(size, value.f, fc.constantFrom("c" as const, "r" as const), (n, v, target) => {
        const [rows, cols] = target === "c" ? [n, 5] : [3, n];
        agree(program(rows, cols, narrow(v, target), target), sizes(rows, cols), { count: 5 });
      }),
      { numRuns: 100 },
    );
  });

  it("write values of any kind into columns of any number", () => {
    fc.assert(
      fc.property(size, size, value.f, fc.nat({ max: 22 }), (rows, cols, v, count) => {
        const { tiles, body } = program(rows, cols, v, "t");
        const kernel = kernelOf(tiles, [
          ...body.slice(0, -2),
          write("t", rowsAt("o", cols, { count: "count" }), v),
        ]);
        agree(kernel, sizes(rows, cols), { count });
      }),
      { numRuns: 100 },
    );
  });

  it("reach the other columns of a pair", () => {
    for (const cols of [2, 4, 6, 10, 24, 64])
      for (const target of ["t", "k"] as const) {
        const sign = x.select<Element>(
          x.eq<Element>(x.op<Element>("and", [col, i32(1)]), i32(0)),
          f32(-1),
          f32(1),
        );
        const v = x.madd<Element>(
          at(target),
          at("u", "even"),
          x.mul<Element>(x.mul<Element>(at(target, "flip"), at("u", "odd")), sign),
        );
        agree(program(5, cols, v, target), sizes(5, cols));
      }
  });

  it("read backwards, and by differences of indices", () => {
    for (const cols of [4, 6, 16])
      for (const index of [
        x.sub<Element>(i32(40), col),
        x.sub<Element>(x.add<Element>(col, i32(9)), row),
        x.mul<Element>(i32(3), x.sub<Element>(col, row)),
      ]) {
        for (const place of [x.add<Element>(index, i32(20)), x.max<Element>(index, i32(0))])
          agree(program(5, cols, x.load<Element>("y", place), "t"), sizes(5, cols));
      }
  });

  it("read nothing for rows that do not exist", () => {
    const beyond = x.add<Element>(at("t"), x.load<Element>("y", i32(100_000)));
    const kernel = kernelOf(
      [tile("t", 4, 8)],
      [copy("t", rowsAt("x", 8)), write("t", rowsAt("o", 8, { count: "count" }), beyond)],
    );
    agree(kernel, { x: 32, o: 32 }, { count: 0 });
  });

  it("compute what does not depend on the column once per row, and constants once", () => {
    const v = x.mul<Element>(at("t"), x.exp2<Element>(at("c")));
    const kernel = distribute(simd)(program(8, 64, v, "t"));
    const depthOf = (body: readonly Stmt[], depth: number): readonly number[] =>
      body.flatMap((s) => {
        if (s.s === "for") return depthOf(s.body, depth + 1);
        return JSON.stringify(s).includes('"exp2"') ? [depth] : [];
      });
    expect(depthOf(kernel.body, 0)).toEqual([1]);
  });
});

describe("reduce", () => {
  it("adds and finds the largest over any number of columns", () => {
    fc.assert(
      fc.property(
        size,
        fc.oneof(size, fc.constantFrom(31, 32, 33, 64, 67, 101, 132)),
        fc.constantFrom("add" as const, "max" as const),
        fc.boolean(),
        (rows, cols, how, wide) => {
          const kernel = kernelOf(
            [tile("t", rows, cols), tile("c", rows, 1), tile("z", rows, 3), tile("b", 3, cols)],
            [
              copy("t", rowsAt("x", cols)),
              // As accumulator of a product the tile has padding, which must not be seen.
              copy("z", rowsAt("x", 3)),
              copy("b", rowsAt("x", cols)),
              ...(wide ? [mma("t", "z", "b")] : []),
              fill("c", how === "add" ? 1 : -1e30),
              map("t", x.sub<Element>(at("t"), f32(10))),
              reduce("c", "t", how),
              write("c", rowsAt("o", 1)),
            ],
          );
          agree(kernel, { x: Math.max(rows, 3) * cols + rows * 3, o: rows }, { tolerance: 1e-4 });
        },
      ),
      { numRuns: 100 },
    );
  });
});
