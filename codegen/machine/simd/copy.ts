/** Spelling of `copy` for one thread with vectors of four. */
import type { Expr, Stmt, Tile } from "../../../src/kernel.ts";
import { add, f32, i32, let_, load, mul, op, ref, set, splat, store } from "../../../src/expr.ts";
import type { Column, Place, SimdSite } from "./layout.ts";
import { PANEL, ceilTo, columnAt, columnOffset, lineBase, sum } from "./layout.ts";
import { countOf, floor4, isUnitColumn, loop, source, vectors } from "./lines.ts";

type Copy = Extract<Tile, { readonly s: "copy" }>;

export function copy(tile: Copy, site: SimdSite): readonly Stmt[] {
  const p = site.place(tile.tile);
  const { pre, n } = countOf(site, tile.rows.count, p.rows);
  const from = source(site, tile.rows);
  const scaled: Stmt[] = [];
  let one: Expr | undefined;
  let four: Expr | undefined;
  if (tile.scale !== undefined) {
    const [name, wide] = [site.fresh("scale"), site.fresh("scale4")];
    scaled.push(let_(name, tile.scale), let_(wide, splat(ref(name, "f32"))));
    one = ref(name, "f32");
    four = ref(wide, "f32x4");
  }
  const read = (index: Expr, lanes: 1 | 4): Expr => {
    const x = load(tile.rows.buffer, index, lanes === 4 ? "f32x4" : "f32");
    const scale = lanes === 4 ? four : one;
    return scale === undefined ? x : mul(x, scale);
  };
  const live = p.live === undefined ? [] : [set(p.live, n)];
  const head = [...pre, ...live, ...from.pre, ...scaled];
  const cols = Math.min(tile.rows.cols, p.cols);
  if (p.kind === "turned") return [...head, ...copyTurned(site, p, n, cols, from.start, read)];
  if (p.ld === 1 && isUnitColumn(tile.rows)) return [...head, ...copyColumn(site, p, n, from.start, read)];
  return [...head, ...copyLines(site, p, n, cols, from.start, read)];
}

type Read = (index: Expr, lanes: 1 | 4) => Expr;
type Start = (i: Expr) => Expr;
const ZERO = f32(0);
const ZERO4 = splat(ZERO);

/** A column vector from contiguous elements. */
function copyColumn(site: SimdSite, p: Place, n: Expr, start: Start, read: Read): readonly Stmt[] {
  const name = site.fresh("src");
  const whole = floor4(n);
  const from = ref(name);
  return [
    let_(name, start(i32(0))),
    ...loop(site, "i", i32(0), whole, 4, (i) => [store(p.name, i, read(add(from, i), 4))]),
    ...loop(site, "i", whole, n, 1, (i) => [store(p.name, i, read(add(from, i), 1))]),
    ...loop(site, "i", n, i32(p.height), 1, (i) => [store(p.name, i, ZERO)]),
  ];
}

/** Row-major tiles and plain panels: a row of the buffer becomes a line of the tile. */
function copyLines(
  site: SimdSite,
  p: Place,
  n: Expr,
  cols: number,
  start: Start,
  read: Read,
): readonly Stmt[] {
  const width = p.padded ? p.ld : p.cols;
  /** Zeros in columns from … width of a line; whole vectors where they lie inside the tile's own columns. */
  const zeros = (line: Expr, from: number): readonly Stmt[] => {
    const vector = (c: Column) => [store(p.name, sum(line, columnOffset(p, c)), ZERO4)];
    const scalar = (j: number) => store(p.name, sum(line, columnOffset(p, columnAt(j))), ZERO);
    const room = p.ld === 1 ? 0 : Math.floor(p.ld / 4) * 4;
    if (from === 0 && room >= width) return vectors(site, Math.ceil(width / 4), 8, vector);
    const first = Math.min(ceilTo(from, 4), width);
    const parts: Stmt[] = Array.from({ length: first - from }, (_, j) => scalar(from + j));
    for (let j = first; j < width; j += 4) parts.push(...(j + 4 <= room ? vector(columnAt(j)) : [scalar(j)]));
    return parts;
  };
  const bound = (i: Expr, body: (line: Expr) => readonly Stmt[]): readonly Stmt[] => {
    const line = site.fresh("line");
    return [let_(line, lineBase(p, i)), ...body(ref(line))];
  };
  return [
    ...loop(site, "i", i32(0), n, 1, (i) => {
      const src = site.fresh("src");
      const at = (c: Column) => sum(ref(src), c.base, i32(c.plus));
      const tail = Array.from({ length: cols % 4 }, (_, j) => columnAt(cols - (cols % 4) + j));
      return [
        let_(src, start(i)),
        ...bound(i, (line) => [
          ...vectors(site, Math.floor(cols / 4), 8, (c) => [
            store(p.name, sum(line, columnOffset(p, c)), read(at(c), 4)),
          ]),
          ...tail.map((c) => store(p.name, sum(line, columnOffset(p, c)), read(at(c), 1))),
          ...(cols < width ? zeros(line, cols) : []),
        ]),
      ];
    }),
    ...loop(site, "i", n, i32(p.height), 1, (i) => bound(i, (line) => zeros(line, 0))),
  ];
}

/** Panels of the transpose: blocks of 4 × 4 are turned in registers; a ragged last block of rows goes by elements. */
function copyTurned(
  site: SimdSite,
  p: Place,
  n: Expr,
  cols: number,
  start: Start,
  read: Read,
): readonly Stmt[] {
  const whole = floor4(n);
  const full = Math.floor(cols / 4);
  const tail = Array.from({ length: cols % 4 }, (_, j) => columnAt(full * 4 + j));
  const to = (line: Expr, c: Column) => sum(line, columnOffset(p, c));
  const block = (line: Expr, src: readonly Expr[], c: Column): readonly Stmt[] => {
    const out: Stmt[] = [];
    const name = (hint: string, e: Expr): Expr => {
      const fresh = site.fresh(hint);
      out.push(let_(fresh, e));
      return ref(fresh, "f32x4");
    };
    const r = src.map((s) => name("r", read(sum(s, c.base, i32(c.plus)), 4)));
    const shuffle = (x: Expr | undefined, y: Expr | undefined, imm: readonly number[]): Expr => {
      if (x === undefined || y === undefined)
        throw new Error("heddle: internal: simd: a block has four rows");
      return op("shuffle", [x, y], imm);
    };
    const [lo, hi] = [
      [0, 4, 1, 5],
      [2, 6, 3, 7],
    ] as const;
    // (r0 r2) and (r1 r3) interleaved twice is the transpose.
    const a = name("t", shuffle(r[0], r[2], lo));
    const b = name("t", shuffle(r[1], r[3], lo));
    const d = name("t", shuffle(r[0], r[2], hi));
    const e = name("t", shuffle(r[1], r[3], hi));
    const turned = [shuffle(a, b, lo), shuffle(a, b, hi), shuffle(d, e, lo), shuffle(d, e, hi)];
    turned.forEach((t, u) => out.push(store(p.name, to(line, { base: c.base, plus: c.plus + u }), t)));
    return out;
  };
  const zeroLine = (line: Expr, from: number) =>
    Array.from({ length: p.cols - from }, (_, j) => store(p.name, to(line, columnAt(from + j)), ZERO4));
  const bound = (i: Expr, body: (line: Expr) => readonly Stmt[]): readonly Stmt[] => {
    const line = site.fresh("line");
    return [let_(line, lineBase(p, i)), ...body(ref(line))];
  };
  const zeroLoop = (line: Expr) =>
    loop(site, "c", i32(0), i32(p.cols * PANEL), PANEL, (c) => [store(p.name, sum(line, c), ZERO4)]);
  return [
    ...loop(site, "i", i32(0), whole, 4, (i) => {
      const names = [0, 1, 2, 3].map(() => site.fresh("src"));
      return [
        ...names.map((src, u) => let_(src, start(add(i, i32(u))))),
        ...bound(i, (line) => [
          ...vectors(site, full, 4, (c) =>
            block(
              line,
              names.map((s) => ref(s)),
              c,
            ),
          ),
          ...tail.flatMap((c) =>
            names.map((src, u) =>
              store(p.name, sum(to(line, c), i32(u)), read(sum(ref(src), i32(c.plus)), 1)),
            ),
          ),
          ...(cols < p.cols ? zeroLine(line, cols) : []),
        ]),
      ];
    }),
    ...loop(site, "i", whole, i32(p.height), 4, (i) => bound(i, zeroLoop)),
    ...loop(site, "i", whole, n, 1, (i) => {
      const src = site.fresh("src");
      return [
        let_(src, start(i)),
        ...bound(i, (line) =>
          loop(site, "c", i32(0), i32(cols), 1, (c) => [
            store(p.name, sum(line, columnOffset(p, { base: c, plus: 0 })), read(sum(ref(src), c), 1)),
          ]),
        ),
      ];
    }),
  ];
}
