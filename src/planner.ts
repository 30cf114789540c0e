/**
 * The planner: a pure function (Spec, N, target) → Schedule. It counts tiles with the geometry that the kernels run, on
 * at most a few hundred sampled groups, so that planning a billion tokens costs no more than planning a thousand; no mask
 * is ever materialised.
 */
import { costOf, type Cost, type Figures } from "./planner/cost.ts";
import { legal, type Limits, type Schedule, type ScheduleKind } from "./schedule.ts";
import type { AttentionShape, AttentionSpec } from "./spec.ts";

export { costOf, countPairs, executedPairs } from "./planner/cost.ts";
export type { Cost, Figures, PairCount } from "./planner/cost.ts";
export { gridOf, gridSize, listPasses, listPassesAt, mergeGrid, mergeRows } from "./planner/grid.ts";

export type Target = {
  readonly name: string;
  readonly limits: Limits;
  /** For a spec: operands of 16 bits may go through other units. */
  readonly figures: (spec: AttentionShape) => Figures;
  /** Schedules that are taken only where a wish names them. */
  readonly unplanned?: readonly ScheduleKind[];
  /** Tile sizes worth trying for an attention under a schedule, rows × keys. */
  readonly tiles: (
    spec: AttentionShape,
    kind: ScheduleKind,
  ) => readonly (readonly [rows: number, keys: number])[];
  /** Why a schedule is only taken where it is asked for by name; null where it is planned. */
  readonly against?: (spec: AttentionShape, kind: ScheduleKind) => string | null;
};

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
  return choice(spec, N, target, wish, KINDS);
}

const KINDS: readonly ScheduleKind[] = ["dense", "class", "branch", "annulus", "annulus_list"];
const planned =
  (target: Target, wish: Wish) =>
  (kind: ScheduleKind): boolean =>
    wish.kind === undefined ? target.unplanned?.includes(kind) !== true : kind === wish.kind;

/** Of some kinds only: what nobody will choose need not be counted. */
function choice(
  spec: AttentionSpec,
  N: number,
  target: Target,
  wish: Wish,
  kinds: readonly ScheduleKind[],
): Choice {
  const sizes = (kind: ScheduleKind) =>
    target
      .tiles(spec, kind)
      .map(([rows, keys]) => [wish.rows ?? rows, wish.keys ?? keys] as const)
      .filter(([rows, keys], i, all) => all.findIndex((t) => t[0] === rows && t[1] === keys) === i);
  // Where no tile of the list fits (very wide heads), the smallest one the target can address does.
  const smallest = [wish.rows ?? target.limits.rowStep, wish.keys ?? target.limits.keyStep] as const;
  const candidates = kinds.map((kind): Candidate => {
    let best: Candidate = { kind, schedule: null, why: "", cost: null };
    const against = wish.kind === kind ? null : (target.against?.(spec, kind) ?? null);
    if (against !== null) return { ...best, why: against };
    const consider = ([rows, keys]: readonly [number, number]): void => {
      const verdict = legal(spec, { kind, rows, keys }, target.limits, N);
      if (!verdict.ok) {
        if (best.schedule === null) best = { ...best, why: verdict.why };
        return;
      }
      const cost = costAt(spec, verdict.schedule, N, target);
      if (best.cost === null || cost.ns < best.cost.ns)
        best = { kind, schedule: verdict.schedule, why: "", cost };
    };
    sizes(kind).forEach(consider);
    if (best.schedule === null) consider(smallest);
    return best;
  });
  const eligible = planned(target, wish);
  const wanted = candidates.filter((c) => eligible(c.kind));
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

/** Costs of schedules at lengths, by attention: the variants of a target have the same figures, and ranges keep what they had. */
const remembered = new WeakMap<AttentionSpec, Map<string, Cost>>();

function costAt(spec: AttentionSpec, schedule: Schedule, N: number, target: Target): Cost {
  const figures = target.figures(spec);
  const { kind, rows, keys } = schedule;
  const key = JSON.stringify([kind, rows, keys, N, figures]);
  const known = remembered.get(spec) ?? new Map<string, Cost>();
  remembered.set(spec, known);
  const cost = known.get(key) ?? costOf(spec, schedule, N, figures);
  known.set(key, cost);
  return cost;
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
  const kinds = KINDS.filter(planned(target, wish));
  const ranges: { upTo: number | null; schedule: Schedule }[] = [];
  points.forEach((point, i) => {
    const last = i === points.length - 1;
    const N = last ? 2 * point : point;
    const { chosen, candidates } = choice(spec, N, target, wish, kinds);
    const previous = ranges.at(-1);
    let schedule = chosen;
    if (previous !== undefined) {
      const { kind, rows, keys } = previous.schedule;
      if (legal(spec, { kind, rows, keys }, target.limits, N).ok) {
        const keep = costAt(spec, previous.schedule, N, target).ns;
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
