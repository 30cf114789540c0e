/** Spelling of `copy` for one thread with vectors. */
import type { Expr, Stmt, Tile } from "../../../src/kernel.ts";
import { add, f32, i32, let_, load, mul, op, ref, set, splat, store, widened } from "../../../src/expr.ts";
import type { Column, Place, SimdSite } from "./layout.ts";
import { ceilTo, columnAt, columnOffset, lineBase, panelSize, sum } from "./layout.ts";
import { countOf, floored, isUnitColumn, loop, source, tailOf, vectors, wholeIn } from "./lines.ts";
import type { Lanes } from "./lines.ts";

type Copy = Extract<Tile, { readonly s: "copy" }>;

export function copy(tile: Copy, site: SimdSite): readonly Stmt[] {
  const p = site.place(tile.tile);
  const { pre, n } = countOf(site, tile.rows.count, p.rows);
  const from = source(site, tile.rows);
  const scaled: Stmt[] = [];
  const scales = new Map<Lanes, Expr>();
  if (tile.scale !== undefined) {
    const name = site.fresh("scale");
    scaled.push(let_(name, tile.scale));
    scales.set(1, ref(name, "f32"));
    const widths = [site.lanes, ...([8, 4] as const).filter((n) => n < site.lanes)];
    for (const lanes of widths) {
      const wide = site.fresh(`scale${lanes}`);
      scaled.push(let_(wide, splat(ref(name, "f32"), lanes)));
      scales.set(lanes, ref(wide, widened("f32", lanes)));
    }
  }
  const read = (index: Expr, lanes: Lanes): Expr => {
    const x = load(tile.rows.buffer, index, widened("f32", lanes));
    const scale = scales.get(lanes);
    return scale === undefined ? x : mul(x, scale);
  };
  const live = p.live === undefined ? [] : [set(p.live, n)];
  const head = [...pre, ...live, ...from.pre, ...scaled];
  const cols = Math.min(tile.rows.cols, p.cols);
  if (p.kind === "turned") return [...head, ...copyTurned(site, p, n, cols, from.start, read)];
  if (p.ld === 1 && isUnitColumn(tile.rows)) return [...head, ...copyColumn(site, p, n, from.start, read)];
  return [...head, ...copyLines(site, p, n, cols, from.start, read)];
}

type Read = (index: Expr, lanes: Lanes) => Expr;
type Start = (i: Expr) => Expr;
const ZERO = f32(0);
const zeros = (lanes: Lanes): Expr => (lanes === 1 ? ZERO : splat(ZERO, lanes));

/** A column vector from contiguous elements. */
function copyColumn(site: SimdSite, p: Place, n: Expr, start: Start, read: Read): readonly Stmt[] {
  const name = site.fresh("src");
  const whole = floored(site, n);
  const { lanes } = site;
  const from = ref(name);
  return [
    let_(name, start(i32(0))),
    ...loop(site, "i", i32(0), whole, lanes, (i) => [store(p.name, i, read(add(from, i), lanes))]),
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
  const { lanes } = site;
  /** Zeros in columns from … width of a line; whole vectors where they lie inside the tile's own columns. */
  const zerosFrom = (line: Expr, from: number): readonly Stmt[] => {
    const vector = (c: Column) => [store(p.name, sum(line, columnOffset(p, c)), zeros(lanes))];
    const scalar = (j: number) => store(p.name, sum(line, columnOffset(p, columnAt(j))), ZERO);
    const room = p.ld === 1 ? 0 : Math.floor(p.ld / lanes) * lanes;
    if (from === 0 && room >= width) return vectors(site, Math.ceil(width / lanes), 8, vector);
    const first = Math.min(ceilTo(from, lanes), width);
    const parts: Stmt[] = Array.from({ length: first - from }, (_, j) => scalar(from + j));
    for (let j = first; j < width; j += lanes)
      parts.push(...(j + lanes <= room ? vector(columnAt(j)) : [scalar(j)]));
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
      return [
        let_(src, start(i)),
        ...bound(i, (line) => [
          ...vectors(site, wholeIn(site, cols), 8, (c) => [
            store(p.name, sum(line, columnOffset(p, c)), read(at(c), lanes)),
          ]),
          ...tailOf(site, cols).map(({ at: j, lanes: few }) =>
            store(p.name, sum(line, columnOffset(p, columnAt(j))), read(at(columnAt(j)), few)),
          ),
          ...(cols < width ? zerosFrom(line, cols) : []),
        ]),
      ];
    }),
    ...loop(site, "i", n, i32(p.height), 1, (i) => bound(i, (line) => zerosFrom(line, 0))),
  ];
}

/** Panels of the transpose: square blocks are turned in registers; a ragged last block of rows goes by elements. */
function copyTurned(
  site: SimdSite,
  p: Place,
  n: Expr,
  cols: number,
  start: Start,
  read: Read,
): readonly Stmt[] {
  const { lanes } = site;
  const whole = floored(site, n);
  const full = wholeIn(site, cols);
  const tail = Array.from({ length: cols % lanes }, (_, j) => columnAt(full * lanes + j));
  const rows = Array.from({ length: lanes }, (_, u) => u);
  const to = (line: Expr, c: Column) => sum(line, columnOffset(p, c));
  const wide = widened("f32", lanes);
  /** The lanes of two vectors in turn, of their lower or upper halves. */
  const woven = (upper: boolean) => rows.map((l) => (l >> 1) + (upper ? lanes / 2 : 0) + (l & 1 ? lanes : 0));
  const [lower, upper] = [woven(false), woven(true)];
  const block = (line: Expr, src: readonly Expr[], c: Column): readonly Stmt[] => {
    const out: Stmt[] = [];
    const name = (hint: string, e: Expr): Expr => {
      const fresh = site.fresh(hint);
      out.push(let_(fresh, e));
      return ref(fresh, wide);
    };
    const shuffle = (x: Expr | undefined, y: Expr | undefined, imm: readonly number[]): Expr => {
      if (x === undefined || y === undefined)
        throw new Error("heddle: internal: simd: a block has as many rows as lanes");
      return op("shuffle", [x, y], imm);
    };
    // Weaving each row with the one half a block further, as often as a row can be halved, is the transpose.
    let turned: readonly Expr[] = src.map((s) => name("r", read(sum(s, c.base, i32(c.plus)), lanes)));
    for (let width: number = lanes; width > 1; width /= 2) {
      const [a, b] = [turned.slice(0, lanes / 2), turned.slice(lanes / 2)];
      const halves = [lower, upper].map((imm) =>
        a.map((x, u) => (width === 2 ? shuffle(x, b[u], imm) : name("t", shuffle(x, b[u], imm)))),
      );
      turned = a.flatMap((_, u) => halves.flatMap((half) => half.slice(u, u + 1)));
    }
    turned.forEach((t, u) => out.push(store(p.name, to(line, { base: c.base, plus: c.plus + u }), t)));
    return out;
  };
  const zeroLine = (line: Expr, from: number) =>
    Array.from({ length: p.cols - from }, (_, j) =>
      store(p.name, to(line, columnAt(from + j)), zeros(lanes)),
    );
  const bound = (i: Expr, body: (line: Expr) => readonly Stmt[]): readonly Stmt[] => {
    const line = site.fresh("line");
    return [let_(line, lineBase(p, i)), ...body(ref(line))];
  };
  const zeroLoop = (line: Expr) =>
    loop(site, "c", i32(0), i32(panelSize(p)), p.panel, (c) => [store(p.name, sum(line, c), zeros(lanes))]);
  return [
    ...loop(site, "i", i32(0), whole, lanes, (i) => {
      const names = rows.map(() => site.fresh("src"));
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
    ...loop(site, "i", whole, i32(p.height), lanes, (i) => bound(i, zeroLoop)),
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
