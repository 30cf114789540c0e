/** What a schedule costs at a length: pairs counted exactly, tiles on samples of the groups, time by a device's figures. */
import type { ScheduleChoice } from "../schedule.ts";
import { segmentOf } from "../geometry.ts";
import type { AttentionShape } from "../spec.ts";
import { storedAs } from "../storage.ts";
import { launchesOf, type GroupWork, type LaunchWork } from "./grid.ts";

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
  /** Operations per ns on the elements of a tile, one by one. */
  readonly ops: number;
  /** Lanes that hold the same key, each of which does for itself what is done for keys. */
  readonly sharing: number;
  /** Fixed cost of a key tile, a group, a launch. */
  readonly keyTile: number;
  readonly group: number;
  readonly launch: number;
  /** Groups that run side by side and share what the figures above say; 1 unless given. */
  readonly atOnce?: number;
  /** Whether results have 16 bits where a spec asks for it, so that a state that launches resume must lie beside them. */
  readonly narrow?: boolean;
};

export type Cost = {
  readonly groups: number;
  readonly launches: number;
  /** (query, key) products executed, padding of tiles included. */
  readonly executedPairs: number;
  /** Bytes of q, k, v, out and state read and written through the tiles. */
  readonly bytes: number;
  /** Times that all groups which run side by side are replaced by the next ones, over all launches. */
  readonly waves: number;
  readonly ns: number;
};

/** Fixed cost of a group that finds nothing to do, in nanoseconds. */
const EMPTY_GROUP = 4;
const SAMPLES = 512;
const GOLDEN = (Math.sqrt(5) - 1) / 2;

/** Errors of launches, or of parts of one, are independent, so several need fewer samples each. */
const sampled = (launches: number, most: number): number => Math.ceil(most / Math.sqrt(launches));
const LONE = { state: "begun", longestFirst: false, counting: { weighing: 0, finding: 0 } } as const;
const IDLE: Required<GroupWork> = { keyTiles: 0, rows: 0, parts: 0 };

/** Mean over the groups of a launch: exact for few, otherwise over golden-ratio samples, which no period of the geometry can alias. */
function meanOf({ groups, of, parts }: LaunchWork, most: number): Required<GroupWork> {
  if (parts !== undefined) {
    const samples = sampled(parts.length, most);
    const each = parts.map((part) => ({
      share: part.groups / groups,
      mean: meanOf({ ...LONE, ...part }, samples),
    }));
    const over = (what: keyof GroupWork) =>
      each.reduce((sum, { share, mean }) => sum + share * mean[what], 0);
    return { keyTiles: over("keyTiles"), rows: over("rows"), parts: over("parts") };
  }
  const samples = Math.min(groups, most);
  let [keyTiles, rows, merged] = [0, 0, 0];
  for (let i = 0; i < samples; i++) {
    const one = of(groups <= most ? i : Math.floor((((i + 0.5) * GOLDEN) % 1) * groups));
    keyTiles += one.keyTiles;
    rows += one.rows;
    merged += one.parts ?? 0;
  }
  if (samples === 0) return IDLE;
  return { keyTiles: keyTiles / samples, rows: rows / samples, parts: merged / samples };
}

/** Groups looked at of those that a longest-first launch ends with. */
const ENDS = 8;

/**
 * How long `ns` of work take on processors of which each runs one group of a launch at a time. Groups of equal length leave some idle in
 * the last wave; those of a launch that ends with its shortest, for half of such a one, but it never ends before its first.
 */
function withTail(
  launch: LaunchWork,
  { ns, busy, atOnce }: { readonly ns: number; readonly busy: number; readonly atOnce: number },
  nsOf: (work: GroupWork) => number,
): number {
  if (atOnce <= 1 || busy <= 0) return ns;
  if (!launch.longestFirst) return ns * ((Math.ceil(busy / atOnce) * atOnce) / busy);
  const last = Math.min(launch.groups, atOnce);
  let ends = 0;
  for (let i = 0; i < ENDS; i++) ends += nsOf(launch.of(launch.groups - 1 - Math.floor((i * last) / ENDS)));
  return Math.max(ns + ((ends / ENDS) * atOnce) / 2, nsOf(launch.of(0)) * atOnce);
}

/** (query, key) products that the tiles of a schedule compute over one sequence, padding included: exactly, in time that grows with N. */
export const executedPairs = (spec: AttentionShape, choice: ScheduleChoice, N: number): number =>
  launchesOf(spec, choice, N).reduce(
    (sum, launch) =>
      sum + Math.round(meanOf(launch, Infinity).keyTiles * launch.groups) * choice.rows * choice.keys,
    0,
  );

/** The modelled cost of one sequence of N tokens under a schedule. */
export function costOf(spec: AttentionShape, choice: ScheduleChoice, N: number, figures: Figures): Cost {
  const { rows, keys } = choice;
  const d = spec.headDim;
  const perKeyTile =
    (2 * rows * keys * d) / figures.macs +
    (2 * keys * d) / figures.copies +
    (rows * keys) / figures.exps +
    figures.keyTile;
  const launches = launchesOf(spec, choice, N, figures.narrow === true && storedAs(spec.dtype, d) !== "f32");
  const samples = sampled(launches.length, SAMPLES);
  const { copies, atOnce = 1 } = figures;
  let [groups, keyTiles, moved, waves, ns] = [0, 0, 0, 0, 0];
  for (const launch of launches) {
    const { weighing, finding } = launch.counting;
    const counting = (weighing + figures.sharing * finding) / figures.ops;
    /** Rows of headDim that are read and written besides keys and values: queries, the state before, the result. */
    const rowsMoved = (work: GroupWork): number =>
      (work.parts ?? 0) + work.rows * { begun: 2, resumed: 3, written: 1 }[launch.state];
    // A group without rows returns at once; the share of the others is what the sampled rows fill.
    const share = (work: GroupWork) => Math.min(1, work.rows / rows + (work.rows > 0 ? 0.25 : 0));
    const nsOf = (work: GroupWork): number =>
      work.keyTiles * (perKeyTile + counting) +
      (rowsMoved(work) * d) / copies +
      share(work) * figures.group +
      EMPTY_GROUP;
    const mean = meanOf(launch, samples);
    const busy = launch.groups * (launch.state === "written" ? 1 : share(mean));
    groups += launch.groups;
    keyTiles += mean.keyTiles * launch.groups;
    moved += rowsMoved(mean) * launch.groups;
    waves += Math.ceil(busy / atOnce);
    ns += figures.launch + withTail(launch, { ns: nsOf(mean) * launch.groups, busy, atOnce }, nsOf);
  }
  const bytes = 4 * d * (2 * keyTiles * keys + moved);
  return { groups, launches: launches.length, executedPairs: keyTiles * rows * keys, bytes, waves, ns };
}
