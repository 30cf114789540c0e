/** What a generated module says of an attention or a model, besides the Program that runs it. */
import type { BufferRef, Program } from "./plan.ts";

export type AttentionDefinition<
  H extends number = number,
  D extends number = number,
  K extends number = number,
> = {
  readonly name: string;
  readonly heads: H;
  readonly headDim: D;
  readonly kvHeads: K;
  readonly causal: boolean;
  readonly program: Program;
};

/** What attention means, for what is computed from queries and keys on the host. */
export type AttentionMeaning = {
  readonly heads: number;
  readonly headDim: number;
  readonly kvHeads: number;
  readonly causal: boolean;
  /** `segment` null: the whole sequence. */
  readonly branches: readonly { readonly segment: number | null; readonly dilation: number }[];
  /** [branch][head] */
  readonly offsets: readonly (readonly number[])[];
  readonly padding: "masked" | "zero";
  readonly align: "segment" | "ceil";
  readonly combine: "softmax" | "mean";
  readonly scale: number;
  /** xPos' factor between blocks (src/graph.ts), which the queries and keys of a program do not hold. */
  readonly decay?: { readonly base: number; readonly block: number };
};

/** What `heddle/runtime/maps` needs of a model that was compiled with attention maps (`heddle compile --maps`). */
export type MapsDefinition = {
  /** Layers whose queries, keys and lse are outputs of the program, `q.3`, `k.3` and `lse.3` for layer 3; in order. */
  readonly layers: readonly number[];
  readonly attention: AttentionMeaning;
  /** The row that a pooled model gives. */
  readonly pool: "class" | "mean" | null;
  /**
   * Attention with keys and queries in each other's places and headDim + 4 numbers in a row: what sums the weights that reach a token.
   * Absent where the host has to (causal, `combine mean`, xPos: what a query attends is then not what attends it).
   */
  readonly relevance?: Program;
};

export type ModelInput = "tokens" | "features";
export type ModelOutput = "logits" | "out";

export type ModelDefinition<
  I extends ModelInput = ModelInput,
  O extends ModelOutput = ModelOutput,
  V extends number = number,
  E extends number = number,
> = {
  readonly name: string;
  readonly kind: "decoder" | "encoder";
  readonly input: I;
  readonly output: O;
  /** Rows of the embedding and of the head; 0 for a model without either. */
  readonly vocab: V;
  readonly dim: E;
  readonly layers: number;
  /** Rows of the learned positions, of which the first two are never read; null without them. */
  readonly positions: number | null;
  /** Learned positions begin at row 0 of their table, and there is one for each place: an input has as many tokens as there are rows. */
  readonly placed?: true;
  /** Numbers in a row of features where a linear layer takes them to `dim`. */
  readonly features?: number;
  /** Positions in a grid of cells × cells, each `tile` pixels wide: a pass takes coordinates. */
  readonly grid?: { readonly cells: number; readonly tile: number };
  /** A learned row stands before all others. */
  readonly classToken?: true;
  /** `zero`: padded tokens are cleared and stay (torchscale). Otherwise they are not run at all. */
  readonly padding?: "zero";
  /** One row comes out for each sequence. */
  readonly pooled?: true;
  /** Every layer's pooled row comes out too. */
  readonly states?: true;
  /** Outputs of the classifier on the pooled row. */
  readonly classes?: number;
  /** Where a program compiled with hidden values has them, embedding first. */
  readonly hidden?: readonly (BufferRef & { readonly in: "input" | "output" })[];
  /** Of a program compiled with attention maps. */
  readonly maps?: MapsDefinition;
  readonly program: Program;
};
