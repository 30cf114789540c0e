/**
 * Where tiles lie in the memory that lanes share. Tiles that are never alive at once share elements: keys make room for the
 * weights, these for the next keys. What that costs is a barrier where one follows the other; what it gains is larger tiles.
 */
import type { Stmt, Tile, TileKernel } from "../../../src/kernel.ts";
import { referencesOf } from "./residence.ts";

/** Positions of statements, both ends included; a tile may hold several values one after the other. */
type Life = { readonly from: number; readonly to: number };
/** `block` names the blocks around the statement, outermost first. */
type Touch = { readonly at: number; readonly defines: boolean; readonly block: string };
type Loop = { readonly from: number; readonly to: number };

/** What a statement reads and writes; `defines` says that nothing of the old value is left. */
function touched(s: Tile): readonly { readonly tile: string; readonly defines: boolean }[] {
  const reads = (tiles: readonly string[]) => tiles.map((tile) => ({ tile, defines: false }));
  switch (s.s) {
    case "copy":
    case "fill":
      return [{ tile: s.tile, defines: true }];
    case "write":
      return reads([s.tile, ...(s.value === undefined ? [] : referencesOf(s.value).map((r) => r.tile))]);
    case "map": {
      const used = referencesOf(s.value).map((r) => r.tile);
      return [...reads(used), { tile: s.tile, defines: !used.includes(s.tile) }];
    }
    case "mma":
      return reads([s.acc, s.a, ...(typeof s.b === "string" ? [s.b] : [])]);
    case "reduce":
      return reads([s.from, s.into]);
  }
}

/**
 * From where to where the memory of each tile holds values that are still needed. A tile `inRegisters` has memory only for its copy
 * as the left operand of a product: from the last change before the product on.
 */
export function lifetimes(
  kernel: TileKernel,
  inRegisters: (tile: string) => boolean,
): ReadonlyMap<string, readonly Life[]> {
  const touches = new Map<string, Touch[]>();
  const loops: Loop[] = [];
  const changed = new Map<string, number>();
  const touch = (tile: string, t: Touch) => void touches.set(tile, [...(touches.get(tile) ?? []), t]);
  let at = 0;
  const walk = (body: readonly Stmt<Tile>[], block: string): void => {
    for (const s of body) {
      at++;
      switch (s.s) {
        case "for": {
          const from = at;
          walk(s.body, block);
          // Inner loops come first, so that what they widen is seen by the outer ones.
          loops.push({ from, to: ++at });
          break;
        }
        case "if":
          walk(s.then, `${block}${at}+/`);
          walk(s.else ?? [], `${block}${at}-/`);
          at++;
          break;
        case "copy":
        case "write":
        case "fill":
        case "mma":
        case "map":
        case "reduce":
          for (const { tile, defines } of touched(s)) {
            if (!inRegisters(tile)) touch(tile, { at, defines, block });
            else if (s.s === "mma" && s.a === tile) {
              touch(tile, { at: changed.get(tile) ?? at, defines: true, block });
              touch(tile, { at, defines: false, block });
            } else changed.set(tile, at);
          }
          break;
        default:
          break;
      }
    }
  };
  walk(kernel.body, "");
  return new Map([...touches].map(([tile, all]) => [tile, livesOf(all, loops)]));
}

function livesOf(touches: readonly Touch[], loops: readonly Loop[]): readonly Life[] {
  const values: { from: number; to: number; block: string }[] = [];
  for (const t of touches) {
    if (t.defines || values.length === 0) {
      values.push({ from: t.at, to: t.at, block: t.block });
      continue;
    }
    // A value made in a block that may be skipped is read outside of it: then the one before is read too.
    for (;;) {
      const [before, last] = [values.at(-2), values.at(-1)];
      if (last === undefined || before === undefined || t.block.startsWith(last.block)) break;
      values.splice(-2, 2, { from: before.from, to: last.to, block: before.block });
    }
    const last = values.at(-1);
    if (last !== undefined) last.to = Math.max(last.to, t.at);
  }
  let lives: readonly Life[] = values;
  for (const loop of loops) {
    const first = touches.find((t) => loop.from <= t.at && t.at <= loop.to);
    // What an iteration makes anew before it reads it comes neither from outside nor from the iteration before.
    if (first === undefined || first.defines) continue;
    const apart = (v: Life) => v.to < loop.from || v.from > loop.to;
    const inside = lives.filter((v) => !apart(v));
    const from = Math.min(loop.from, ...inside.map((v) => v.from));
    const to = Math.max(loop.to, ...inside.map((v) => v.to));
    lives = [...lives.filter(apart), { from, to }];
  }
  return lives;
}

export type Room = { readonly tile: string; readonly elements: number };
export type Arena = {
  /** First element of each tile, a multiple of 4. */
  readonly base: ReadonlyMap<string, number>;
  readonly elements: number;
  readonly overlaps: (a: string, b: string) => boolean;
};

/** Places tiles, the largest first, each as low as those alive beside it allow. */
export function arenaFor(rooms: readonly Room[], lives: ReadonlyMap<string, readonly Life[]>): Arena {
  const size = new Map(rooms.map((r) => [r.tile, Math.ceil(r.elements / 4) * 4]));
  const meet = (a: string, b: string): boolean => {
    const [x, y] = [lives.get(a), lives.get(b)];
    if (x === undefined || y === undefined) return true;
    return x.some((v) => y.some((w) => v.from <= w.to && w.from <= v.to));
  };
  const base = new Map<string, number>();
  for (const [tile, elements] of [...size].sort((a, b) => b[1] - a[1])) {
    const taken = [...base]
      .filter(([other]) => meet(tile, other))
      .map(([other, start]) => [start, start + (size.get(other) ?? 0)] as const)
      .sort((a, b) => a[0] - b[0]);
    let start = 0;
    for (const [from, to] of taken) if (start + elements > from) start = Math.max(start, to);
    base.set(tile, start);
  }
  const end = (tile: string) => (base.get(tile) ?? 0) + (size.get(tile) ?? 0);
  return {
    base,
    elements: Math.max(0, ...[...base.keys()].map(end)),
    overlaps: (a, b) => {
      const [x, y] = [base.get(a), base.get(b)];
      return a !== b && x !== undefined && y !== undefined && x < end(b) && y < end(a);
    },
  };
}
