/** What a spec or a command would have to say for a checkpoint that does not fit: the repair, where a tensor's name tells it. */
import type { WeightProblem } from "../../runtime/weights.ts";

type Rule = {
  readonly kind: WeightProblem["kind"];
  readonly name: RegExp;
  readonly hint: (shape: readonly number[]) => string;
};

const rules: readonly Rule[] = [
  {
    kind: "extra",
    name: /^embed_positions\.weight$/,
    hint: ([rows]) => `position learned ${rows ?? "ROWS"}`,
  },
  {
    kind: "missing",
    name: /^embed_positions\.weight$/,
    hint: () => "position none (or xpos) instead of learned",
  },
  { kind: "extra", name: /^layernorm_embedding\./, hint: () => "embed_norm true" },
  { kind: "missing", name: /^layernorm_embedding\./, hint: () => "embed_norm false" },
  { kind: "extra", name: /^output_projection\.weight$/, hint: () => "head separate" },
  { kind: "missing", name: /^output_projection\.weight$/, hint: () => "head tied, or head none" },
  { kind: "untied", name: /./, hint: () => "head separate" },
  { kind: "extra", name: /^layers\.\d+\.self_attn\.xpos\.scale$/, hint: () => "position xpos base 512" },
  { kind: "extra", name: /\.(inner_attn_ln|ffn_layernorm)\./, hint: () => "norm sub_ln" },
  { kind: "missing", name: /\.(inner_attn_ln|ffn_layernorm)\./, hint: () => "norm pre_ln (or deepnorm)" },
  { kind: "extra", name: /^layer_norm\./, hint: () => "final_norm true" },
  { kind: "missing", name: /^layer_norm\./, hint: () => "final_norm false" },
];

/** Renames that are shown: more of them are no slip. */
const MOST_RENAMES = 8;

/** `--rename` for names that look like the model's, as a shell takes them. */
function renameHints(problems: readonly WeightProblem[]): readonly string[] {
  const wanted = problems.flatMap(({ rename }) =>
    rename === undefined ? [] : [`${rename.from}=${rename.to}`],
  );
  const quoted = [...new Set(wanted)].map((text) =>
    /^[\w.=/-]+$/.test(text) ? text : `'${text.replaceAll("'", String.raw`'\''`)}'`,
  );
  if (quoted.length > MOST_RENAMES) return [];
  return quoted.map((text) => `the checkpoint may want \`--rename ${text}\``);
}

/** Hints for the spec and the command, each once, in the order of the problems. */
export function weightHints(problems: readonly WeightProblem[]): readonly string[] {
  const hints = problems.flatMap(({ kind, name, shape }) =>
    rules.filter((r) => r.kind === kind && r.name.test(name)).map((r) => r.hint(shape ?? [])),
  );
  const ofSpec = [...new Set(hints)].map((hint) => `the model may want \`${hint}\``);
  return [...renameHints(problems), ...ofSpec];
}
