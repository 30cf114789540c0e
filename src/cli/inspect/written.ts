/** A checked item back in the language, with everything said that its author may have left out. */
import { print } from "../../../grammar/index.ts";
import type * as Ast from "../../ast.ts";
import type { AttentionSpec, ModelSpec, Spec } from "../../spec.ts";

const span: Ast.Span = { path: "inspect" };
const name = (text: string): Ast.Name => ({ text, span });
const number = (value: number): Ast.Expr => ({ is: "number", value, span });
const word = <F extends string>(field: F, text: string | boolean) =>
  ({ field, value: name(String(text)), span }) as const;
const count = <F extends string>(field: F, value: number) => ({ field, value: number(value), span }) as const;

/** The default rule where it gives these offsets, otherwise the table. */
function offsets({ heads, branches, offsets: table }: AttentionSpec): Ast.AttentionField {
  const inTurn = branches.every(({ dilation }, b) =>
    Array.from({ length: heads }, (_, h) => h % dilation).every((o, h) => o === table[b]?.[h]),
  );
  if (!inTurn) return { field: "offsets", rows: table.map((row) => row.map(number)), span };
  const local = (n: string): Ast.Expr => ({ is: "name", name: n, span });
  const rule: Ast.Expr = { is: "binary", op: "%", left: local("head"), right: local("dilation"), span };
  return { field: "offset", value: rule, span };
}

const attentionItem = (a: AttentionSpec): Ast.Attention => ({
  item: "attention",
  name: name(a.name),
  span,
  fields: [
    count("heads", a.heads),
    count("head_dim", a.headDim),
    count("kv_heads", a.kvHeads),
    word("causal", a.causal),
    ...a.branches.map(({ segment, dilation }): Ast.AttentionField => ({
      field: "branch",
      segment: Number.isFinite(segment) ? number(segment) : { is: "all", span },
      dilation: number(dilation),
      over: null,
      span,
    })),
    offsets(a),
    word("padding", a.padding),
    word("align", a.align),
    word("combine", a.combine),
    word("gradient", a.gradient),
    count("scale", a.scale),
    word("dtype", a.dtype),
  ],
});

function positions({ xpos, positions: learned, grid }: ModelSpec): readonly Ast.ModelField[] {
  const position = (
    value: string,
    numbers: { readonly base?: number; readonly rows?: number; readonly tile?: number },
  ): Ast.PositionField => {
    const shown = (x: number | undefined) => (x === undefined ? null : number(x));
    const { base, rows, tile } = numbers;
    return {
      field: "position",
      value: name(value),
      base: shown(base),
      rows: shown(rows),
      tile: shown(tile),
      span,
    };
  };
  const found = [
    ...(xpos === null ? [] : [position("xpos", xpos)]),
    ...(learned === null ? [] : [position("learned", learned)]),
    ...(grid === null ? [] : [position("grid", { rows: grid.cells, tile: grid.tile })]),
  ];
  return found.length === 0 ? [position("none", {})] : found;
}

const pooled = (pool: ModelSpec["pool"]): readonly Ast.ModelField[] =>
  pool === null
    ? [word("pool", "none")]
    : [
        word("pool", pool.of),
        count("pool_eps", pool.eps),
        word("states", pool.states ? "all" : "none"),
        ...(pool.classes === 0 ? [] : [count("classes", pool.classes)]),
      ];

const modelItem = (m: ModelSpec): Ast.Model => ({
  item: "model",
  name: name(m.name),
  span,
  fields: [
    word("kind", m.kind),
    word("input", m.input),
    ...(m.patchEmbed === null ? [] : [count("patch_embed", m.patchEmbed)]),
    ...(m.vocab === 0 ? [] : [count("vocab", m.vocab)]),
    count("dim", m.dim),
    count("layers", m.layers),
    { field: "ffn", dim: number(m.ffn.dim), activation: name(m.ffn.activation), span },
    word("attention", m.attention.name),
    ...positions(m),
    word("class_token", m.classToken),
    word("norm", m.norm),
    count("embed_scale", m.embedScale),
    word("embed_norm", m.embedNorm),
    word("head", m.head),
    word("final_norm", m.finalNorm),
    count("eps", m.eps),
    ...pooled(m.pool),
    word("checkpoint", m.checkpoint),
  ],
});

/**
 * The item called `item`, behind what it needs (a model's attention) and with the schedules that the spec asks for. Reading the
 * text gives the same Spec.
 */
export function written(spec: Spec, item: AttentionSpec | ModelSpec): string {
  const isModel = "attention" in item;
  const attention = isModel ? item.attention : item;
  const schedules = spec.schedules
    .filter((s) => s.attention === attention.name)
    .map((s): Ast.Schedule => ({
      item: "schedule",
      attention: name(s.attention),
      target: name(s.target),
      span,
      fields: [
        ...(s.kind === undefined ? [] : [word("kind", s.kind)]),
        ...(s.rows === undefined ? [] : [count("rows", s.rows)]),
        ...(s.keys === undefined ? [] : [count("keys", s.keys)]),
      ],
    }));
  return print({
    items: [attentionItem(attention), ...(isModel ? [modelItem(item)] : []), ...schedules],
    span,
  });
}
