/**
 * The machine of matrix units: CUDA from sm_80 on, f16 and bf16 in, f32 sums. Warps hold bands of rows; 16-bit operands come to
 * shared memory by copies that run beside the lanes, without bank conflicts and without pads; scores become weights in registers.
 * It spells the six tile statements like any machine; what is its own lies in how loops load ahead (fragment/stream.ts), in a scale
 * that stays before the scores until exp2 (fragment/element.ts) and in sums whose parts meet once (fragment/compute.ts).
 */
import { at, i32 } from "../../src/expr.ts";
import { declaredBytes } from "../../src/kernel.ts";
import type { Kernel, Stmt, Tile, TileKernel } from "../../src/kernel.ts";
import type { Warp } from "../../src/warp.ts";
import { namer } from "../rewrite.ts";
import { fill, linear, map, part, reduce, settle } from "./fragment/compute.ts";
import { meetFlows, restore, snapshot } from "./fragment/flow.ts";
import { commit, land } from "./fragment/landing.ts";
import { copy, issuePanels, write } from "./fragment/move.ts";
import { stream } from "./fragment/pipeline.ts";
import { mma, panelsName, panelWords, rightOf } from "./fragment/product.ts";
import { inside, shapeOf } from "./fragment/shape.ts";
import { siteFor, type Site, type Step } from "./fragment/site.ts";
import { stagesOf, streamsOf } from "./fragment/stream.ts";
import { synchronise } from "./simt/barriers.ts";
import { referencesOf } from "./simt/residence.ts";

type Loop = Extract<Stmt<Tile>, { readonly s: "for" }>;

/** Why the matrix units cannot run a kernel; null where they can. */
export function unfit(kernel: TileKernel): string | null {
  const shape = shapeOf(kernel);
  return typeof shape === "string" ? shape : null;
}

/** Bytes of shared memory that a kernel without weight panels declares. @throws where `unfit` says why not. */
export function fragmentBytes(kernel: TileKernel): number {
  const shape = shapeOf(kernel);
  if (typeof shape === "string") throw new Error(`heddle: internal: fragment: '${kernel.name}': ${shape}`);
  const site = siteFor(kernel, shape, freshIn(kernel), stagesOf(kernel, shape));
  return declaredBytes([...kernel.shared, ...site.arrays().shared]);
}

/** Distributes a tile kernel over warps. @throws where `unfit` says why not. */
export function fragment(kernel: TileKernel): Kernel<Warp> {
  const shape = shapeOf(kernel);
  if (typeof shape === "string") throw new Error(`heddle: internal: fragment: '${kernel.name}': ${shape}`);
  const fresh = freshIn(kernel);
  const site = siteFor(kernel, shape, fresh, stagesOf(kernel, shape));
  const body = synchronise<Warp>([...walk(kernel.body, site), ...allArrived(site)]);
  const { shared, registers } = site.arrays();
  const { name, buffers, scalars, tables } = kernel;
  return {
    name,
    buffers,
    scalars,
    tables,
    shared: [...kernel.shared, ...shared],
    registers,
    workgroup: shape.lanes,
    body: [...site.begin, ...body],
  };
}

/** Names that the kernel, its tiles included, does not use. */
function freshIn(kernel: TileKernel): (hint: string) => string {
  const declared = [...inside(kernel.body)].flatMap((s) =>
    s.s === "let" || s.s === "var" || s.s === "for" || s.s === "exchange"
      ? [{ name: s.name, type: "i32" as const, length: 1 }]
      : [],
  );
  const { name, buffers, scalars, tables } = kernel;
  return namer({
    name,
    buffers,
    scalars,
    tables,
    workgroup: 1,
    body: [],
    shared: [...kernel.shared, ...declared],
  });
}

/** Spells the statements of a block. */
function walk(body: readonly Stmt<Tile>[], site: Site): readonly Step[] {
  return body.flatMap((s): readonly Step[] => {
    switch (s.s) {
      case "for":
        return spellLoop(s, site);
      case "if":
        return spellIf(s, site);
      case "store":
        throw new Error("heddle: internal: fragment: a store outside tiles would be done by every lane");
      case "let":
      case "var":
      case "set":
      case "barrier":
      case "exchange":
      case "comment":
        return [s];
      default:
        return [...arrived(site, operandsOf(s, site)), ...spell(s, site)];
    }
  });
}

function spell(s: Tile, site: Site): readonly Step[] {
  switch (s.s) {
    case "copy":
      return copy(s, site);
    case "write":
      return write(s, site);
    case "fill":
      return fill(s, site);
    case "map":
      return map(s, site);
    case "reduce":
      return reduce(s, site);
    case "mma":
      return typeof s.b === "string" ? mma(s, site) : [...panelsHere(s, site), ...mma(s, site)];
  }
}

/** Operands that a statement reads or maps. */
const operandsOf = (s: Tile, site: Site): readonly string[] => {
  const named =
    s.s === "mma" ? [s.a, ...(typeof s.b === "string" ? [s.b] : [])] : s.s === "map" ? [s.tile] : [];
  return named.filter((tile) => site.place(tile).at === "operand");
};

/** Waits for the copies of tiles that are about to be touched. */
function arrived(site: Site, tiles: readonly string[]): readonly Step[] {
  return tiles.some((t) => site.flow.awaited.has(t)) ? allArrived(site) : [];
}
/** Waits for all copies that are under way. */
function allArrived(site: Site): readonly Step[] {
  const names = [...site.flow.awaited];
  if (names.length === 0) return [];
  site.flow.awaited.clear();
  return [land(names)];
}

/** Panels of a product that no loop loads ahead. */
function panelsHere(s: Extract<Tile, { readonly s: "mma" }>, site: Site): readonly Step[] {
  if (typeof s.b === "string" || site.flow.stage.has(panelsName(s.b))) return [];
  const { depth } = rightOf(s, site);
  const cols = site.shape.decl(s.acc).cols;
  const array = site.panels(panelWords(depth, cols));
  const before = [...site.flow.awaited];
  site.flow.awaited.clear();
  return [issuePanels(site, s.b, depth, cols, array, i32(0)), commit, land([array, ...before])];
}

/** What holds after a block that may be skipped holds whether it is or not. */
function spellIf(s: Extract<Stmt<Tile>, { readonly s: "if" }>, site: Site): readonly Step[] {
  const before = snapshot(site.flow);
  const then = walk(s.then, site);
  const after = snapshot(site.flow);
  restore(site.flow, before);
  const otherwise = s.else === undefined ? undefined : walk(s.else, site);
  meetFlows(site.flow, after);
  const taken: Step = { s: "if", cond: s.cond, then };
  return [otherwise === undefined ? taken : { ...taken, else: otherwise }];
}

function spellLoop(s: Loop, site: Site): readonly Step[] {
  const { flow } = site;
  const sums = partedBy(s).filter((t) => !flow.parted.has(t));
  const before = part(site, sums);
  // Nothing that the loop changes is known to be zero in a later turn.
  for (const x of inside(s.body)) {
    if (x.s === "mma") flow.zero.delete(x.acc);
    if (x.s === "map") flow.zero.delete(x.tile);
    if (x.s === "reduce") flow.zero.delete(x.into);
  }
  const streams = streamsOf(s, site.shape);
  const spelled = streams === null ? [{ ...s, body: walk(s.body, site) }] : stream(s, streams, site, walk);
  return [...before, ...spelled, ...settle(site, sums)];
}

/** Columns that a loop only multiplies and adds rows to. */
function partedBy(s: Loop): readonly string[] {
  const sums = new Set<string>();
  const others = new Set<string>();
  for (const x of inside(s.body)) {
    if (x.s === "reduce" && x.op === "add") sums.add(x.into);
    else if (x.s === "reduce") others.add(x.into);
    if (x.s === "fill" || x.s === "copy") others.add(x.tile);
    if (x.s !== "map" && x.s !== "write") continue;
    const parts = x.s === "map" && linear(x) ? x.tile : null;
    if (parts === null) others.add(x.tile);
    const value = x.value ?? at(x.tile);
    for (const { tile } of referencesOf(value)) if (tile !== parts) others.add(tile);
  }
  return [...sums].filter((t) => !others.has(t));
}
