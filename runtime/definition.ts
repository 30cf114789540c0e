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
  readonly program: Program;
};
