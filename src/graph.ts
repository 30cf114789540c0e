/**
 * The graph of a program: SSA over about a dozen operations. Every value is a dtype and a shape; a shape holds numbers
 * and at most the symbols N (tokens per sequence) and B (batch). Weights carry their checkpoint names.
 */
import type { DecodeNode, GraphState } from "./graph/decode.ts";
import type { AttentionSpec } from "./spec.ts";
import type { FloatDtype } from "./storage.ts";

export type Dim = number | "N" | "B";
/** A value by its position of definition: inputs, weights and node outputs share one namespace of ids. */
export type ValueId = string;
export type Value = {
  readonly id: ValueId;
  /** Storage: what is computed from a 16-bit value is computed in f32. */
  readonly dtype: FloatDtype | "i32";
  readonly shape: readonly Dim[];
};

export type Activation = "gelu" | "relu" | "swish";

/**
 * Node kinds and their meanings (x [B, N, E] unless said):
 * - embed: out[b, n] = weight[tokens[b, n]] · scale
 * - position: out[b, n] = x[b, n] + weight[n + first] (fairseq's learned positions start at row 2, LongViT's at 0)
 * - grid: out[b, n] = x[b, n] + (T[rows[b, n]], T[columns[b, n]]), the two halves of 2-D sin-cos positions; T [cells, E/2] holds for p < cells
 *   sin(p·ω_k), then cos(p·ω_k), ω_k = 10000^(−4k/E), k < E/4, made in f64 and rounded to f32 (Prov-GigaPath's `pos_embed`)
 * - class_token: out[b, 0] = weight, out[b, n] = x[b, n] for n ≥ 1; what x has in row 0 does not matter
 * - mask: out[b, n] = mask[b, n] = 0 ? x[b, n] : 0
 * - pool: out[b] = x[b, 0] (`class`), or the mean of x[b, n] over n ≥ from (`mean`)
 * - norm: layer norm over the last axis with weight, bias, eps
 * - linear: out = x Wᵀ + bias; optionally act(·), then + alpha · residual (the last two are filled in by `codegen/fuse`)
 * - activate: gelu (exact erf), relu or swish
 * - add: out = x + alpha · residual
 * - xpos: rotates the pairs (2i, 2i+1) of each head of x [B, N, heads·headDim] by the angle n · 10000^(−2i/headDim) and
 *   multiplies by ζ_i^(sign · (n mod block) / base), ζ_i = (2i + 0.4 D) / (1.4 D). With `attention.decay` of the same base and
 *   block the product q·k equals torchscale's XPOS at every length, and no factor leaves ±ζ^(block/base): nothing overflows.
 * - attention: q [B, N, heads·headDim], k, v [B, N, kvHeads·headDim] → out like q, lse [B, heads, N] (natural log of the
 *   union sum, −∞ where no branch covers a row). With `decay`, dimension pair i of q_m·k_n is multiplied by
 *   ζ_i^((⌊m/block⌋ − ⌊n/block⌋) · block / base), m and n the token positions of query and key.
 * Those of decoding: see graph/decode.ts.
 */
export type Node =
  | DecodeNode
  | {
      readonly op: "embed";
      readonly out: ValueId;
      readonly tokens: ValueId;
      readonly weight: ValueId;
      readonly scale: number;
    }
  | {
      readonly op: "position";
      readonly out: ValueId;
      readonly x: ValueId;
      readonly weight: ValueId;
      readonly first: number;
    }
  | {
      readonly op: "grid";
      readonly out: ValueId;
      readonly x: ValueId;
      readonly rows: ValueId;
      readonly columns: ValueId;
      readonly cells: number;
    }
  | { readonly op: "class_token"; readonly out: ValueId; readonly x: ValueId; readonly weight: ValueId }
  | { readonly op: "mask"; readonly out: ValueId; readonly x: ValueId; readonly mask: ValueId }
  | {
      readonly op: "pool";
      readonly out: ValueId;
      readonly x: ValueId;
      readonly of: "class" | "mean";
      readonly from: number;
    }
  | {
      readonly op: "norm";
      readonly out: ValueId;
      readonly x: ValueId;
      readonly weight: ValueId;
      readonly bias: ValueId;
      readonly eps: number;
    }
  | {
      readonly op: "linear";
      readonly out: ValueId;
      readonly x: ValueId;
      readonly weight: ValueId;
      readonly bias?: ValueId;
      readonly activation?: Activation;
      readonly residual?: { readonly x: ValueId; readonly alpha: number };
    }
  | { readonly op: "activate"; readonly out: ValueId; readonly x: ValueId; readonly activation: Activation }
  | {
      readonly op: "add";
      readonly out: ValueId;
      readonly x: ValueId;
      readonly residual: ValueId;
      readonly alpha: number;
    }
  | {
      readonly op: "xpos";
      readonly out: ValueId;
      readonly x: ValueId;
      readonly heads: number;
      readonly headDim: number;
      readonly base: number;
      readonly block: number;
      readonly sign: 1 | -1;
    }
  | {
      readonly op: "attention";
      readonly out: ValueId;
      readonly lse: ValueId;
      readonly q: ValueId;
      readonly k: ValueId;
      readonly v: ValueId;
      readonly spec: AttentionSpec;
      readonly decay?: { readonly base: number; readonly block: number };
    };
export type GraphOp = Node["op"];

export type Weight = Omit<Value, "shape"> & {
  /** Name in a torchscale checkpoint. */
  readonly name: string;
  readonly shape: readonly number[];
};

export type Graph = {
  readonly name: string;
  readonly inputs: readonly (Value & { readonly name: string })[];
  readonly weights: readonly Weight[];
  /** Other names under which a checkpoint may carry the same tensor (tied heads): alias → name of the weight used. */
  readonly aliases: readonly { readonly alias: string; readonly of: string }[];
  /** Buffers of a checkpoint that are known and not needed (`xpos.scale`): accepted, with their shapes checked. */
  readonly ignored: readonly { readonly name: string; readonly shape: readonly number[] }[];
  readonly values: readonly Value[];
  /** In order of execution; every argument is defined before it is used. */
  readonly nodes: readonly Node[];
  /** Named results: `logits` or `out`, `lse`, … `hidden` lists embedding output and each layer's output. */
  readonly outputs: readonly { readonly name: string; readonly value: ValueId }[];
  readonly hidden: readonly ValueId[];
  /** What nodes change in place and what stays for later runs, under ids of its own. */
  readonly states?: readonly GraphState[];
};

/**
 * Tokens per block of xPos' local scale: the largest power of two ≤ 32·base, or ≤ 4·base where q and k may be stored in f16. As
 * ζ ≥ 0.4/1.4, a key is scaled by at most ζ^−32 = 2.6e17, far inside f32 and bf16, or by ζ^−4 = 150, which leaves keys up to 436
 * inside f16. The product of a visible causal pair stays ≤ 1, and the choice never changes it.
 */
export const xposBlock = (base: number, dtype: FloatDtype): number =>
  2 ** Math.max(0, Math.floor(Math.log2((dtype === "f16" ? 4 : 32) * base)));
