/**
 * A schedule says in which order and in which tiles the attended pairs of a Spec are computed. It stands beside the
 * program and can never change a result; `legal` says where it may be used.
 */
import { annulusShape, classShape, listPlaces, mergeShape, misaligned } from "./geometry.ts";
import type { AttentionShape } from "./spec.ts";

/**
 * `annulus` has a launch for each branch, which goes on with the state that the last one left; `annulus_list` has one launch of the same
 * tiles, the longest first, whose results a second one merges.
 */
export const scheduleKinds = ["branch", "class", "annulus", "annulus_list", "dense"] as const;
export type ScheduleKind = (typeof scheduleKinds)[number];

/** A wish: tile heights and widths may be left to the target. */
export type ScheduleChoice = { readonly kind: ScheduleKind; readonly rows: number; readonly keys: number };

declare const legalized: unique symbol;
/** A choice that `legal` accepted for one Spec and one target's limits. */
export type Schedule = ScheduleChoice & { readonly [legalized]: true };

export type Limits = {
  /** Bytes of shared memory a group may use; on a CPU what should stay in cache. */
  readonly sharedBytes: number;
  readonly workgroup: number;
  /** Granularity of tile heights and widths. */
  readonly rowStep: number;
  readonly keyStep: number;
  /** Bytes of the numbers that a kernel may look up; no limit unless given. */
  readonly tableBytes?: number;
  /**
   * Bytes of shared memory that the kernels of a schedule declare, of one whose branches allow it; `attentionSharedBytes` and what
   * `annulus` counts unless given.
   */
  readonly attentionBytes?: (spec: AttentionShape, choice: ScheduleChoice) => number;
};

export type Legality =
  { readonly ok: true; readonly schedule: Schedule } | { readonly ok: false; readonly why: string };

/** Bytes of the tiles Q, K, V, S, O and the row vectors of an attention kernel in f32, all in memory: on the `simd` machine. */
export const attentionSharedBytes = (spec: AttentionShape, rows: number, keys: number): number => {
  const depth = Math.ceil(spec.headDim / 8) * 8;
  return 4 * (2 * rows * depth + 2 * keys * depth + rows * keys + 4 * rows + keys);
};

/** Largest lattice of a class schedule or a merge: beyond it cells hold few rows of each class and lanes are wasted. */
const MAX_LATTICE = 512;
/** Passes are unrolled in a class kernel, and what an annulus pass counts of others too; more of them only make kernels large. */
const MAX_PASSES = 16;

const isAnnulus = (kind: ScheduleKind): boolean => kind === "annulus" || kind === "annulus_list";

/** With what rows and keys have of each path of an annulus pass. */
function tileBytes(limits: Limits, spec: AttentionShape, choice: ScheduleChoice): number {
  if (limits.attentionBytes !== undefined) return limits.attentionBytes(spec, choice);
  const { kind, rows, keys } = choice;
  const paths = isAnnulus(kind) ? annulusShape(spec, rows).terms : 0;
  return attentionSharedBytes(spec, rows, keys) + 4 * paths * (rows + keys);
}

/** Bytes of the tables that grow with heads and branches: offsets, and which branches an annulus pass counts. */
function lookedUpBytes(spec: AttentionShape, { kind, rows }: ScheduleChoice): number {
  const offsets = spec.heads * spec.branches.length;
  if (!isAnnulus(kind) || spec.branches.length > MAX_PASSES) return 4 * offsets;
  const shape = annulusShape(spec, rows);
  const places = kind === "annulus_list" ? [listPlaces(spec, shape)] : [];
  const tables = [...Object.values(shape.tables), ...places];
  return 4 * tables.reduce((sum, t) => sum + t.values.length, offsets);
}

/**
 * Whether a schedule may compute a Spec at length N (null: at every length) within the limits of a target.
 * The sentence of a refusal says what to do instead.
 */
export function legal(
  spec: AttentionShape,
  choice: ScheduleChoice,
  limits: Limits,
  N: number | null,
): Legality {
  const no = (why: string): Legality => ({ ok: false, why });
  const { kind, rows, keys } = choice;
  if (rows <= 0 || rows % limits.rowStep !== 0)
    return no(`rows must be a positive multiple of ${limits.rowStep}, found ${rows}`);
  if (keys <= 0 || keys % limits.keyStep !== 0)
    return no(`keys must be a positive multiple of ${limits.keyStep}, found ${keys}`);
  const lookedUp = limits.tableBytes === undefined ? 0 : lookedUpBytes(spec, choice);
  if (lookedUp > (limits.tableBytes ?? Infinity))
    return no(
      `'${kind}' looks up ${lookedUp} bytes for ${spec.heads} heads and ${spec.branches.length} branches, the target has ${limits.tableBytes}`,
    );
  switch (kind) {
    case "branch":
      break;
    case "dense": {
      const only = spec.branches.length === 1 ? spec.branches[0] : undefined;
      if (only === undefined || only.dilation !== 1 || Number.isFinite(only.segment))
        return no("'dense' computes one branch with 'segment all' and dilation 1");
      break;
    }
    case "class": {
      if (spec.combine === "mean")
        return no("'class' continues one softmax over all branches; 'combine mean' has one for each");
      if (
        misaligned(spec) &&
        (N === null || spec.branches.some((b) => b.segment % b.dilation !== 0 && b.segment < N))
      )
        return no(
          "with 'align ceil' a dilation that does not divide its segment moves rows, so branches no longer share queries",
        );
      const { lattice } = classShape(spec);
      if (lattice > MAX_LATTICE)
        return no(`the dilations' least common multiple ${lattice} exceeds ${MAX_LATTICE}`);
      if (spec.branches.length > MAX_PASSES)
        return no(`${spec.branches.length} branches exceed ${MAX_PASSES} passes`);
      break;
    }
    case "annulus":
    case "annulus_list": {
      if (spec.combine === "mean")
        return no(
          `'${kind}' counts a pair of several branches in one of them; 'combine mean' weighs each branch by itself`,
        );
      if (spec.branches.length > MAX_PASSES)
        return no(`${spec.branches.length} branches exceed ${MAX_PASSES} passes`);
      if (kind === "annulus_list" && mergeShape(spec).lattice > MAX_LATTICE)
        return no(
          `rows are merged by their place modulo the dilations' least common multiple, ${mergeShape(spec).lattice}, which exceeds ${MAX_LATTICE}; use 'annulus'`,
        );
      break;
    }
  }
  // What a kernel takes is only known of one that can be made.
  const bytes = tileBytes(limits, spec, choice);
  if (bytes > limits.sharedBytes)
    return no(
      `tiles of ${rows} rows × ${keys} keys need ${bytes} bytes, the target has ${limits.sharedBytes}`,
    );
  return { ok: true, schedule: choice as Schedule };
}
