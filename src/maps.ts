/** What a model compiled with attention maps has besides its own graph. */
import type { AttentionMeaning, MapsDefinition } from "../runtime/definition.ts";
import type { Program } from "../runtime/plan.ts";
import { xposBlock } from "./graph.ts";
import type { Graph } from "./graph.ts";
import type { AttentionSpec, ModelSpec } from "./spec.ts";

/** Layers whose attention is kept, in order. */
export const mappedLayers = (spec: ModelSpec, wanted: true | readonly number[]): readonly number[] =>
  wanted === true
    ? Array.from({ length: spec.layers }, (_, layer) => layer)
    : [...new Set(wanted)].filter((layer) => layer < spec.layers).sort((a, b) => a - b);

/** Makes queries and keys as attention takes them, and lse, outputs of the graph: `q.L`, `k.L` and `lse.L` of layer L. */
export function withMaps(graph: Graph, layers: readonly number[]): Graph {
  const attentions = graph.nodes.flatMap((node) => (node.op === "attention" ? [node] : []));
  const outputs = layers.flatMap((layer) => {
    const node = attentions[layer];
    if (node === undefined) throw new Error(`heddle: internal: '${graph.name}' has no layer ${layer}`);
    return (["q", "k", "lse"] as const).map((name) => ({ name: `${name}.${layer}`, value: node[name] }));
  });
  return { ...graph, outputs: [...graph.outputs, ...outputs] };
}

/** The attention of a model as the host computes single queries of it. */
function meaningOf({ attention, xpos }: ModelSpec): AttentionMeaning {
  const { heads, headDim, kvHeads, causal, branches, offsets, padding, align, combine, scale, dtype } =
    attention;
  return {
    heads,
    headDim,
    kvHeads,
    causal,
    branches: branches.map(({ segment, dilation }) => ({
      segment: Number.isFinite(segment) ? segment : null,
      dilation,
    })),
    offsets,
    padding,
    align,
    combine,
    scale,
    ...(xpos === null ? {} : { decay: { base: xpos.base, block: xposBlock(xpos.base, dtype) } }),
  };
}

/** What the runtime needs besides the program of the model. */
export const mapsDefinition = (
  spec: ModelSpec,
  wanted: true | readonly number[],
  relevance: Program | undefined,
): MapsDefinition => ({
  layers: mappedLayers(spec, wanted),
  attention: meaningOf(spec),
  pool: spec.pool?.of ?? null,
  ...(relevance === undefined ? {} : { relevance }),
});

/** Columns added to the queries and keys of `relevanceOf`: one that is used, in whole vectors. */
const ADDED = 4;
/** The widest head that kernels are made for. */
const WIDEST = 256;

/**
 * The attention that sums, for every token j, the weights r_i · A_ij with which queries i attend it: keys stand for queries and the
 * other way round, which sees the same pairs, equally often, where attention is symmetric. An added column turns the score s_ij into
 * s_ij − lse_i = log of the weight, so nothing leaves f32. Null where it is not symmetric.
 */
export function relevanceOf({ attention, xpos }: ModelSpec): AttentionSpec | null {
  const { causal, combine, branches, headDim, heads } = attention;
  if (causal || xpos !== null || headDim + ADDED > WIDEST) return null;
  if (combine === "mean" && branches.length > 1) return null;
  return {
    ...attention,
    name: `${attention.name}_relevance`,
    kvHeads: heads,
    headDim: headDim + ADDED,
    // A phantom key has no row whose weight it could be.
    padding: "masked" as const,
    // The runtime uses it at lengths where `ceil` moves no row.
    align: "segment" as const,
    dtype: "f32" as const,
  };
}
