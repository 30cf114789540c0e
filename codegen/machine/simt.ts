/**
 * The machine of many lanes with shared memory: WGSL, and CUDA in f32. A group of lanes works on one set of tiles;
 * accumulators and the vectors that scale them live in registers, operands of products in shared memory, and barriers
 * stand only where one lane meets what another has written.
 *
 * A target that emits these kernels must let a barrier order buffers as well as shared memory (WGSL: `storageBarrier`
 * beside `workgroupBarrier`) where the kernel reads a buffer it writes.
 */
import { at } from "../../src/expr.ts";
import { declaredBytes } from "../../src/kernel.ts";
import type { Kernel, Stmt, Tile, TileKernel } from "../../src/kernel.ts";
import { synchronise, type Phase } from "./simt/barriers.ts";
import { copy } from "./simt/copy.ts";
import { gridFor } from "./simt/grid.ts";
import { map } from "./simt/map.ts";
import { mma } from "./simt/mma.ts";
import { fill, shadow, write } from "./simt/move.ts";
import { reduce } from "./simt/reduce.ts";
import { readsCopy, referencesOf } from "./simt/residence.ts";
import { siteFor, type Site } from "./simt/site.ts";

export type SimtOptions = {
  /** Lanes of a group: a power of two. */
  readonly lanes: number;
  /** Bytes of shared memory a group may use. WebGPU guarantees 16384. */
  readonly sharedBytes: number;
  /** Whether the target has the IR's `exchange`: reductions then go through memory and barriers only beyond four lanes a row. */
  readonly exchange?: boolean;
};

type Spell = { readonly [K in Tile["s"]]: (tile: Extract<Tile, { s: K }>, site: Site) => readonly Phase[] };
const spellings: Spell = { copy, write, fill, mma, map, reduce };
// The table's type ties each row to its statement; TypeScript cannot follow that through an index by `tile.s`.
const spell = (tile: Tile, site: Site): readonly Phase[] =>
  (spellings[tile.s] as (tile: Tile, site: Site) => readonly Phase[])(tile, site);

/** Bytes of shared memory that a tile kernel takes on this machine at least. */
export const simtSharedBytes = (kernel: TileKernel, lanes: number, exchange = false): number =>
  simtDeclaredBytes(kernel, { lanes, sharedBytes: 0, exchange });

/** Bytes that it declares where a group may use `sharedBytes`; more than those where they do not suffice. */
export function simtDeclaredBytes(
  kernel: TileKernel,
  { lanes, sharedBytes, exchange = false }: SimtOptions,
): number {
  const { shared } = siteFor(kernel, gridFor(kernel, lanes, exchange), sharedBytes);
  return declaredBytes([...kernel.shared, ...shared]);
}

/**
 * Distributes a tile kernel over the lanes of a group.
 * @throws when its tiles do not fit in shared memory; `simtSharedBytes` tells beforehand.
 */
export const simt =
  ({ lanes, sharedBytes, exchange = false }: SimtOptions) =>
  (kernel: TileKernel): Kernel => {
    if (lanes < 1 || !Number.isInteger(Math.log2(lanes)))
      throw new Error(`heddle: internal: simt: ${lanes} lanes are not a power of two`);
    const site = siteFor(kernel, gridFor(kernel, lanes, exchange), sharedBytes);
    const shared = [...kernel.shared, ...site.shared];
    const bytes = declaredBytes(shared);
    if (bytes > sharedBytes)
      throw new Error(
        `heddle: internal: simt: the tiles of '${kernel.name}' need ${bytes} bytes of shared memory, a group has ${sharedBytes}`,
      );
    const body = synchronise(phases(kernel.body, site), site.overlaps);
    const { name, buffers, scalars, tables } = kernel;
    return { name, buffers, scalars, tables, shared, workgroup: lanes, body: [...site.begin, ...body] };
  };

/** Spells the tile statements of a block, and stores what lives in registers for those that read it in memory. */
function phases(body: readonly Stmt<Tile>[], site: Site): readonly Stmt<Phase>[] {
  const { first, after } = stores(body, site);
  const out: Stmt<Phase>[] = [...first];
  body.forEach((s, at) => {
    switch (s.s) {
      case "for":
        out.push({ ...s, body: phases(s.body, site) });
        break;
      case "if": {
        const { cond, then } = s;
        // oxlint-disable-next-line unicorn/no-thenable
        const taken: Stmt<Phase> = { s: "if", cond, then: phases(then, site) };
        out.push(s.else === undefined ? taken : { ...taken, else: phases(s.else, site) });
        break;
      }
      case "store":
        throw new Error("heddle: internal: simt: a store outside tiles would be done by every lane");
      case "let":
      case "var":
      case "set":
      case "barrier":
      case "exchange":
      case "comment":
        out.push(s);
        break;
      default:
        out.push(...spell(s, site));
    }
    out.push(...(after.get(at) ?? []));
  });
  return out;
}

/**
 * Where tiles in registers are stored for the statements of a block that read them in memory: as early as they are final, so that
 * the store shares the barrier of whatever stands between.
 */
function stores(body: readonly Stmt<Tile>[], site: Site) {
  const first: Phase[] = [];
  const after = new Map<number, Phase[]>();
  const done = new Set<string>();
  body.forEach((s, at) => {
    for (const tile of copiesRead(s, site)) {
      let last = at - 1;
      while (last >= 0 && !changes(body[last], tile)) last--;
      if (done.has(`${tile} ${last}`)) continue;
      done.add(`${tile} ${last}`);
      const stored = shadow(site.place(tile), site);
      if (last < 0) first.push(...stored);
      else after.set(last, [...(after.get(last) ?? []), ...stored]);
    }
  });
  return { first, after };
}

/** The tiles in registers whose copy a statement reads. */
const copiesRead = (s: Stmt<Tile>, site: Site): readonly string[] => {
  if (s.s !== "mma" && s.s !== "map" && s.s !== "write") return [];
  const tiles = s.s === "mma" ? [s.a] : referencesOf(s.value ?? at(s.tile)).map((r) => r.tile);
  return [...new Set(tiles)].filter(
    (tile) => site.place(tile).at !== "shared" && readsCopy(s, tile, site.owned),
  );
};

function changes(s: Stmt<Tile> | undefined, tile: string): boolean {
  switch (s?.s) {
    case "for":
      return s.body.some((x) => changes(x, tile));
    case "if":
      return s.then.some((x) => changes(x, tile)) || (s.else ?? []).some((x) => changes(x, tile));
    case "copy":
    case "fill":
    case "map":
      return s.tile === tile;
    case "mma":
      return s.acc === tile;
    case "reduce":
      return s.into === tile;
    default:
      return false;
  }
}
