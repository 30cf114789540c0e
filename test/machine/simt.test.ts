import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { simt, simtSharedBytes } from "../../codegen/machine/simt.ts";
import * as x from "../../src/expr.ts";
import { interpret } from "../../src/interpret.ts";
import type { Buffer, Element, Expr, Rows, Stmt, Tile, TileDecl, TileKernel } from "../../src/kernel.ts";
import { direct } from "./direct.ts";
import { noise } from "./simt-attention.ts";

const { i32, f32, at, row, col } = x;
type Value = Expr<Element>;

const input = (name: string): Buffer => ({ name, dtype: "f32", access: "read" });
const tile = (name: string, rows: number, cols: number): TileDecl => ({ name, rows, cols });
const rowsAt = (
  buffer: string,
  cols: number,
  more: { base?: number; stride?: number; gather?: number; all?: boolean } = {},
): Rows => ({
  buffer,
  base: i32(more.base ?? 0),
  stride: i32(more.stride ?? cols),
  count: more.all === true ? i32(1 << 20) : x.ref("count"),
  cols,
  ...(more.gather === undefined ? {} : { gather: { buffer: "ids", base: i32(more.gather) } }),
});
const copy = (to: string, rows: Rows, scale?: number): Tile =>
  scale === undefined ? { s: "copy", tile: to, rows } : { s: "copy", tile: to, rows, scale: f32(scale) };
const write = (from: string, rows: Rows, value?: Value): Tile =>
  value === undefined ? { s: "write", tile: from, rows } : { s: "write", tile: from, rows, value };
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

const kernelOf = (tiles: readonly TileDecl[], body: readonly Stmt<Tile>[]): TileKernel => ({
  name: "trial",
  buffers: [
    input("x"),
    input("y"),
    { name: "ids", dtype: "i32", access: "read" },
    { name: "o", dtype: "f32", access: "write" },
    { name: "p", dtype: "f32", access: "write" },
  ],
  scalars: [{ name: "count", type: "i32" }],
  tables: [
    { name: "table", type: "f32", values: Array.from({ length: 64 }, (_, i) => Math.fround(Math.sin(i))) },
  ],
  shared: [],
  workgroup: 1,
  tiles,
  body,
});

/** Runs a kernel on the machine and directly; outputs must agree, elements nobody writes must stay. */
function agree(
  kernel: TileKernel,
  lanes: number,
  count: number,
  { tolerance = 1e-5, ids = [0], sizes = 600, before = NaN } = {},
): void {
  const memory = () => ({
    x: noise(sizes, 1),
    y: noise(sizes, 2),
    ids: Int32Array.from(ids),
    o: new Float32Array(sizes).fill(before),
    p: new Float32Array(sizes).fill(NaN),
  });
  const scalars = { count };
  const expected = memory();
  direct(kernel, expected, scalars, 1);
  const actual = memory();
  interpret(simt({ lanes, sharedBytes: 1 << 20 })(kernel), { buffers: actual, scalars, groups: 1 });
  for (const name of ["o", "p"] as const)
    for (let i = 0; i < sizes; i++) {
      const [a, e] = [actual[name][i] ?? NaN, expected[name][i] ?? NaN];
      if (Number.isNaN(e) ? !Number.isNaN(a) : !(Math.abs(a - e) <= tolerance * Math.max(1, Math.abs(e))))
        throw new Error(`${name}[${i}] is ${a}, not ${e}`);
    }
}

const size = fc.integer({ min: 1, max: 21 });
const lanes = fc.constantFrom(1, 4, 16, 32);

/** f32 values over tiles t, u [rows, cols], c [rows, 1], r [1, cols], one [1, 1], tables, buffers and indices. */
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
      .tuple(fc.constantFrom(1, 2, 3, 8), fc.boolean())
      .map(([n, d]) => (d ? x.div<Element> : x.rem<Element>)(col, i32(n))),
  ),
  b: fc.oneof(
    { maxDepth: 1 },
    fc
      .tuple(fc.constantFrom(x.eq, x.ne, x.lt, x.ge), tie("i"), tie("i"))
      .map(([f, a, b]) => f<Element>(a, b)),
    fc.tuple(fc.constantFrom(x.lt, x.ge), tie("f"), tie("f")).map(([f, a, b]) => f<Element>(a, b)),
    fc.tuple(fc.constantFrom(x.and, x.or), tie("b"), tie("b")).map(([f, a, b]) => f<Element>(a, b)),
    tie("b").map((b) => x.not<Element>(b)),
  ),
}));

/** Where `t` lives: nothing multiplies it; a product makes it, either way; a product reads it. */
const homes = ["free", "acc", "dot", "right", "left"] as const;

function program(
  home: (typeof homes)[number],
  rows: number,
  cols: number,
  v: Value,
  target: "t" | "c" | "r",
): TileKernel {
  const products: { readonly [H in (typeof homes)[number]]: readonly Tile[] } = {
    free: [],
    acc: [mma("t", "z", "b")],
    dot: [mma("t", "z", "turned", true)],
    right: [mma("w", "e", "t")],
    left: [mma("t", "z", "turned", true), mma("w2", "t", "d")],
  };
  const narrow = (e: Value): Value => {
    if (e.e === "at") return e.tile === target || e.tile === "one" ? e : at(target);
    if (e.e === "op") return { ...e, args: e.args.map(narrow) };
    return e.e === "load" ? { ...e, index: narrow(e.index) } : e;
  };
  return kernelOf(
    [
      tile("t", rows, cols),
      tile("u", rows, cols),
      tile("c", rows, 1),
      tile("r", 1, cols),
      tile("one", 1, 1),
      tile("z", rows, 3),
      tile("b", 3, cols),
      tile("turned", cols, 3),
      tile("e", 2, rows),
      tile("w", 2, cols),
      tile("d", cols, 5),
      tile("w2", rows, 5),
      tile("sum", rows, 1),
    ],
    [
      copy("t", rowsAt("x", cols)),
      copy("u", rowsAt("x", cols, { base: 1 })),
      copy("c", rowsAt("x", 1, { base: 3 })),
      copy("r", rowsAt("x", cols, { base: 4, all: true })),
      fill("one", 2),
      copy("z", rowsAt("x", 3), 0.5),
      copy("b", rowsAt("y", cols, { all: true })),
      copy("turned", rowsAt("y", 3, { all: true })),
      copy("e", rowsAt("y", rows, { all: true })),
      copy("d", rowsAt("x", 5, { all: true })),
      fill("w", 0),
      fill("w2", 0),
      ...products[home],
      map(target, target === "t" ? v : narrow(v)),
      fill("sum", 1),
      reduce("sum", "t", "add"),
      write(target, rowsAt("o", target === "c" ? 1 : cols, target === "r" ? { all: true } : {})),
      write("sum", rowsAt("p", 1)),
      ...(home === "left" ? [write("w2", rowsAt("p", 5, { base: 100, all: true }))] : []),
    ],
  );
}

describe("tile statements on a grid of lanes", () => {
  it("map, reduce, mma and write mean the same wherever tiles live", () => {
    fc.assert(
      fc.property(
        fc.constantFrom(...homes),
        size,
        size,
        value.f,
        fc.constantFrom("t" as const, "t" as const, "c" as const, "r" as const),
        lanes,
        fc.integer({ min: 0, max: 24 }),
        (home, rows, cols, v, target, many, count) =>
          agree(program(home, rows, cols, v, target), many, count, { tolerance: 1e-4 }),
      ),
      { numRuns: 110 },
    );
  });

  it("write values of any kind, from whatever tiles", () => {
    fc.assert(
      fc.property(fc.constantFrom(...homes), size, size, value.f, lanes, (home, rows, cols, v, many) => {
        const kernel = program(home, rows, cols, at("t"), "t");
        const body = kernel.body.filter((stmt) => stmt.s !== "write");
        agree({ ...kernel, body: [...body, write("u", rowsAt("o", cols), v)] }, many, 9, { tolerance: 1e-4 });
      }),
      { numRuns: 80 },
    );
  });

  it("reach the other columns of a pair, in place", () => {
    for (const cols of [2, 4, 6, 24, 64])
      for (const many of [4, 32]) {
        const even = x.eq<Element>(x.op<Element>("and", [col, i32(1)]), i32(0));
        const v = x.madd<Element>(
          at("t"),
          at("u", "even"),
          x.mul<Element>(
            x.mul<Element>(at("t", "flip"), at("u", "odd")),
            x.select<Element>(even, f32(-1), f32(1)),
          ),
        );
        agree(program("free", 5, cols, v, "t"), many, 5, { tolerance: 1e-4 });
      }
  });

  it("copy and write parts of rows, by list or by stride", () => {
    fc.assert(
      fc.property(
        size,
        size,
        size,
        fc.integer({ min: 0, max: 24 }),
        lanes,
        fc.boolean(),
        (rows, cols, wide, count, many, list) => {
          const width = Math.min(wide, cols);
          const ids = [99, ...Array.from({ length: rows }, (_, i) => (i * 7) % 23)];
          const from = rowsAt("x", width, { base: 2, stride: width + 2, ...(list ? { gather: 1 } : {}) });
          const kernel = kernelOf(
            [tile("t", rows, cols), tile("s", rows, cols)],
            [
              copy("t", from, 0.5),
              write("t", rowsAt("o", cols, { base: 1, stride: cols + 1 })),
              copy("s", rowsAt("x", cols)),
              write("s", rowsAt("p", width, { stride: width + 3 })),
            ],
          );
          agree(kernel, many, count, { ids, sizes: 2 + 23 * 25 });
        },
      ),
      { numRuns: 80 },
    );
  });

  it("multiply by weight panels from a first row and column", () => {
    fc.assert(
      fc.property(
        size,
        size,
        fc.integer({ min: 0, max: 2 }),
        fc.integer({ min: 0, max: 5 }),
        lanes,
        (n, k, panel, first, many) => {
          const depth = first + k + 1;
          const b = { buffer: "y", base: i32(5), depth, row: i32(first), col: i32(panel * 8) };
          const kernel = kernelOf(
            [tile("a", 6, k), tile("c", 6, n)],
            [
              copy("a", rowsAt("x", k)),
              fill("c", 0),
              { s: "mma", acc: "c", a: "a", b },
              write("c", rowsAt("o", n)),
            ],
          );
          agree(kernel, many, 6, { sizes: 200 + (panel + 3) * depth * 8 });
        },
      ),
      { numRuns: 60 },
    );
  });

  it("find the largest of rows of any width", () => {
    for (const cols of [1, 3, 4, 31, 32, 33, 100])
      for (const many of [1, 8, 64]) {
        const kernel = kernelOf(
          [tile("t", 5, cols), tile("c", 5, 1)],
          [
            copy("t", rowsAt("x", cols)),
            map("t", x.sub<Element>(at("t"), f32(10))),
            fill("c", -1e30),
            reduce("c", "t", "max"),
            write("c", rowsAt("o", 1)),
          ],
        );
        agree(kernel, many, 5);
      }
  });

  it("read a buffer and write it by other lanes", () => {
    // `s` is read four columns at a time, the dot products of `t` are written column by column.
    for (const many of [4, 32]) {
      const plain = kernelOf(
        [
          tile("z", 6, 3),
          tile("turned", 8, 3),
          tile("t", 6, 8),
          tile("s", 6, 8),
          tile("e", 2, 6),
          tile("w", 2, 8),
        ],
        [
          copy("z", rowsAt("x", 3)),
          copy("turned", rowsAt("y", 3)),
          copy("e", rowsAt("y", 6)),
          fill("t", 0),
          fill("w", 1),
          mma("t", "z", "turned", true),
          copy("s", rowsAt("o", 8)),
          write("t", rowsAt("o", 8)),
          mma("w", "e", "s"),
          write("w", rowsAt("p", 8)),
        ],
      );
      const buffers = plain.buffers.map((b) => (b.name === "o" ? { ...b, access: "readwrite" as const } : b));
      agree({ ...plain, buffers }, many, 8, { before: 0.25 });
    }
  });

  it("refuse tiles that do not fit", () => {
    const kernel = program("right", 16, 16, at("t"), "t");
    const bytes = simtSharedBytes(kernel, 32);
    expect(() => simt({ lanes: 32, sharedBytes: bytes - 4 })(kernel)).toThrow(`need ${bytes} bytes`);
    expect(simt({ lanes: 32, sharedBytes: bytes })(kernel).workgroup).toBe(32);
  });
});
