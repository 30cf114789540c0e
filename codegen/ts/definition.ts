/** From a checked item and its program to what the runtime runs: for generated modules and, in memory, for the CLI. */
import type { AttentionDefinition, ModelDefinition, ModelOutput } from "../../runtime/definition.ts";
import { masks, outputOf } from "../../src/model.ts";
import type { AttentionSpec, ModelSpec } from "../../src/spec.ts";

export const attentionDefinition = (spec: AttentionSpec): Omit<AttentionDefinition, "program"> => {
  const { name, heads, headDim, kvHeads, causal } = spec;
  return { name, heads, headDim, kvHeads, causal };
};

export const modelDefinition = (
  spec: ModelSpec,
  hidden: NonNullable<ModelDefinition["hidden"]> = [],
): Omit<ModelDefinition, "program"> => {
  const { name, kind, input, vocab, dim, layers, positions, patchEmbed, grid, pool } = spec;
  const output: ModelOutput = outputOf(spec);
  const definition = {
    name,
    kind,
    input,
    output,
    vocab,
    dim,
    layers,
    positions: positions?.rows ?? null,
    ...(positions !== null && spec.checkpoint === "longvit" ? { placed: true as const } : {}),
    ...(patchEmbed === null ? {} : { features: patchEmbed }),
    ...(grid === null ? {} : { grid }),
    ...(spec.classToken ? { classToken: true as const } : {}),
    ...(masks(spec) ? { padding: "zero" as const } : {}),
    ...(pool === null ? {} : { pooled: true as const }),
    ...(pool?.states === true ? { states: true as const } : {}),
    ...(pool === null || pool.classes === 0 ? {} : { classes: pool.classes }),
  };
  return hidden.length === 0 ? definition : { ...definition, hidden };
};
