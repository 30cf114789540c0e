/**
 * The operations of a program that decodes token by token: what a forward pass computes for all tokens at once, for one token of each
 * sequence at a position of its own, over a cache that stays on the device from run to run.
 *
 * Sequences stand at `place`, an input i32 [3, B]: their positions (tokens before the one of this run), their lanes in the cache, and the
 * tokens that a lane may have, the same for all.
 */
import type { Size } from "../kernel.ts";
import type { AttentionSpec } from "../spec.ts";
import type { FloatDtype } from "../storage.ts";
import type { ValueId } from "../graph.ts";

/**
 * What stays from run to run. Of an attention: [lanes, rows, 2, headDim], a key and a value for each row that `laneRows` of
 * `geometry/cache.ts` counts.
 */
export type GraphState = {
  readonly id: ValueId;
  readonly dtype: FloatDtype;
  /** With N the tokens that a lane may have, and B the lanes. */
  readonly elements: Size;
  /** Elements for each token of a cache that keeps them all. */
  readonly perToken: number;
};

/**
 * - rotate: `xpos` of one token of each sequence, x [B, 1, heads·headDim]; row b of `table` [B, headDim] is that of its position
 * - place: out[b] = x[b] + weight[position_b + first], x [B, 1, E]
 * - decode: stores k[b], v[b] [B, 1, kvHeads·headDim] as the token at position_b of lane_b, and attends with q[b] [B, 1, heads·headDim] to
 *   the tokens before it and itself, as `attention` of the whole sequence would in its last row
 * - remember: `out`, a state, becomes what a sequence of N tokens with k, v [B, N, kvHeads·headDim] leaves visible
 * - promote: to run before `decode` at a position where a segment ended that others' tokens lie in: moves those (see `moves`)
 */
export type DecodeNode =
  | {
      readonly op: "rotate";
      readonly out: ValueId;
      readonly x: ValueId;
      readonly table: ValueId;
      readonly heads: number;
      readonly headDim: number;
    }
  | {
      readonly op: "place";
      readonly out: ValueId;
      readonly x: ValueId;
      readonly weight: ValueId;
      readonly first: number;
      readonly place: ValueId;
    }
  | {
      readonly op: "decode";
      readonly out: ValueId;
      readonly q: ValueId;
      readonly k: ValueId;
      readonly v: ValueId;
      readonly place: ValueId;
      readonly state: ValueId;
      readonly spec: AttentionSpec;
      readonly decay?: { readonly base: number; readonly block: number };
    }
  | {
      readonly op: "remember";
      readonly out: ValueId;
      readonly k: ValueId;
      readonly v: ValueId;
      readonly place: ValueId;
      readonly spec: AttentionSpec;
    }
  | {
      readonly op: "promote";
      readonly out: ValueId;
      readonly place: ValueId;
      readonly spec: AttentionSpec;
    };
