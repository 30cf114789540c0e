/** A checked spec as text, with every default spelled out. */
import type { AttentionShape, ModelShape, ScheduleHint, Spec } from "../spec.ts";

const block = (head: string, lines: readonly string[]) => [head, ...lines.map((l) => `  ${l}`)].join("\n");

export const showSpec = (s: Spec): string =>
  [...s.attentions.map(showAttention), ...s.models.map(showModel), ...s.schedules.map(showHint)].join(
    "\n\n",
  ) + "\n";

export const showAttention = (a: AttentionShape): string =>
  block(`attention ${a.name}`, [
    `heads ${a.heads}  head_dim ${a.headDim}  kv_heads ${a.kvHeads}  causal ${a.causal}  dtype ${a.dtype}  scale ${a.scale}`,
    ...a.branches.map((b, i) => {
      const segment = b.segment === Infinity ? "all" : b.segment;
      return `branch segment ${segment}  dilation ${b.dilation}  offsets ${(a.offsets[i] ?? []).join(" ")}`;
    }),
    `padding ${a.padding}  align ${a.align}  combine ${a.combine}  gradient ${a.gradient}`,
  ]);

export const showModel = (m: ModelShape): string =>
  block(`model ${m.name}`, [
    `kind ${m.kind}  input ${m.input}  vocab ${m.vocab}  dim ${m.dim}  layers ${m.layers}`,
    `ffn ${m.ffn.dim} ${m.ffn.activation}  norm ${m.norm}  eps ${m.eps}  final_norm ${m.finalNorm}`,
    `attention ${m.attention.name}`,
    `xpos ${m.xpos === null ? "none" : `base ${m.xpos.base}`}  positions ${m.positions === null ? "none" : m.positions.rows}`,
    `embed_scale ${m.embedScale}  embed_norm ${m.embedNorm}  head ${m.head}`,
    ...encoderLines(m),
  ]);

/** What slide and image encoders have; nothing of a model that has none of it. */
function encoderLines({ patchEmbed, grid, classToken, pool, checkpoint }: ModelShape): readonly string[] {
  const front = [
    ...(patchEmbed === null ? [] : [`patch_embed ${patchEmbed}`]),
    ...(grid === null ? [] : [`grid ${grid.cells} tile ${grid.tile}`]),
    ...(classToken ? ["class_token true"] : []),
    ...(checkpoint === "torchscale" ? [] : [`checkpoint ${checkpoint}`]),
  ];
  const back =
    pool === null
      ? []
      : [
          `pool ${pool.of}  pool_eps ${pool.eps}  states ${pool.states ? "all" : "none"}  classes ${pool.classes}`,
        ];
  return [...(front.length === 0 ? [] : [front.join("  ")]), ...back];
}

const showHint = (h: ScheduleHint): string =>
  block(
    `schedule ${h.attention} on ${h.target}`,
    (["kind", "rows", "keys"] as const).flatMap((k) => (h[k] === undefined ? [] : [`${k} ${h[k]}`])),
  );
