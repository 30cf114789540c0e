/** What the geometry counts with: numbers, or the expressions of a kernel. */
import type { AttentionShape } from "../spec.ts";

/** A table that is known when a kernel is made. */
export type Lookup = { readonly name: string; readonly values: readonly number[] };

/** Integer arithmetic over T with conditions C. `div` and `rem` take a ≥ 0, b > 0. */
export type Integers<T, C> = {
  readonly of: (n: number) => T;
  readonly add: (a: T, b: T) => T;
  readonly sub: (a: T, b: T) => T;
  readonly mul: (a: T, b: T) => T;
  readonly div: (a: T, b: T) => T;
  readonly rem: (a: T, b: T) => T;
  readonly min: (a: T, b: T) => T;
  readonly max: (a: T, b: T) => T;
  readonly eq: (a: T, b: T) => C;
  readonly lt: (a: T, b: T) => C;
  readonly and: (a: C, b: C) => C;
  readonly not: (a: C) => C;
  readonly select: (c: C, yes: T, no: T) => T;
  readonly truth: (value: boolean) => C;
  /** offsets[branch][head] of the Spec. */
  readonly offset: (branch: T, head: T) => T;
  readonly look: (table: Lookup, index: T) => T;
  /** Names a value that is used more than once. */
  readonly share: (name: string, value: T) => T;
  readonly shareCondition: (name: string, value: C) => C;
};

export const numbers = (spec: AttentionShape): Integers<number, boolean> => ({
  of: (n) => n,
  add: (a, b) => a + b,
  sub: (a, b) => a - b,
  mul: (a, b) => a * b,
  div: (a, b) => Math.floor(a / b),
  rem: (a, b) => a % b,
  min: Math.min,
  max: Math.max,
  eq: (a, b) => a === b,
  lt: (a, b) => a < b,
  and: (a, b) => a && b,
  not: (a) => !a,
  select: (c, yes, no) => (c ? yes : no),
  truth: (value) => value,
  offset: (branch, head) => spec.offsets[branch]?.[head] ?? 0,
  look: ({ name, values }, index) => {
    const value = values[index];
    if (value === undefined) throw new Error(`heddle: internal: '${name}' has no element ${index}`);
    return value;
  },
  share: (_, value) => value,
  shareCondition: (_, value) => value,
});

/** Whether some branch of an `align ceil` spec scatters its rows away from its queries (semantics.md 1.2) once N exceeds a segment. */
export const misaligned = (spec: AttentionShape): boolean =>
  spec.align === "ceil" &&
  spec.branches.some((b) => Number.isFinite(b.segment) && b.segment % b.dilation !== 0);

/** Segments longer than any sequence stand for `all` in i32 arithmetic; lengths stay below this. */
export const ALL = 0x3fffffff;
export const segmentOf = (segment: number): number =>
  Number.isFinite(segment) ? Math.min(segment, ALL) : ALL;

export const ceilDiv = <T, C>(I: Integers<T, C>, a: T, b: T): T => I.div(I.add(a, I.sub(b, I.of(1))), b);
/** Terms m ≥ 0 with m·step < extent, for any extent. */
export const termsBelow = <T, C>(I: Integers<T, C>, extent: T, step: T): T =>
  ceilDiv(I, I.max(extent, I.of(0)), step);
