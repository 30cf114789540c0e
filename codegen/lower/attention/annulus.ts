/**
 * Schedule `annulus`: one launch for each branch, as in `branch`, but a pair that a branch shares with its parent is computed in the
 * parent's pass alone, with its multiplicity as a weight. How often row i counts key j depends on i and j only through the paths that
 * each is on: one number a row, found once, and one a key, which stays the same from tile to tile where all periods divide its width.
 */
import {
  add,
  and,
  at,
  col,
  eq,
  f32,
  float,
  ge,
  group,
  i32,
  lt,
  min,
  mul,
  or,
  ref,
  rem,
  row,
  select,
  set,
  sub,
  var_,
  type AnyExpr,
} from "../../../src/expr.ts";
import {
  ALL,
  annulusShape,
  annulusTile,
  branchPhantoms,
  hasPhantoms,
  hasWork,
  pathsOf,
  ringOf,
  roomOf,
  segmentOf,
  type AnnulusShape,
  type AnnulusTile,
  type Integers,
  type Lookup,
  type Member,
  type Ring,
} from "../../../src/geometry.ts";
import type { Dtype, Element, Expr, Rows, Stmt, Table, Tile, TileKernel } from "../../../src/kernel.ts";
import { gridSize } from "../../../src/planner.ts";
import type { Schedule } from "../../../src/schedule.ts";
import type { Launch } from "../launch.ts";
import { lowerBranch } from "./branch.ts";
import { branchTitle, chainBuffers, launchesOf, type ChainPass } from "./chain.ts";
import { decayTables, rowsTogether } from "./decay.ts";
import { multipleOf } from "./folds.ts";
import { elementExpressions, expressions, newBlock, offsetTable, type Block } from "./integers.ts";
import { absorbZeros, empty, finish, map, resume } from "./state.ts";
import {
  attentionTiles,
  headColumn,
  headRows,
  kernelName,
  N,
  readQueries,
  scoreKeys,
  type AttentionWork,
} from "./tiles.ts";

/** Passes that share a kernel: those that count other branches' pairs, and those that do not; or all. */
export type Kind = {
  readonly folds: boolean;
  /** Lengths at which rows are cut, beside the cell. */
  readonly cuts: number;
  /** Whether what a key counts is the same in every tile of a range. */
  readonly steady: boolean;
};

export const kindOf = (passes: AnnulusShape["passes"], folds: boolean, keys: number): Kind => {
  return {
    folds,
    cuts: Math.max(0, ...passes.map((p) => p.cuts.length)),
    steady: passes.every((p) => p.periods.every((period) => keys % period === 0)),
  };
};

/** What rows and keys have of each path. */
const ofRows = (path: number): string => `row_times_${path}`;
const ofKeys = (path: number): string => `key_times_${path}`;
const cutName = (i: number): string => `cut_${i}`;

type Paths = readonly (readonly (Member<Expr> & { readonly weight: Expr; readonly length: Expr })[])[];

/** What does not change in a tile, bound outside of its loops. */
const bindPaths = (b: Block, paths: readonly (readonly Member<Expr>[])[]): Paths =>
  paths.map((path) =>
    path.map((m) => {
      const weight = b.bind("weight", float(m.counted));
      return { ...m, weight, length: b.bind("period_length", float(m.period)) };
    }),
  );

const sumOf = (terms: readonly AnyExpr[]): AnyExpr =>
  terms.reduce((sum: AnyExpr, term) => (sum === ZERO ? term : add<Element>(sum, term)), ZERO);
const ZERO: AnyExpr = f32(0);

/** Members of each path that a row of the tile is on. */
const countRows = (paths: Paths): readonly Stmt<Tile>[] =>
  paths.map((path, p) =>
    map(
      ofRows(p),
      sumOf(
        path.map((m) => {
          const on = multipleOf(add<Element>(row, m.rowResidue), m.length);
          return select<Element>(on, m.weight, f32(0));
        }),
      ),
    ),
  );

/** The same for slots j0 … of the segment. */
const countKeys = (b: Block, paths: Paths, j0: Expr): void =>
  paths.forEach((path, p) => {
    const terms = path.map((m) => {
      const residue = b.bind("residue", rem(add(j0, m.slotResidue), m.period));
      const held = and<Element>(
        ge<Element>(col, b.bind("held_from", sub(m.from, j0))),
        lt<Element>(col, b.bind("held_to", sub(m.to, j0))),
      );
      const on = and<Element>(held, multipleOf(add<Element>(col, residue), m.length));
      return select<Element>(on, m.weight, f32(0));
    });
    b.push(map(ofKeys(p), sumOf(terms)));
  });

const KNOWN = "known";
/** The same, where all periods divide the keys of a tile: what was counted holds up to slot `known`, where a segment begins or ends. */
function countSteadyKeys(b: Block, paths: Paths, j0: Expr, keys: number): void {
  const end = b.bind("tile_to", add(j0, i32(keys)));
  const anew = b.nested(() => {
    countKeys(b, paths, j0);
    const next = paths.flat().reduce((least: Expr, m) => {
      const first = b.bind("next", select(lt(j0, m.from), min(least, m.from), least));
      return b.bind("next", select(lt(j0, m.to), min(first, m.to), first));
    }, i32(ALL));
    b.push(set(KNOWN, select(lt(next, end), j0, next)));
  });
  b.push({ s: "if", cond: lt(ref(KNOWN), end), then: anew });
}

/** A kernel of annulus tiles, and where they begin and leave the states of their rows. */
export type AnnulusWork = {
  readonly node: AttentionWork;
  readonly schedule: Schedule;
  readonly shape: AnnulusShape;
  readonly kind: Kind;
  readonly tile: AnnulusTile<Expr>;
  readonly branch: Expr;
  readonly ring: Ring<Expr>;
  readonly begin: readonly Stmt<Tile>[];
  readonly out: Rows;
  readonly lse: Rows;
};

/** Computes the keys of one tile of a pass. */
export function attendAnnulus(b: Block, I: Integers<Expr, Expr>, work: AnnulusWork): void {
  const { node, schedule, shape, kind, tile, ring } = work;
  const { spec } = node;
  const { keys } = schedule;
  const { folds, steady } = kind;
  const { batch, head, dilation: step, slot } = tile;
  const times = timesTiles(shape, kind).map(([ofRow, ofKey]) => min<Element>(at(ofRow), at(ofKey)));
  const position = b.bind("query", add(tile.queryStart, mul(slot, step)));
  const queries = readQueries(b, node, { batch, head, position, step, count: tile.queries });
  b.push(...work.begin);
  const paths = folds ? bindPaths(b, pathsOf(I, shape, tile)) : [];
  b.push(...countRows(paths));
  const [turn, j0] = [ref("turn"), ref("j0")];
  const turns = b.nested(() => {
    const pick = (hint: string, before: Expr, middle: Expr, after: Expr) =>
      b.bind(hint, select(eq(turn, i32(0)), before, select(eq(turn, i32(1)), middle, after)));
    const from = pick("range_from", i32(0), ring.before, ring.after);
    const to = pick("range_to", ring.before, ring.middle, tile.keys);
    if (folds && steady) b.push(var_(KNOWN, i32(0)));
    const loop = b.nested(() => {
      const key = b.bind("key", add(tile.queryStart, mul(j0, step)));
      const count = b.bind("width", I.min(i32(keys), sub(to, j0)));
      const fill = b.nested(() => {
        if (folds && steady) countSteadyKeys(b, paths, j0, keys);
        else countKeys(b, paths, j0);
      });
      scoreKeys(b, node, {
        batch,
        head,
        tokens: { position: key, step, count },
        queries,
        width: keys,
        causal: spec.causal ? { keyStep: i32(1), rowStep: 1, lead: b.bind("lead", sub(slot, j0)) } : null,
        across: {
          cond: eq(turn, i32(1)),
          row: b.bind("crossing_row", sub(ring.crossing, slot)),
          col: b.bind("crossing_key", sub(ring.crossing, j0)),
        },
        multiplicity: folds ? { fill, times: add<Element>(f32(1), sumOf(times)) } : null,
      });
    });
    b.push({ s: "for", name: "j0", from, to, step: keys, body: loop });
  });
  // After the last row's segment of the parent nothing is visible to a causal row.
  b.push({ s: "for", name: "turn", from: i32(0), to: i32(spec.causal ? 2 : 3), step: 1, body: turns });
  if (hasPhantoms(spec)) b.push(...absorbZeros(branchPhantoms(elementExpressions, spec, tile, row)));
  b.push(...finish(work.out, work.lse));
}

const timesTiles = (
  shape: AnnulusShape,
  { folds }: Kind,
): readonly (readonly [rows: string, keys: string])[] =>
  Array.from({ length: folds ? shape.terms : 0 }, (_, p) => [ofRows(p), ofKeys(p)]);

/** What kernels of annulus tiles look up, and the tiles that they work on. */
export const annulusParts = (
  node: AttentionWork,
  { rows, keys }: Schedule,
  shape: AnnulusShape,
  kind: Kind,
): Pick<TileKernel, "tables" | "tiles"> => {
  const { segments, dilations, kinds, links } = shape.tables;
  return {
    tables: [
      offsetTable(node.spec),
      ...decayTables(node),
      ...[segments, kinds, links, ...(kind.folds ? [dilations] : [])].map(integers),
    ],
    tiles: [
      ...attentionTiles(node, rows, keys),
      ...timesTiles(shape, kind).flatMap(([ofRow, ofKey]) => [
        { name: ofRow, rows, cols: 1 },
        { name: ofKey, rows: 1, cols: keys },
      ]),
    ],
  };
};
export const integers = (table: Lookup): Table => ({ ...table, type: "i32" });

/** `taken` is how many of its rows a tile takes. */
function annulusKernel(
  node: AttentionWork,
  schedule: Schedule,
  taken: number,
  shape: AnnulusShape,
  kind: Kind,
): TileKernel {
  const { spec } = node;
  const { rows, keys } = schedule;
  const { folds, cuts } = kind;
  const b = newBlock();
  const I = expressions(b, spec);
  const [branch, segment, dilation] = [ref("branch"), ref("segment"), ref("dilation")];
  const tile = annulusTile(I, spec, shape, {
    group,
    N,
    branch,
    segment,
    dilation,
    cell: folds ? ref("cell") : segment,
    cuts: Array.from({ length: cuts }, (_, i) => ref(cutName(i))),
    room: folds ? { slots: ref("room_slots"), tiles: ref("room_tiles") } : { slots: i32(0), tiles: i32(0) },
    rows: taken,
  });
  const { batch, head, dilation: step, slot } = tile;
  const rowsAt = { batch, head, position: add(tile.rowStart, mul(slot, step)), step, count: tile.rows };
  const out = headRows("out", spec.heads, spec.headDim, rowsAt);
  const lse = headColumn("lse", spec.heads, rowsAt);
  // oxlint-disable-next-line unicorn/no-thenable
  const begin: Stmt<Tile> = { s: "if", cond: eq(ref("first"), i32(1)), then: empty, else: resume(out, lse) };
  const body = b.nested(() => {
    const ring = ringOf(I, spec, shape, tile, branch);
    const work = or(eq(ref("first"), i32(1)), hasWork(I, spec, tile, ring));
    const attend = b.nested(() =>
      attendAnnulus(b, I, { node, schedule, shape, kind, tile, branch, ring, begin: [begin], out, lse }),
    );
    b.push({ s: "if", cond: work, then: attend });
  });
  b.push({ s: "if", cond: lt(i32(0), tile.rows), then: body });

  const places = folds ? ["cell", "room_slots", "room_tiles"] : [];
  const scalars = ["N", "branch", "segment", "dilation", "first", ...places];
  const cutNames = Array.from({ length: cuts }, (_, i) => cutName(i));
  return {
    name: `${kernelName(node)}_annulus_${rows}x${keys}${folds ? "_folds" : ""}`,
    buffers: chainBuffers(false),
    scalars: [...scalars, ...cutNames].map((name) => ({ name, type: "i32" as const })),
    ...annulusParts(node, schedule, shape, kind),
    shared: [],
    workgroup: 1,
    body: b.out,
  };
}

/** Launches of an `annulus` schedule; `stored` is the storage of out. */
export function lowerAnnulus(
  node: AttentionWork,
  schedule: Schedule,
  stored: Dtype = "f32",
): readonly Launch<TileKernel>[] {
  const { spec } = node;
  const rows = Math.min(
    ...spec.branches.map(({ dilation }) => rowsTogether(node, stored, schedule.rows, dilation)),
  );
  const shape = annulusShape(spec, rows);
  // Without a pair to share the passes are those of `branch`.
  if (!shape.linked) return lowerBranch(node, schedule, stored);
  const kinds = [false, true].map((folds) =>
    kindOf(
      shape.passes.filter((p) => p.folds === folds),
      folds,
      schedule.keys,
    ),
  );
  const kernels = kinds.map((kind) => annulusKernel(node, schedule, rows, shape, kind));
  const [first] = shape.passes;
  const started = first !== undefined && spec.branches[first.branch]?.dilation === 1;
  const passes = shape.passes.map((pass, index): ChainPass => {
    const { segment, dilation } = spec.branches[pass.branch] ?? { segment: Infinity, dilation: 1 };
    const kernel = kernels[Number(pass.folds)];
    if (kernel === undefined) throw new Error("heddle: internal: a pass without a kernel");
    const room = roomOf(spec, pass);
    const cuts = Array.from({ length: kinds[1]?.cuts ?? 0 }, (_, i) => [cutName(i), pass.cuts[i] ?? ALL]);
    return {
      title: branchTitle(pass.branch, { segment, dilation }),
      kernel,
      scalars: {
        branch: pass.branch,
        segment: segmentOf(segment),
        dilation,
        first: started && index === 0 ? 1 : 0,
        ...(pass.folds
          ? { cell: pass.cell, room_slots: room.slots, room_tiles: room.tiles, ...Object.fromEntries(cuts) }
          : {}),
      },
      grid: gridSize(spec, { kind: "annulus", rows }, pass.branch),
    };
  });
  return launchesOf(node, schedule.rows, stored, { mean: false, started, passes });
}
