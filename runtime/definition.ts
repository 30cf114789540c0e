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
  /** Where a program compiled with hidden values has them, embedding first. */
  readonly hidden?: readonly (BufferRef & { readonly in: "input" | "output" })[];
  readonly program: Program;
};
