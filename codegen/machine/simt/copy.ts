/** Spelling of `copy` for a grid of lanes, and how rows of a buffer are reached. */
import { add, f32, i32, let_, load, lt, mul, op, ref, set, splat, store, var_ } from "../../../src/expr.ts";
import type { Expr, Rows, Stmt, Tile } from "../../../src/kernel.ts";
import { ANY, type Access, type Phase } from "./barriers.ts";
import { OWN, OWNERS, quad } from "./element.ts";
import { mappingOf, ownBlocks, ownColumns, ownedRows, ownRows, stepped, width4 } from "./frame.ts";
import { lineOf, typeOf, type OwnerPlace, type RegisterPlace, type SharedPlace } from "./place.ts";
import { when, type Site } from "./site.ts";

type Copy = Extract<Tile, { readonly s: "copy" }>;
/** Vectors that a lane reads before it stores the first of them: memory answers to all in the time of one. */
const BATCH = 4;

const zero = f32(0);
const zeroOf = (type: "f32" | "f32x4"): Expr => (type === "f32" ? zero : splat(zero));

/** Names what the rows of a buffer are made of; `start` is the first element of a row, `inside` whether it exists. */
export function source(site: Site, rows: Rows, limit: number) {
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
    p.at === "owners"
      ? copyOwned(site, p, from, read)
      : p.at === "registers"
        ? copyRegisters(site, p, from, read)
        : p.order === "columns"
          ? copyByColumns(site, p, tile.rows, from, read)
          : copyShared(site, p, tile.rows, from, read);
  // Replicated rows and columns are read by lanes that do not own them.
  const owned = p.at === "owners" ? p.rows % site.grid.lanes === 0 : p.at === "shared" || wholly(site, p);
  const by = p.at === "owners" ? OWNERS : OWN;
  return [
    {
      s: "phase",
      accesses: [
        ...from.accesses,
        ...site.touch(tile.rows.buffer, "read", owned ? mappingOf(site, tile.rows, by) : ANY),
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
  const { down, across } = site.grid;
  const [high, wide] = [p.rows / down, width / 4 / across];
  if (real === width && width > 1 && Number.isInteger(high) && Number.isInteger(wide) && wide <= BATCH)
    return copyBatches(site, p, { high, wide }, from, read);
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

/** Tiles that all lanes share evenly, `high` rows and `wide` vectors each: several vectors come in before the first goes out. */
function copyBatches(
  site: Site,
  p: SharedPlace,
  { high, wide }: { readonly high: number; readonly wide: number },
  from: Source,
  read: Read,
): readonly Stmt[] {
  let rows = Math.floor(BATCH / wide);
  while (high % rows !== 0) rows--;
  const { down } = site.grid;
  const cols = Array.from({ length: wide }, (_, j) => site.col(p.cols, "quads", j));
  return stepped(site, "row", { from: site.y, to: p.rows, step: down * rows }, (first) => {
    const lines = Array.from({ length: rows }, (_, u) => {
      const row = add(first, i32(down * u));
      const names = cols.map(() => site.fresh("x"));
      const src = site.fresh("src");
      const taken = [
        let_(src, from.start(row)),
        ...names.map((name, j) => set(name, read(add(ref(src), cols[j] ?? zero), "f32x4"))),
      ];
      const before = [...names.map((name) => var_(name, splat(zero))), ...when([from.inside(row)], taken)];
      const after = names.map((name, j) =>
        store(p.array, add(lineOf(p, row), cols[j] ?? zero), ref(name, "f32x4")),
      );
      return { before, after };
    });
    return [...lines.flatMap((l) => l.before), ...lines.flatMap((l) => l.after)];
  });
}

/** Four rows of four columns at a time: vectors along the rows come in, vectors along the columns go out. */
function copyByColumns(site: Site, p: SharedPlace, rows: Rows, from: Source, read: Read): readonly Stmt[] {
  const real = Math.min(rows.cols, p.cols);
  const to = (col: Expr, row: Expr) => add(lineOf(p, col), row);
  const loads = ownBlocks(site, p.rows, real, (row, col, count) => {
    const type = count === 4 ? "f32x4" : "f32";
    // A row's columns, or one column of a few.
    const width = count === 4 ? 1 : count;
    const names = Array.from({ length: 4 }, () => Array.from({ length: width }, () => site.fresh("x")));
    const before = names.flatMap((line, u) => {
      const at = add(row, i32(u));
      const src = site.fresh("src");
      const taken = [
        let_(src, from.start(at)),
        ...line.map((name, c) => set(name, read(add(add(ref(src), col), i32(c)), type))),
      ];
      return [...line.map((name) => var_(name, zeroOf(type))), ...when([from.inside(at)], taken)];
    });
    const stores = Array.from({ length: count }, (_, c) => {
      const part = (u: number) => {
        const name = names[u]?.[count === 4 ? 0 : c] ?? "";
        return count === 4 ? op("lane", [ref(name, type)], [c]) : ref(name, type);
      };
      return store(p.array, to(add(col, i32(c)), row), quad([0, 1, 2, 3].map(part)));
    });
    return [...before, ...stores];
  });
  const zeros = Array.from({ length: p.cols - real }, (_, c) =>
    ownRows(site, p.rows / 4, false, (r) => [store(p.array, to(i32(real + c), mul(r, i32(4))), splat(zero))]),
  ).flat();
  return [...loads, ...zeros];
}

function copyOwned(site: Site, p: OwnerPlace, from: Source, read: Read): readonly Stmt[] {
  return ownedRows(site, p.rows, (row, i): readonly Stmt[] => {
    const name = p.vars[i] ?? "";
    const inside = from.inside(row);
    const taken = set(name, read(from.start(row), "f32"));
    if (inside === null) return [taken];
    // oxlint-disable-next-line unicorn/no-thenable
    return [{ s: "if", cond: inside, then: [taken], else: [set(name, zero)] }];
  });
}
