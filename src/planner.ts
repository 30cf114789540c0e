/**
 * The planner: a pure function (Spec, N, target) → Schedule. It counts tiles with the geometry that the kernels run, on
 * at most a few hundred sampled groups, so that planning a billion tokens costs no more than planning a thousand; no mask
 * is ever materialised.
 */
import { sizeOf, type Size } from "../runtime/plan.ts";
import { branchTile, classShape, classTile, numbers, passKeys, segmentOf } from "./geometry.ts";
import {
  legal,
  tileBytes,
  type Limits,
  type Schedule,
  type ScheduleChoice,
  type ScheduleKind,
} from "./schedule.ts";
import type { AttentionShape, AttentionSpec } from "./spec.ts";

const size = (op: Exclude<Size, number | string>["op"], a: Size, b: Size): Size => ({ op, args: [a, b] });
const product = (...sizes: readonly Size[]): Size =>
  sizes.reduce((a, b) => (a === 1 ? b : b === 1 ? a : size("mul", a, b)), 1);

/** Groups of one launch as a formula of N and B; `branch` is the branch of a `branch` schedule's launch. */
export function gridSize(
  spec: AttentionShape,
  schedule: Pick<ScheduleChoice, "kind" | "rows">,
  branch: number,
): Size {
  if (schedule.kind === "class") {
    const shape = classShape(spec);
    const cell = size("min", shape.cell, "N");
    const tiles = size("ceilDiv", size("ceilDiv", cell, shape.lattice), schedule.rows);
    return product("B", spec.heads, size("ceilDiv", "N", cell), shape.cuts.length + 1, shape.lattice, tiles);
  }
  const { segment, dilation } = spec.branches[branch] ?? { segment: Infinity, dilation: 1 };
  const g = size("min", segmentOf(segment), "N");
  const tiles = size("ceilDiv", size("ceilDiv", g, dilation), schedule.rows);
  return product("B", spec.heads, size("ceilDiv", "N", g), tiles);
}

export const gridOf = (
  spec: AttentionShape,
  schedule: Pick<ScheduleChoice, "kind" | "rows">,
  branch: number,
  at: { readonly N: number; readonly B: number },
): number => sizeOf(gridSize(spec, schedule, branch), at);

/** The attended (query, key) pairs of the multiset, exactly. */
export type PairCount = {
  readonly total: bigint;
  readonly branches: readonly {
    readonly pairs: bigint;
    /** (head, row) pairs that the branch covers, of heads × N. */
    readonly rows: bigint;
  }[];
};

/** Pairs of one sequence of N tokens over all heads, in closed form: full segments are alike, the last may be shorter. */
export function countPairs(spec: AttentionShape, N: number): PairCount {
  const branches = spec.branches.map(({ segment, dilation }, b) => {
    const g = Math.min(segmentOf(segment), N);
    const full = Math.floor(N / g);
    const rest = N - full * g;
    let pairs = 0n;
    let rows = 0n;
    for (let h = 0; h < spec.heads; h++) {
      const offset = spec.offsets[b]?.[h] ?? 0;
      const real = (extent: number) => BigInt(Math.max(0, Math.ceil((extent - offset) / dilation)));
      const meet = (n: bigint) => (spec.causal ? (n * (n + 1n)) / 2n : n * n);
      const [inFull, inRest] = [real(g), real(rest)];
      pairs += BigInt(full) * meet(inFull) + meet(inRest);
      rows += BigInt(full) * inFull + inRest;
    }
    return { pairs, rows };
  });
  return { total: branches.reduce((sum, b) => sum + b.pairs, 0n), branches };
}

/** What a device can do, for the cost model. Times in nanoseconds, of one thread. */
export type Figures = {
  /** Multiply-adds per ns inside a tile product. */
  readonly macs: number;
  /** Elements per ns copied into a tile. */
  readonly copies: number;
  /** Exponentials per ns. */
  readonly exps: number;
  /** Fixed cost of a key tile, a group, a launch. */
  readonly keyTile: number;
  readonly group: number;
  readonly launch: number;
};

export type Target = {
  readonly name: string;
  readonly limits: Limits;
  readonly figures: Figures;
  /** Tile sizes worth trying for an attention, rows × keys. */
  readonly tiles: (spec: AttentionShape) => readonly (readonly [rows: number, keys: number])[];
};

export type Cost = {
  readonly groups: number;
  readonly launches: number;
  /** (query, key) products executed, padding of tiles included. */
  readonly executedPairs: number;
  /** Bytes of q, k, v, out and state read and written through the tiles. */
  readonly bytes: number;
  readonly ns: number;
};

const SAMPLES = 512;
const GOLDEN = (Math.sqrt(5) - 1) / 2;

/** Mean of `of` over 0 … count−1: exact for few, otherwise over golden-ratio samples, which no period of the geometry can alias. */
function meanOver(
  count: number,
  of: (index: number) => { keyTiles: number; rows: number },
): { keyTiles: number; rows: number } {
  const samples = Math.min(count, SAMPLES);
  let [keyTiles, rows] = [0, 0];
  for (let i = 0; i < samples; i++) {
    const index = count <= SAMPLES ? i : Math.floor((((i + 0.5) * GOLDEN) % 1) * count);
    const one = of(index);
    keyTiles += one.keyTiles;
    rows += one.rows;
  }
  return samples === 0 ? { keyTiles: 0, rows: 0 } : { keyTiles: keyTiles / samples, rows: rows / samples };
}

/** The modelled cost of one sequence of N tokens under a schedule. */
export function costOf(spec: AttentionShape, choice: ScheduleChoice, N: number, figures: Figures): Cost {
  const I = numbers(spec);
  const at = { N, B: 1 };
  const { rows, keys } = choice;
  const d = spec.headDim;
  const perKeyTile =
    (2 * rows * keys * d) / figures.macs +
    (2 * keys * d) / figures.copies +
    (rows * keys) / figures.exps +
    figures.keyTile;
  const perRowTile = (2 * rows * d) / figures.copies + figures.group;
  let [groups, launches, keyTiles, stateRows, ns] = [0, 0, 0, 0, 0];
  const launch = (
    count: number,
    of: (group: number) => { keyTiles: number; rows: number },
    state: number,
  ) => {
    const mean = meanOver(count, of);
    groups += count;
    launches += 1;
    keyTiles += mean.keyTiles * count;
    stateRows += mean.rows * count * state;
    // A group without rows returns at once; its share is what the sampled rows fill.
    const busy = count * Math.min(1, mean.rows / rows + (mean.rows > 0 ? 0.25 : 0));
    ns += mean.keyTiles * count * perKeyTile + busy * perRowTile + count * 4 + figures.launch;
  };
  if (choice.kind === "class") {
    const shape = classShape(spec);
    launch(
      gridOf(spec, choice, 0, at),
      (group) => {
        const tile = classTile(I, spec, shape, { group, N, rows });
        if (tile.rows === 0) return { keyTiles: 0, rows: 0 };
        let tiles = 0;
        tile.passes.forEach((pass, p) => {
          if (!pass.covers) return;
          const k = passKeys(I, spec, shape, tile, p);
          tiles += Math.ceil(k.before / keys) + Math.ceil((k.real - k.after) / keys);
        });
        return { keyTiles: tiles, rows: tile.rows };
      },
      1,
    );
  } else {
    spec.branches.forEach(({ segment, dilation }, branch) => {
      launch(
        gridOf(spec, choice, branch, at),
        (group) => {
          const tile = branchTile(I, spec, { group, N, branch, segment: segmentOf(segment), dilation, rows });
          return { keyTiles: tile.rows === 0 ? 0 : Math.ceil(tile.keys / keys), rows: tile.rows };
        },
        branch === 0 ? 1 : 2,
      );
    });
  }
  const bytes = 4 * (keyTiles * keys * d * 2 + stateRows * d * 2);
  return { groups, launches, executedPairs: keyTiles * rows * keys, bytes, ns };
}

export type Candidate = {
  readonly kind: ScheduleKind;
  readonly schedule: Schedule | null;
  readonly why: string;
  readonly cost: Cost | null;
};

export type Choice = { readonly chosen: Schedule; readonly candidates: readonly Candidate[] };

/** A user's wish for one attention: any part may be left open. */
export type Wish = { readonly kind?: ScheduleKind; readonly rows?: number; readonly keys?: number };

/** The best legal tile sizes of every kind at length N, and the cheapest of them all. Throws when a wish is not legal. */
export function choose(spec: AttentionSpec, N: number, target: Target, wish: Wish = {}): Choice {
  const kinds: readonly ScheduleKind[] = ["dense", "class", "branch", "annulus"];
  const sizes = target
    .tiles(spec)
    .map(([rows, keys]) => [wish.rows ?? rows, wish.keys ?? keys] as const)
    .filter(([rows, keys], i, all) => all.findIndex((t) => t[0] === rows && t[1] === keys) === i);
  // Where no tile of the list fits (very wide heads), the smallest one the target can address does.
  const fitting = sizes.filter(
    ([rows, keys]) => tileBytes(target.limits, spec, rows, keys) <= target.limits.sharedBytes,
  );
  const smallest = [wish.rows ?? target.limits.rowStep, wish.keys ?? target.limits.keyStep] as const;
  const candidates = kinds.map((kind): Candidate => {
    let best: Candidate | null = null;
    let why = "";
    for (const [rows, keys] of fitting.length > 0 ? fitting : [smallest]) {
      const verdict = legal(spec, { kind, rows, keys }, target.limits, N);
      if (!verdict.ok) {
        why = verdict.why;
        continue;
      }
      const cost = costOf(spec, verdict.schedule, N, target.figures);
      if (best?.cost == null || cost.ns < best.cost.ns)
        best = { kind, schedule: verdict.schedule, why: "", cost };
    }
    return best ?? { kind, schedule: null, why, cost: null };
  });
  const wanted = wish.kind === undefined ? candidates : candidates.filter((c) => c.kind === wish.kind);
  let chosen: Candidate | null = null;
  for (const c of wanted)
    if (c.schedule !== null && c.cost !== null && (chosen?.cost == null || c.cost.ns < chosen.cost.ns))
      chosen = c;
  if (chosen?.schedule == null)
    throw new Error(
      `schedule '${wish.kind ?? "any"}' cannot compute attention '${spec.name}': ${wanted.map((c) => c.why).join("; ")}`,
    );
  return { chosen: chosen.schedule, candidates };
}

export type LengthRange = { readonly upTo: number | null; readonly schedule: Schedule };

/** A cheaper schedule for the next longer lengths is only worth a further kernel from this gain on. */
const WORTH_A_KERNEL = 0.93;

/** Schedules by length, so that one artifact serves every N: chosen at powers of two, kept while within 7 % of the best. */
export function rangesOf(spec: AttentionSpec, target: Target, wish: Wish = {}): readonly LengthRange[] {
  // Beyond the longest segment every further segment repeats; past 2^20 only `segment all` still changes the balance.
  const lengths = Array.from({ length: 13 }, (_, i) => 2 ** (i + 8));
  const breaks = spec.branches.flatMap((b) =>
    Number.isFinite(b.segment) && b.segment % b.dilation !== 0 ? [b.segment] : [],
  );
  const points = [...new Set([...lengths, ...breaks])].sort((a, b) => a - b);
  const ranges: { upTo: number | null; schedule: Schedule }[] = [];
  points.forEach((point, i) => {
    const last = i === points.length - 1;
    const N = last ? 2 * point : point;
    const { chosen, candidates } = choose(spec, N, target, wish);
    const previous = ranges.at(-1);
    let schedule = chosen;
    if (previous !== undefined) {
      const { kind, rows, keys } = previous.schedule;
      if (legal(spec, { kind, rows, keys }, target.limits, N).ok) {
        const keep = costOf(spec, previous.schedule, N, target.figures).ns;
        const best = candidates.find((c) => c.schedule === chosen)?.cost?.ns ?? keep;
        if (best > keep * WORTH_A_KERNEL) schedule = previous.schedule;
      }
      if (schedule === previous.schedule) {
        previous.upTo = last ? null : point;
        return;
      }
    }
    ranges.push({ upTo: last ? null : point, schedule });
  });
  return ranges;
}
