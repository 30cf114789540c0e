/** Spellings of `copy`, `fill` and `write` for a grid of lanes. */
import { add, at, f32, i32, let_, load, lt, mul, ref, set, splat, store } from "../../../src/expr.ts";
import type { Expr, Rows, Stmt, Tile } from "../../../src/kernel.ts";
import { ANY, type Access, type Phase } from "./barriers.ts";
import { lifter, OWN, wide, type Cell } from "./element.ts";
import { mappingOf, ownColumns, ownRows, unrolledFor, width4 } from "./frame.ts";
import { lineOf, typeOf, when, type RegisterPlace, type SharedPlace, type Site } from "./site.ts";

type Copy = Extract<Tile, { readonly s: "copy" }>;
type Fill = Extract<Tile, { readonly s: "fill" }>;
type Write = Extract<Tile, { readonly s: "write" }>;

const zero = f32(0);
export const zeroOf = (type: "f32" | "f32x4"): Expr => (type === "f32" ? zero : splat(zero));

/** Names what the rows of a buffer are made of; `start` is the first element of a row, `inside` whether it exists. */
function source(site: Site, rows: Rows, limit: number) {
  const pre: Stmt[] = [];
  const accesses: Access[] = [];
  const bind = (hint: string, e: Expr): Expr => {
    if (e.e === "const" || e.e === "ref") return e;
    const name = site.fresh(hint);
    pre.push(let_(name, e));
    return ref(name, e.type);
  };
  const [base, stride, count] = [
    bind("base", rows.base),
    bind("stride", rows.stride),
    bind("count", rows.count),
  ];
  const { gather } = rows;
  const list = gather === undefined ? null : bind("list", gather.base);
  if (gather !== undefined) accesses.push(...site.touch(gather.buffer, "read"));
  return {
    pre,
    accesses,
    bind,
    start: (row: Expr): Expr => {
      const at = gather === undefined || list === null ? row : load(gather.buffer, add(list, row), "i32");
      return add(base, mul(at, stride));
    },
    inside: (row: Expr): Expr | null => (count.e === "const" && count.value >= limit ? null : lt(row, count)),
  };
}

export function copy(tile: Copy, site: Site): readonly Phase[] {
  const p = site.place(tile.tile);
  const from = source(site, tile.rows, p.rows);
  const scale = tile.scale === undefined ? null : from.bind("scale", tile.scale);
  const read = (index: Expr, type: "f32" | "f32x4"): Expr => {
    const x = load(tile.rows.buffer, index, type);
    return scale === null ? x : mul(x, type === "f32" ? scale : splat(scale));
  };
  const body =
    p.at === "shared" ? copyShared(site, p, tile.rows, from, read) : copyRegisters(site, p, from, read);
  // Replicated rows and columns are read by lanes that do not own them.
  const owned = p.at === "shared" || wholly(site, p);
  return [
    {
      s: "phase",
      accesses: [
        ...from.accesses,
        ...site.touch(tile.rows.buffer, "read", owned ? mappingOf(site, tile.rows) : ANY),
        ...(p.at === "shared" ? [{ array: p.tile, verb: "write", by: OWN } as const] : []),
      ],
      body: [...from.pre, ...body],
    },
  ];
}

/** Whether lanes hold exactly the elements they own: no replicas, none repeated at the edge. */
const wholly = (site: Site, p: RegisterPlace): boolean =>
  p.style === "quads" &&
  p.vars.every((_, i) => site.rowInside(p.rows, i) === null) &&
  (p.vars[0] ?? []).every((_, j) => site.colInside(p.cols, "quads", j) === null);

type Read = (index: Expr, type: "f32" | "f32x4") => Expr;
type Source = ReturnType<typeof source>;

function copyShared(site: Site, p: SharedPlace, rows: Rows, from: Source, read: Read): readonly Stmt[] {
  const real = Math.min(rows.cols, p.cols);
  const width = width4(p.cols);
  const ragged = real % 4;
  return ownRows(site, p.rows, false, (row) => {
    const [src, line] = [site.fresh("src"), site.fresh("line")];
    const to = (col: Expr) => add(ref(line), col);
    const zeros = (first: number): readonly Stmt[] =>
      ownColumns(site, first, width, false, {
        four: (col) => [store(p.array, to(col), splat(zero))],
        tail: (cols) => cols.map((c) => store(p.array, to(i32(c)), zero)),
      });
    const loads = ownColumns(site, 0, real, false, {
      four: (col) => [store(p.array, to(col), read(add(ref(src), col), "f32x4"))],
      tail: (cols) => [
        ...cols.map((c) => store(p.array, to(i32(c)), read(add(ref(src), i32(c)), "f32"))),
        // The rest of the same four, for products that read it whole.
        ...(width === 1
          ? []
          : Array.from({ length: 4 - ragged }, (_, u) => store(p.array, to(i32(real + u)), zero))),
      ],
    });
    const past = real + (ragged === 0 || width === 1 ? 0 : 4 - ragged);
    const taken = [let_(src, from.start(row)), ...loads, ...(past < width ? zeros(past) : [])];
    const named = let_(line, lineOf(p, row));
    const inside = from.inside(row);
    if (inside === null) return [named, ...taken];
    // oxlint-disable-next-line unicorn/no-thenable
    return [named, { s: "if", cond: inside, then: taken, else: zeros(0) }];
  });
}

function copyRegisters(site: Site, p: RegisterPlace, from: Source, read: Read): readonly Stmt[] {
  const type = typeOf(p);
  return p.vars.flatMap((line, i): readonly Stmt[] => {
    const row = site.row(p.rows, i);
    const src = site.fresh("src");
    const taken = [
      let_(src, from.start(row)),
      ...line.map((name, j) => set(name, read(add(ref(src), site.col(p.cols, p.style, j)), type))),
    ];
    const inside = from.inside(row);
    if (inside === null) return taken;
    // oxlint-disable-next-line unicorn/no-thenable
    return [{ s: "if", cond: inside, then: taken, else: line.map((name) => set(name, zeroOf(type))) }];
  });
}

export function fill(tile: Fill, site: Site): readonly Phase[] {
  const p = site.place(tile.tile);
  if (p.at === "registers") {
    const value = typeOf(p) === "f32" ? tile.value : splat(tile.value);
    return [{ s: "phase", accesses: [], body: p.vars.flat().map((name) => set(name, value)) }];
  }
  const name = site.fresh("fill");
  const value = ref(name, "f32");
  const line = (row: Expr) => lineOf(p, row);
  const body = ownRows(site, p.rows, false, (row) =>
    ownColumns(site, 0, width4(p.cols), false, {
      four: (col) => [store(p.array, add(line(row), col), splat(value))],
      tail: (cols) => cols.map((c) => store(p.array, add(line(row), i32(c)), value)),
    }),
  );
  return [
    {
      s: "phase",
      accesses: [{ array: p.tile, verb: "write", by: OWN }],
      body: [let_(name, tile.value), ...body],
    },
  ];
}

export function write(tile: Write, site: Site): readonly Phase[] {
  const p = site.place(tile.tile);
  const { rows } = tile;
  const value = tile.value ?? at(tile.tile);
  const to = source(site, rows, p.rows);
  const accesses: Access[] = [...to.accesses];
  const lifted = (cell: Pick<Cell, "row" | "col" | "width" | "i" | "j" | "own">): Expr =>
    lifter(site, { ...cell, rows: p.rows, cols: rows.cols }, accesses)(value);
  const put = (dst: string, col: Expr, v: Expr) => store(rows.buffer, add(ref(dst), col), v);

  const singles = p.at === "registers" && p.style === "singles" && p.cols > 1;
  const unrolled = unrolledFor(site, value);
  const inRow = (row: Expr, body: readonly Stmt[], dst: string) =>
    when([to.inside(row)], [let_(dst, to.start(row)), ...body]);
  const body = ownRows(site, p.rows, unrolled.rows || singles, (row, i) => {
    const dst = site.fresh("dst");
    if (singles) {
      const stores = (p.vars[0] ?? []).flatMap((_, j) => {
        const col = site.col(p.cols, "singles", j);
        const v = lifted({ row, col, width: 1, i, j, own: false });
        return when([site.colInside(p.cols, "singles", j)], [put(dst, col, v)]);
      });
      return inRow(row, stores, dst);
    }
    const columns = ownColumns(site, 0, rows.cols, unrolled.cols && rows.cols > 1, {
      four: (col, j) => [put(dst, col, wide(lifted({ row, col, width: 4, i, j, own: true })))],
      tail: (cols) =>
        cols.map((c) => put(dst, i32(c), lifted({ row, col: i32(c), width: 1, i, j: null, own: true }))),
    });
    return inRow(row, columns, dst);
  });
  accesses.push(...site.touch(rows.buffer, "write", singles ? ANY : mappingOf(site, rows)));
  return [{ s: "phase", accesses, body: [...to.pre, ...body] }];
}
