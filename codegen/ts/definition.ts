/** From a checked item and its program to what the runtime runs: for generated modules and, in memory, for the CLI. */
import type { AttentionDefinition, ModelDefinition, ModelOutput } from "../../runtime/definition.ts";
import type { AttentionSpec, ModelSpec } from "../../src/spec.ts";

export const attentionDefinition = (spec: AttentionSpec): Omit<AttentionDefinition, "program"> => {
  const { name, heads, headDim, kvHeads, causal } = spec;
  return { name, heads, headDim, kvHeads, causal };
};

export const modelDefinition = (
  spec: ModelSpec,
  hidden: NonNullable<ModelDefinition["hidden"]> = [],
): Omit<ModelDefinition, "program"> => {
  const { name, kind, input, vocab, dim, layers, positions } = spec;
  const output: ModelOutput = spec.head === "none" ? "out" : "logits";
  const definition = { name, kind, input, output, vocab, dim, layers, positions: positions?.rows ?? null };
  return hidden.length === 0 ? definition : { ...definition, hidden };
};
