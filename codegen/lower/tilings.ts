/** How many rows and columns a group works on: a target's choice, which never changes a result. */
import type { Dtype } from "../../src/kernel.ts";
import type { AttentionSpec } from "../../src/spec.ts";
import type { LinearTiling } from "./linear.ts";

export type RowwiseOp = "norm" | "pointwise" | "embed" | "xpos";

/**
 * How the operands of an attention are read. Slices let a tile of scores be far larger than the memory that lanes share would hold of
 * whole queries, keys and values; queries are then read again for every tile of keys.
 */
export type AttentionTiling = {
  /** Columns of queries and keys multiplied at once. */
  readonly depth: number;
  /** Rows of values read at once, a power of two; a tile of keys takes several where it has more. */
  readonly values: number;
};

export type Tilings = {
  /** Absent: whole rows, queries once. `stored` is the storage of queries, keys and values. */
  readonly attention?: (headDim: number, stored: Dtype) => AttentionTiling | undefined;
  readonly linear: LinearTiling;
  /** Of one token for each sequence, where only weights are large; `linear` unless given. */
  readonly step?: LinearTiling;
  /** Keys of a tile when one query attends; 32 unless given. */
  readonly decodeKeys?: (headDim: number) => number;
  /** Groups that share one query's keys; 1 unless given: where heads alone keep all processors busy. */
  readonly decodeParts?: (spec: AttentionSpec) => number;
  /** Rows of `width` elements that a group of a row-wise operation holds at once. */
  readonly rows: (op: RowwiseOp, width: number) => number;
};

/**
 * For one thread of a CPU. A panel of 256 × 8 weights is 8 KiB, a quarter of the first-level cache, and is used for all
 * 32 rows; 32 × 256 of x and the 32 × 128 accumulator are 48 KiB. Copying x costs one load and store of a vector per 128
 * multiply-adds of vectors. Twice or half of any of the three measured the same. A norm takes few enough rows that both tiles
 * of a wide model stay in the second-level cache.
 *
 * A step reads every weight once, from memory: panels are best read from end to end. In pieces of 512 a token of the paper's 125M model
 * takes 36 ms on one core, in whole ones 23; reading its 341 MB at half the speed of a copy would take 11.
 */
export const CPU_TILINGS: Tilings = {
  linear: { rows: 32, cols: 128, depth: 256 },
  step: { rows: 8, cols: 32, depth: 3072 },
  rows: (op) => (op === "norm" ? 8 : 16),
};
