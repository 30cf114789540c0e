/** What the spellings of one kernel share: places of tiles, lane coordinates, memory that lanes share. */
import { add, and, f32, i32, laneId, let_, lt, min, mul, op, ref, splat, var_ } from "../../../src/expr.ts";
import type { Expr, Shared, Stmt, Tile, TileDecl, TileKernel } from "../../../src/kernel.ts";
import { tilesIn } from "../../distribute.ts";
import { arenaFor, lifetimes } from "./arena.ts";
import { ANY, type Access } from "./barriers.ts";
import { ceil4, colsPer, partialsFor, rowsPer, type Grid, type Style } from "./grid.ts";
import type { Place, SharedPlace } from "./place.ts";
import { readsCopy, residences, type Order } from "./residence.ts";

export type Site = {
  readonly grid: Grid;
  readonly fresh: (hint: string) => string;
  readonly place: (tile: string) => Place;
  /** Coordinates of the lane in the grid. */
  readonly y: Expr;
  readonly x: Expr;
  /** Row i of the lane's block in a tile of `rows` rows, no further than the last. */
  readonly row: (rows: number, i: number) => Expr;
  /** First column of the lane's column or quad j, no further than the last. */
  readonly col: (cols: number, style: Style, j: number) => Expr;
  /** Whether row i (column j) lies inside the tile; null where it always does. */
  readonly rowInside: (rows: number, i: number) => Expr | null;
  readonly colInside: (cols: number, style: Style, j: number) => Expr | null;
  /** Row i of those that the lane owns in columns of `rows` rows, no further than the last, and whether it lies inside. */
  readonly ownRow: (rows: number, i: number) => Expr;
  readonly ownInside: (rows: number, i: number) => Expr | null;
  /** Whether each row of a tile is a register of one lane. */
  readonly owned: (tile: string) => boolean;
  /** Memory for the partial results of a reduction; neighbouring reductions get different ones. */
  readonly scratch: () => string;
  /** Names whose values change while a group runs. */
  readonly varying: ReadonlySet<string>;
  /** An access to a buffer, or none where nobody writes it. */
  readonly touch: (buffer: string, verb: Access["verb"], by?: string) => readonly Access[];
  readonly shared: readonly Shared[];
  /** Whether two tiles share memory. */
  readonly overlaps: (a: string, b: string) => boolean;
  /** Statements at the start of a group. Complete once all is spelled. */
  readonly begin: readonly Stmt[];
};

/** Names that are assigned, or declared inside a loop. */
function varyingIn(kernel: TileKernel): ReadonlySet<string> {
  const names = new Set<string>();
  const walk = (body: readonly Stmt<Tile>[], looped: boolean): void => {
    for (const s of body) {
      if (s.s === "for" || s.s === "var" || ((s.s === "let" || s.s === "exchange") && looped))
        names.add(s.name);
      if (s.s === "for") walk(s.body, true);
      if (s.s === "if") [s.then, s.else ?? []].forEach((b) => walk(b, looped));
    }
  };
  walk(kernel.body, false);
  return names;
}

/** Makes names that the kernel does not use. */
function namesFor(kernel: TileKernel): (hint: string) => string {
  const taken = new Set<string>();
  const walk = (body: readonly Stmt<Tile>[]): void => {
    for (const s of body) {
      if (s.s === "let" || s.s === "var" || s.s === "for" || s.s === "exchange") taken.add(s.name);
      if (s.s === "for") walk(s.body);
      if (s.s === "if") [s.then, s.else ?? []].forEach(walk);
    }
  };
  walk(kernel.body);
  for (const part of [kernel.buffers, kernel.scalars, kernel.tables, kernel.shared])
    for (const { name } of part) taken.add(name);
  const next = new Map<string, number>();
  return (hint) => {
    let count = next.get(hint) ?? 0;
    let name = count === 0 ? hint : `${hint}_${count}`;
    while (taken.has(name)) name = `${hint}_${++count}`;
    next.set(hint, count + 1);
    taken.add(name);
    return name;
  };
}

/** `sharedBytes` is what a group may use: what tiles leave of it saves a barrier. */
export function siteFor(kernel: TileKernel, grid: Grid, sharedBytes: number): Site {
  const fresh = namesFor(kernel);
  const homes = residences(kernel, grid);
  const statements = tilesIn(kernel.body);
  const lefts = new Set(statements.flatMap((s) => (s.s === "mma" ? [s.a] : [])));
  const owned = (tile: string) => homes.get(tile)?.at === "owners";
  /** Tiles in registers of which products or other lanes read a copy. */
  const copied = new Set(
    kernel.tiles.flatMap(({ name }) => (statements.some((s) => readsCopy(s, name, owned)) ? [name] : [])),
  );
  const shared: Shared[] = [];
  const array = (hint: string, length: number): string => {
    const name = fresh(hint);
    shared.push({ name, type: "f32", length });
    return name;
  };
  const [yName, xName] = [fresh("lane_y"), fresh("lane_x")];
  const begin: Stmt[] = [
    let_(yName, op("div", [laneId, i32(grid.across)])),
    let_(xName, op("rem", [laneId, i32(grid.across)])),
  ];
  const [y, x] = [ref(yName), ref(xName)];

  const orderOf = (name: string): Order => {
    const home = homes.get(name);
    return home?.at === "shared" ? home.order : "rows";
  };
  /** Rows that lanes walk side by side start in different banks; by columns, lanes side by side read neighbours. */
  const lineLength = ({ name, rows, cols }: TileDecl): number => {
    if (orderOf(name) === "columns") return rows;
    return cols === 1 ? 1 : ceil4(cols) + (lefts.has(name) && rows > 1 ? 4 : 0);
  };
  const inMemory = kernel.tiles.filter(
    (t) => homes.get(t.name)?.at === "shared" || (copied.has(t.name) && !owned(t.name)),
  );
  // Single numbers are stored here, and an array that is only used by vectors may be one of vectors.
  const shown = kernel.tiles.filter((t) => owned(t.name) && copied.has(t.name));
  const columns = shown.reduce((sum, t) => sum + t.rows, 0);
  const rooms = inMemory.map((t) => ({
    tile: t.name,
    elements: (orderOf(t.name) === "columns" ? t.cols : t.rows) * lineLength(t),
  }));
  const reductions = statements.flatMap((s) => (s.s === "reduce" ? [s] : []));
  const rowsOf = new Map(kernel.tiles.map((t) => [t.name, t.rows]));
  const partials = Math.max(
    0,
    ...reductions.map((s) => partialsFor(grid, rowsOf.get(s.from) ?? 0, owned(s.into))),
  );
  const others = kernel.shared.reduce((sum, s) => sum + ceil4(s.length), ceil4(columns));
  const fits = (elements: number, scratches: number) =>
    4 * (elements + others + Math.min(scratches, reductions.length) * ceil4(partials)) <= sharedBytes;
  // Memory of its own for every tile and for neighbouring reductions saves barriers, where there is room.
  const apart = arenaFor(rooms, new Map());
  const arena = fits(apart.elements, 2)
    ? apart
    : arenaFor(
        rooms,
        lifetimes(kernel, (name) => homes.get(name)?.at !== "shared"),
      );
  const memory = inMemory.length === 0 ? "" : array("block", arena.elements);
  const columnMemory = columns === 0 ? "" : array("columns", columns);
  const sharedPlace = (t: TileDecl): SharedPlace => {
    const { name: tile, rows, cols } = t;
    if (owned(tile)) {
      const base = shown.slice(0, shown.indexOf(t)).reduce((sum, x) => sum + x.rows, 0);
      return { at: "shared", tile, rows, cols, order: "rows", ld: 1, base, array: columnMemory };
    }
    const base = arena.base.get(tile);
    if (base === undefined) throw new Error(`heddle: internal: simt: '${tile}' has no room`);
    return { at: "shared", tile, rows, cols, order: orderOf(tile), ld: lineLength(t), base, array: memory };
  };
  const places = new Map<string, Place>();
  for (const tile of kernel.tiles) {
    const { name, rows, cols } = tile;
    const home = homes.get(name);
    const shadow = copied.has(name) ? sharedPlace(tile) : null;
    if (home?.at === "owners") {
      const vars = Array.from({ length: Math.ceil(rows / grid.lanes) }, () => {
        const register = fresh(name);
        begin.push(var_(register, f32(0)));
        return register;
      });
      places.set(name, { at: "owners", rows, cols: 1, vars, shadow });
      continue;
    }
    if (home?.at !== "registers") {
      places.set(name, sharedPlace(tile));
      continue;
    }
    const { style } = home;
    const quads = style === "quads" && cols > 1;
    const vars = Array.from({ length: rowsPer(grid, rows) }, () =>
      Array.from({ length: colsPer(grid, cols, style) }, () => {
        const register = fresh(name);
        begin.push(var_(register, quads ? splat(f32(0)) : f32(0)));
        return register;
      }),
    );
    places.set(name, { at: "registers", rows, cols, style, vars, shadow });
  }

  const known = new Map<string, Expr>();
  const named = (hint: string, key: string, value: () => Expr): Expr => {
    const before = known.get(key);
    if (before !== undefined) return before;
    const name = fresh(hint);
    begin.push(let_(name, value()));
    const made = ref(name);
    known.set(key, made);
    return made;
  };
  const units = (cols: number, style: Style) => (style === "quads" ? cols / 4 : cols);
  const rowAt = (i: number) => add(y, i32(grid.down * i));
  const colAt = (j: number) => add(x, i32(grid.across * j));

  const scratches =
    partials === 0
      ? []
      : reductions.slice(0, fits(arena.elements, 2) ? 2 : 1).map(() => array("partials", partials));
  let turn = 0;

  const written = new Set(kernel.buffers.flatMap((b) => (b.access === "read" ? [] : [b.name])));
  return {
    grid,
    fresh,
    y,
    x,
    shared,
    overlaps: arena.overlaps,
    begin,
    place: (tile) => {
      const found = places.get(tile);
      if (found === undefined)
        throw new Error(`heddle: internal: simt: no tile '${tile}' in '${kernel.name}'`);
      return found;
    },
    row: (rows, i) => {
      if (rows === 1) return i32(0);
      const whole = grid.down * (i + 1) <= rows;
      return named("row", `row ${whole ? "" : rows} ${i}`, () =>
        whole ? rowAt(i) : min(rowAt(i), i32(rows - 1)),
      );
    },
    col: (cols, style, j) => {
      if (cols === 1) return i32(0);
      const width = style === "quads" ? 4 : 1;
      const whole = grid.across * (j + 1) <= units(cols, style);
      return named("col", `col ${style} ${whole ? "" : cols} ${j}`, () =>
        mul(whole ? colAt(j) : min(colAt(j), i32(units(cols, style) - 1)), i32(width)),
      );
    },
    rowInside: (rows, i) => {
      if (rows === 1) return grid.down === 1 ? null : lt(y, i32(1));
      return grid.down * (i + 1) <= rows ? null : lt(rowAt(i), i32(rows));
    },
    colInside: (cols, style, j) => {
      if (cols === 1) return grid.across === 1 ? null : lt(x, i32(1));
      const all = units(cols, style);
      return grid.across * (j + 1) <= all ? null : lt(colAt(j), i32(all));
    },
    ownRow: (rows, i) => {
      const whole = grid.lanes * (i + 1) <= rows;
      return named("own_row", `own ${whole ? "" : rows} ${i}`, () =>
        whole ? add(laneId, i32(grid.lanes * i)) : min(add(laneId, i32(grid.lanes * i)), i32(rows - 1)),
      );
    },
    ownInside: (rows, i) =>
      grid.lanes * (i + 1) <= rows ? null : lt(add(laneId, i32(grid.lanes * i)), i32(rows)),
    owned,
    scratch: () => {
      const name = scratches[turn++ % Math.max(1, scratches.length)];
      if (name === undefined) throw new Error("heddle: internal: simt: a reduction has no scratch memory");
      return name;
    },
    varying: varyingIn(kernel),
    touch: (buffer, verb, by = ANY) => (written.has(buffer) ? [{ array: buffer, verb, by }] : []),
  };
}

/** Statements under conditions that may be absent. */
export function when(conditions: readonly (Expr | null)[], body: readonly Stmt[]): readonly Stmt[] {
  const cond = conditions.reduce((a, b) => (a === null ? b : b === null ? a : and(a, b)), null);
  // oxlint-disable-next-line unicorn/no-thenable
  return cond === null ? body : [{ s: "if", cond, then: body }];
}
