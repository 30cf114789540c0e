/**
 * Loops that load ahead. A loop's copies into operands, and the weight panels of its products, are streams: groups of copies that one
 * statement waits for. Each group starts as early as its memory is free:
 *
 * - several groups (keys, then values): each has one place in memory. When a group has arrived and all lanes have met, whatever the
 *   meeting has made free is loaded: values while scores are computed, the next keys while they become weights and meet the values;
 * - one group (rows and weights of a linear layer): it has STAGES places in a ring, and STAGES − 1 are under way.
 */
import { add, i32, lt, mul, ref, rem, sub } from "../../../src/expr.ts";
import type { Expr, Stmt, Tile, TileKernel } from "../../../src/kernel.ts";
import { div, let_ } from "../../../src/expr.ts";
import { referencesOf } from "../simt/residence.ts";
import { refsOf, rewriter } from "../../rewrite.ts";
import { inside, type Panels, type Shape } from "./shape.ts";

export const STAGES = 3;

type Copy = Extract<Tile, { readonly s: "copy" }>;
/** A product with weights in panels. */
export type PanelProduct = Omit<Extract<Tile, { readonly s: "mma" }>, "b"> & { readonly b: Panels };
type Loop = Extract<Stmt<Tile>, { readonly s: "for" }>;

/** What one statement of a loop's body waits for. */
export type Group = {
  /** Index in the body of the first statement that touches it. */
  readonly first: number;
  /** Index of the last statement that reads it. */
  readonly last: number;
  readonly copies: readonly Copy[];
  readonly products: readonly PanelProduct[];
};

export type Streams = {
  readonly groups: readonly Group[];
  /** Indices of the copies that the groups have taken. */
  readonly taken: ReadonlySet<number>;
  /** Lets of the body that places of copies depend on, in order. */
  readonly lets: readonly Extract<Stmt<Tile>, { readonly s: "let" }>[];
};

const touches = (s: Stmt<Tile>, tile: string): boolean => {
  for (const x of inside([s])) {
    if (x.s === "mma" && (x.a === tile || x.b === tile)) return true;
    if (x.s === "map" && (x.tile === tile || referencesOf(x.value).some((r) => r.tile === tile))) return true;
    if (x.s === "copy" && x.tile === tile) return true;
  }
  return false;
};

/** The streams of a loop; null where it has none, or where what they copy depends on more than the turn. */
export function streamsOf(loop: Loop, shape: Shape): Streams | null {
  const { body } = loop;
  const groups = new Map<number, { last: number; copies: Copy[]; products: PanelProduct[] }>();
  const taken = new Set<number>();
  const group = (first: number, last: number) => {
    const known = groups.get(first) ?? { last, copies: [], products: [] };
    known.last = Math.max(known.last, last);
    groups.set(first, known);
    return known;
  };
  body.forEach((s, i) => {
    if (s.s === "copy" && shape.homes.get(s.tile)?.at === "operand") {
      const users = body.flatMap((x, at) => (at > i && touches(x, s.tile) ? [at] : []));
      const [first] = users;
      // A tile that is copied again in one turn, or read before, cannot wait for one group.
      const once = body.filter((x) => x.s === "copy" && x.tile === s.tile).length === 1;
      if (first === undefined || !once || body.slice(0, i).some((x) => touches(x, s.tile))) return;
      if (
        body.some((x) => x.s !== "copy" && [...inside([x])].some((y) => y.s === "copy" && y.tile === s.tile))
      )
        return;
      group(first, users.at(-1) ?? first).copies.push(s);
      taken.add(i);
    }
    if (s.s === "mma" && typeof s.b !== "string") group(i, i).products.push({ ...s, b: s.b });
  });
  if (groups.size === 0) return null;
  const lets = neededLets(loop, [...groups.values()]);
  if (lets === null) return null;
  const ordered = [...groups].sort((a, b) => a[0] - b[0]).map(([first, g]): Group => ({ first, ...g }));
  // A group is met when the one before it has been read.
  if (ordered.some((g, i) => g.first <= (ordered[i - 1]?.last ?? -1))) return null;
  return { groups: ordered, taken, lets };
}

/** The expressions that say where a group's copies read. */
const placesOf = ({ copies, products }: Pick<Group, "copies" | "products">): readonly Expr[] => [
  ...copies.flatMap(({ rows }) => [rows.base, rows.stride, rows.count]),
  ...products.flatMap(({ b }) => [b.base, b.row, b.col]),
];

function neededLets(loop: Loop, groups: readonly Pick<Group, "copies" | "products">[]) {
  const wanted = new Set(groups.flatMap(placesOf).flatMap((e) => [...refsOf(e)]));
  const lets: Extract<Stmt<Tile>, { readonly s: "let" }>[] = [];
  for (const s of [...loop.body].reverse()) {
    if (s.s !== "let" || !wanted.has(s.name)) continue;
    refsOf(s.value).forEach((n) => wanted.add(n));
    lets.unshift(s);
  }
  // What else the body declares changes with more than the turn.
  const own = new Set(lets.map((l) => l.name));
  for (const s of inside(loop.body))
    if (
      (s.s === "let" || s.s === "var" || s.s === "exchange" || s.s === "for") &&
      wanted.has(s.name) &&
      !own.has(s.name)
    )
      return null;
  return lets;
}

/** How many places in memory each tile has: several where a loop's only group loads it. */
export function stagesOf(kernel: TileKernel, shape: Shape): ReadonlyMap<string, number> {
  const stages = new Map<string, number>();
  for (const s of inside(kernel.body)) {
    if (s.s !== "for") continue;
    const streams = streamsOf(s, shape);
    if (streams?.groups.length !== 1) continue;
    for (const { tile } of streams.groups[0]?.copies ?? []) stages.set(tile, STAGES);
  }
  return stages;
}

/** The same places at another turn: the lets they depend on, under new names, and what puts expressions there. */
export function turnAt(
  loop: Loop,
  lets: Streams["lets"],
  turn: Expr,
  fresh: (hint: string) => string,
): { readonly lets: readonly Stmt[]; readonly there: (e: Expr) => Expr } {
  const values = new Map<string, Expr>([[loop.name, turn]]);
  const there = (e: Expr): Expr => rewriter((x) => (x.e === "ref" ? (values.get(x.name) ?? x) : x))(e);
  const renamed = lets.map((l): Stmt => {
    const name = fresh(l.name);
    const made = let_(name, there(l.value));
    values.set(l.name, ref(name, l.value.type));
    return made;
  });
  return { lets: renamed, there };
}

/** Whether a loop has a turn at a counter. */
export const hasTurn = (loop: Loop, turn: Expr): Expr => lt(turn, loop.to);
/** The place in a ring of `words` words each that a turn uses. */
export const ringPlace = (loop: Loop, turn: Expr, words: number): Expr =>
  mul(rem(div(sub(turn, loop.from), i32(loop.step)), i32(STAGES)), i32(words));
export const later = (turn: Expr, loop: Loop, turns: number): Expr => add(turn, i32(turns * loop.step));
