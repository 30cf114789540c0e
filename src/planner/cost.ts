/** What a schedule costs at a length: pairs counted exactly, tiles on samples of the groups, time by a device's figures. */
import type { ScheduleChoice } from "../schedule.ts";
import { segmentOf } from "../geometry.ts";
import type { AttentionShape } from "../spec.ts";
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

/** Mean over the groups of a launch: exact for few, otherwise over golden-ratio samples, which no period of the geometry can alias. */
function meanOf({ groups, of }: LaunchWork, most: number): GroupWork {
  const samples = Math.min(groups, most);
  let [keyTiles, rows] = [0, 0];
  for (let i = 0; i < samples; i++) {
    const one = of(groups <= most ? i : Math.floor((((i + 0.5) * GOLDEN) % 1) * groups));
    keyTiles += one.keyTiles;
    rows += one.rows;
  }
  return samples === 0 ? { keyTiles: 0, rows: 0 } : { keyTiles: keyTiles / samples, rows: rows / samples };
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
  const perRowTile = (2 * rows * d) / figures.copies + figures.group;
  const launches = launchesOf(spec, choice, N);
  // Errors of launches are independent, so several need fewer samples each.
  const samples = Math.ceil(SAMPLES / Math.sqrt(launches.length));
  let [groups, keyTiles, stateRows, ns] = [0, 0, 0, 0];
  launches.forEach((launch, index) => {
    const mean = meanOf(launch, samples);
    groups += launch.groups;
    keyTiles += mean.keyTiles * launch.groups;
    // Every launch but the first reads a state before it writes one.
    stateRows += mean.rows * launch.groups * (index === 0 ? 1 : 2);
    // A group without rows returns at once; its share is what the sampled rows fill.
    const busy = launch.groups * Math.min(1, mean.rows / rows + (mean.rows > 0 ? 0.25 : 0));
    const { weighing, finding } = launch.counting;
    const counting = (weighing + figures.sharing * finding) / figures.ops;
    ns += mean.keyTiles * launch.groups * (perKeyTile + counting);
    ns += busy * perRowTile + launch.groups * 4 + figures.launch;
  });
  const bytes = 4 * (keyTiles * keys * d * 2 + stateRows * d * 2);
  return { groups, launches: launches.length, executedPairs: keyTiles * rows * keys, bytes, ns };
}
