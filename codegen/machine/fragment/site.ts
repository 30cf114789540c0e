/** What the spellings of one kernel share: arrays of tiles, coordinates of a lane, and what is known of tiles as the kernel goes on. */
import { add, div, eq, i32, laneId, let_, mul, op, ref, rem } from "../../../src/expr.ts";
import type { Expr, Shared, Stmt, TileKernel } from "../../../src/kernel.ts";
import type { Half, Place, Warp, WarpOp } from "../../../src/warp.ts";
import type { Access, Phase, Phased } from "../simt/barriers.ts";
import { newFlow, type Flow } from "./flow.ts";
import type { Shape } from "./shape.ts";

export type Step = Phased<Warp>;

/**
 * 16-bit rows of `chunks` pieces of 16 bytes in shared memory. Piece c of row r lies at piece c ^ f(r) of its row, with
 * f(r) = ⌊r / (8 / s)⌋ mod s and s = gcd(chunks, 8): then any eight rows that follow one another have one piece in eight different
 * groups of banks, so that a matrix is loaded without conflicts, and no width needs a pad: 48 columns take 96 bytes.
 */
export type Operand = {
  readonly at: "operand";
  readonly tile: string;
  readonly array: string;
  readonly rows: number;
  readonly cols: number;
  readonly chunks: number;
  readonly fold: number;
  readonly dtype: Half;
  /** Copies of the tile, for loads that run ahead. */
  readonly stages: number;
};
/** Element (i, j) of a lane's accumulators of 16 × 8, in the order of `fragmentIndex`. */
export type Fragment = {
  readonly at: "fragment";
  readonly array: string;
  readonly rows: number;
  readonly cols: number;
};
export type Column = { readonly at: "column"; readonly array: string };
export type Line = { readonly at: "line"; readonly array: string; readonly cols: number };
export type Dwelling = Operand | Fragment | Column | Line;

export const wordsOf = (p: Pick<Operand, "rows" | "cols">): number => (p.rows * p.cols) / 2;
const gcd = (a: number, b: number): number => (b === 0 ? a : gcd(b, a % b));

export type Lane = {
  /** Bands of eight rows that a lane has a row of. */
  readonly bands: number;
  /** The lane's row in band r, and its first column in the j-th eight. */
  readonly row: (r: Expr) => Expr;
  readonly col: (j: Expr) => Expr;
  /** Of a row's four lanes the first. */
  readonly first: Expr;
};

export type Site = {
  readonly shape: Shape;
  readonly lane: Lane;
  readonly fresh: (hint: string) => string;
  readonly place: (tile: string) => Dwelling;
  /** An array of registers, the same one for the same name. */
  readonly registers: (name: string, type: "f32" | "i32", length: number) => string;
  /** Shared memory for a product's panels, by depth and columns. */
  readonly panels: (words: number) => string;
  /** A value of the lane, computed once at the start. */
  readonly once: (hint: string, value: Expr) => Expr;
  /** An access to a buffer, or none where nobody writes it. */
  readonly touch: (buffer: string, verb: Access["verb"], by: string) => readonly Access[];
  /** What is true of tiles where the walk stands. */
  readonly flow: Flow;
  /** Complete once all is spelled. */
  readonly begin: readonly Stmt[];
  readonly arrays: () => { readonly shared: readonly Shared[]; readonly registers: readonly Shared[] };
};

/** Element e = 0, 1 of band r and column eight j in an accumulator of `eights`, four to a block of 16 × 8. */
export const fragmentIndex = (eights: number, r: Expr, j: Expr, e: number): Expr => {
  const block = add(mul(op("shr", [r, i32(1)]), i32(eights)), j);
  return add(add(mul(block, i32(4)), mul(op("and", [r, i32(1)]), i32(2))), i32(e));
};
/** The block of accumulators of band pair i and column eight j. */
export const blockIndex = (eights: number, i: Expr, j: Expr): Expr =>
  mul(add(mul(i, i32(eights)), j), i32(4));

export const warp = (
  named: WarpOp,
  places: readonly (readonly [array: string, index: Expr])[],
  values: readonly Expr[] = [],
  rest: Pick<Warp, "dtype" | "imm"> = {},
): Warp => ({
  s: "warp",
  op: named,
  places: places.map(([array, index]): Place => ({ array, index })),
  values,
  ...rest,
});
export const phase = (accesses: readonly Access[], body: readonly Stmt<Warp>[]): Phase<Warp> => ({
  s: "phase",
  accesses,
  body,
});
/** A loop over a constant range, unrolled by the target's compiler. */
export const loop = (name: string, count: number, body: readonly Stmt<Warp>[]): Stmt<Warp> => ({
  s: "for",
  name,
  from: i32(0),
  to: i32(count),
  step: 1,
  unroll: "late",
  body,
});
export const when = (cond: Expr | null, then: readonly Stmt<Warp>[]): readonly Stmt<Warp>[] =>
  cond === null ? then : [{ s: "if", cond, then }];

/** The word at which a piece of 16 bytes starts; `row8` is the row's rest by eight where that is simpler. */
export function pieceOf(p: Operand, row: Expr, chunk: Expr, row8: Expr, stage: Expr): Expr {
  const turn = p.fold === 1 ? null : rem(div(row8, i32(8 / p.fold)), i32(p.fold));
  const at = turn === null ? chunk : op("xor", [chunk, turn]);
  return add(mul(add(mul(row, i32(p.chunks)), at), i32(4)), stage);
}

/** `stages` of tiles that loops load ahead; one of all others. */
export function siteFor(
  kernel: TileKernel,
  shape: Shape,
  fresh: (hint: string) => string,
  stages: ReadonlyMap<string, number>,
): Site {
  const begin: Stmt[] = [];
  const once = (hint: string, value: Expr): Expr => {
    const name = fresh(hint);
    begin.push(let_(name, value));
    return ref(name);
  };
  const remembered = new Map<string, Expr>();
  const remember = (hint: string, value: Expr): Expr => {
    const key = JSON.stringify(value);
    const known = remembered.get(key) ?? once(hint, value);
    remembered.set(key, known);
    return known;
  };
  const member = remember("member", op("and", [laneId, i32(31)]));
  const warpRow = mul(op("shr", [laneId, i32(5)]), i32(16 * shape.tall));
  const row0 = once("row_0", add(warpRow, op("shr", [member, i32(2)])));
  const col0 = once("col_0", mul(op("and", [member, i32(3)]), i32(2)));
  const lane: Lane = {
    bands: 2 * shape.tall,
    row: (r) => add(row0, mul(r, i32(8))),
    col: (j) => add(col0, mul(j, i32(8))),
    first: eq(op("and", [member, i32(3)]), i32(0)),
  };

  const shared: Shared[] = [];
  const registers: Shared[] = [];
  const named = new Map<string, string>();
  const places = new Map<string, Dwelling>();
  for (const t of kernel.tiles) {
    const home = shape.homes.get(t.name);
    if (home === undefined) throw new Error(`heddle: internal: fragment: '${t.name}' has no home`);
    const { rows, cols } = t;
    const eights = cols / 8;
    const held = (length: number): string => {
      const array = fresh(t.name);
      registers.push({ name: array, type: "f32", length });
      return array;
    };
    if (home.at === "operand") {
      const array = fresh(t.name);
      const copies = stages.get(t.name) ?? 1;
      shared.push({ name: array, type: "i32", length: copies * wordsOf(t) });
      const fold = gcd(eights, 8);
      places.set(t.name, {
        at: "operand",
        tile: t.name,
        array,
        rows,
        cols,
        chunks: eights,
        fold,
        dtype: home.dtype,
        stages: copies,
      });
    } else if (home.at === "fragment")
      places.set(t.name, { at: "fragment", array: held(4 * shape.tall * eights), rows, cols });
    else if (home.at === "column") places.set(t.name, { at: "column", array: held(lane.bands) });
    else places.set(t.name, { at: "line", array: held(2 * eights), cols });
  }
  const written = new Set(kernel.buffers.flatMap((b) => (b.access === "read" ? [] : [b.name])));
  let panelWords = 0;
  let panelArray: string | null = null;
  return {
    shape,
    lane,
    fresh,
    once: remember,
    place: (tile) => {
      const found = places.get(tile);
      if (found === undefined)
        throw new Error(`heddle: internal: fragment: no tile '${tile}' in '${kernel.name}'`);
      return found;
    },
    registers: (hint, type, length) => {
      const key = `${hint} ${type}`;
      const known = named.get(key) ?? fresh(hint);
      const at = registers.findIndex((r) => r.name === known);
      if (at < 0) registers.push({ name: known, type, length });
      else registers[at] = { name: known, type, length: Math.max(length, registers[at]?.length ?? 0) };
      named.set(key, known);
      return known;
    },
    panels: (words) => {
      panelWords = Math.max(panelWords, words);
      panelArray ??= fresh("panels");
      return panelArray;
    },
    touch: (buffer, verb, by) => (written.has(buffer) ? [{ array: buffer, verb, by }] : []),
    flow: newFlow(),
    begin,
    arrays: () => ({
      shared:
        panelArray === null ? shared : [...shared, { name: panelArray, type: "i32", length: panelWords }],
      registers,
    }),
  };
}

export const fragmentOf = (site: Site, tile: string): Fragment => {
  const p = site.place(tile);
  if (p.at !== "fragment") throw new Error(`heddle: internal: fragment: '${tile}' is no accumulator`);
  return p;
};
export const columnOf = (site: Site, tile: string): Column => {
  const p = site.place(tile);
  if (p.at !== "column") throw new Error(`heddle: internal: fragment: '${tile}' is no column`);
  return p;
};
export const operandOf = (site: Site, tile: string): Operand => {
  const p = site.place(tile);
  if (p.at !== "operand") throw new Error(`heddle: internal: fragment: '${tile}' is no operand`);
  return p;
};
export const stageOf = (site: Site, tile: string): Expr => site.flow.stage.get(tile) ?? i32(0);
