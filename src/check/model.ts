import type * as Ast from "../ast.ts";
import type { Outline } from "./attention.ts";
import { diagnostic, nearest } from "../diagnostic.ts";
import { encoderOf } from "./encoder.ts";
import { seal } from "../spec.ts";
import type { AttentionSpec, ModelShape, ModelSpec } from "../spec.ts";
import type { Report } from "./expression.ts";
import { integerOf, largestInteger, missing, once, positiveOf, unknownWord, wordOf } from "./fields.ts";
import type { Constants } from "./fields.ts";

const mostLayers = 4096;
const mostWidth = 2 ** 20;
/** Along one side. The table of positions has as many rows; tokens carry a cell as one integer for each side. */
const mostCells = 2 ** 20;

/** What is known of an attention by name: its item, and its Spec if it has one. */
export type Attentions = ReadonlyMap<
  string,
  { readonly item: Ast.Attention; readonly spec: AttentionSpec | null; readonly outline: Outline }
>;

/** The attention a name means. `incomplete`: part of the file was lost, so an unknown name may be declared there. */
export const attentionNamed = (
  name: Ast.Name,
  attentions: Attentions,
  incomplete: boolean,
  report: Report,
): NonNullable<ReturnType<Attentions["get"]>> | null => {
  if (name.text === "") return null;
  const found = attentions.get(name.text);
  if (found !== undefined) return found;
  if (incomplete) return null;
  const meant = nearest(name.text, attentions.keys());
  const names = [...attentions.keys()].slice(0, 8).map((n) => `\`${n}\``);
  const hint =
    meant !== null
      ? `Did you mean \`${meant}\`?`
      : names.length === 0
        ? `Declare it: \`attention ${name.text} { … }\`.`
        : `This program has ${names.join(", ")}.`;
  report(diagnostic("unknown-attention", name.span, { name: `\`${name.text}\`` }, { hint }));
  return null;
};

/** The head of a model, with the rules that tie it to vocab and input. */
const headOf = (
  title: string,
  field: Extract<Ast.ModelField, { readonly field: "head" }> | null,
  known: {
    readonly encoder: boolean | null;
    readonly input: "tokens" | "features" | null;
    readonly vocab: boolean;
    readonly pooled: boolean;
    readonly place: Ast.Span;
  },
  report: Report,
): ModelShape["head"] | null => {
  const otherwise = !known.pooled && (known.vocab || known.encoder !== true) ? "separate" : "none";
  const head = wordOf(field, ["separate", "tied", "none"], otherwise, report);
  if (head === null || known.input === null) return head;
  const span = field?.value.span ?? known.place;
  if (!known.vocab && known.input === "tokens") {
    const hint = "Write e.g. `vocab 256`, or `input features`.";
    report(diagnostic("missing-vocab", known.place, { model: title, part: "tokens as input" }, { hint }));
  } else if (!known.vocab && head !== "none" && known.encoder !== null) {
    const hint = "Write e.g. `vocab 256`, or `head none`.";
    report(diagnostic("missing-vocab", span, { model: title, part: "a head" }, { hint }));
  } else if (head === "tied" && known.input === "features") {
    const hint = "Write `head separate` or `head none`.";
    report(diagnostic("tied-without-tokens", span, { model: title }, { hint }));
  }
  return head;
};

type Positions = Pick<ModelShape, "xpos" | "positions" | "grid">;

const positionsOf = (item: Ast.Model, constants: Constants, report: Report): Positions | null => {
  let sound = true;
  let { xpos, positions, grid }: { -readonly [K in keyof Positions]: Positions[K] } = {
    xpos: null,
    positions: null,
    grid: null,
  };
  const seen = new Set<string>();
  for (const field of item.fields) {
    if (field.field !== "position") continue;
    const how = field.value.text;
    if (how === "") sound = false;
    else if (seen.has(how)) {
      const hint = "Keep one of them.";
      report(diagnostic("duplicate-field", field.span, { field: `\`position ${how}\`` }, { hint }));
    } else if (how === "none" ? seen.size > 0 : seen.has("none")) {
      const args = { field: `\`position ${how}\``, other: "`position none`" };
      if (how === "none") args.other = `\`position ${[...seen][0] ?? ""}\``;
      report(diagnostic("conflicting-fields", field.span, args, { hint: "Keep one of them." }));
      sound = false;
    } else if (how === "xpos") {
      const base = field.base === null ? 512 : positiveOf(field.base, constants, "The base of xPos", report);
      if (base === null) sound = false;
      else xpos = { base };
    } else if (how === "learned") {
      // The first two rows are never read (fairseq counts positions from 2), so fewer than three hold no position.
      const bounds = { what: "The rows of learned positions", least: 3, most: largestInteger };
      const rows = field.rows === null ? null : integerOf(field.rows, constants, bounds, report);
      if (field.rows === null) {
        const hint = "Write e.g. `position learned 1026`: two rows more than positions.";
        report(diagnostic("missing-rows", field.span, {}, { hint }));
      }
      if (rows === null) sound = false;
      else positions = { rows };
    } else if (how === "grid") {
      if (field.rows === null) {
        const hint = "Write e.g. `position grid 1000 tile 256`: cells along one side, pixels of a cell.";
        report(diagnostic("missing-cells", field.span, {}, { hint }));
      }
      const number = (value: Ast.Expr | null, what: string, most: number) =>
        value === null ? null : integerOf(value, constants, { what, least: 1, most }, report);
      const cells = number(field.rows, "The cells of a grid", mostCells);
      const tile =
        field.tile === null ? 256 : number(field.tile, "The side of a grid's cells", largestInteger);
      if (cells === null || tile === null) sound = false;
      else grid = { cells, tile };
    } else if (how !== "none") {
      report(unknownWord("position", field.value, ["xpos", "learned", "grid", "none"], field.value.span));
      sound = false;
    }
    seen.add(how);
  }
  return sound ? { xpos, positions, grid } : null;
};

/** Checks one model; null if anything in it is wrong or its attention is. */
export const checkModel = (
  item: Ast.Model,
  attentions: Attentions,
  constants: Constants,
  incomplete: boolean,
  report: Report,
): ModelSpec | null => {
  if (item.damaged === "head") return null;
  const title = `\`${item.name.text}\``;
  const get = once(item.fields, ["position"], report);
  const absent = (field: string, hint: string) =>
    item.damaged === undefined ? missing(title, field, item.name.span, hint, report) : null;
  const size = (name: "dim" | "layers", most: number, hint: string) => {
    const field = get(name);
    return field === null
      ? absent(name, hint)
      : integerOf(field.value, constants, { what: `\`${name}\``, least: 1, most }, report);
  };

  const kindField = get("kind");
  if (kindField === null) absent("kind", "Write `kind decoder` or `kind encoder`.");
  const kind = wordOf(kindField, ["decoder", "encoder"], null, report);
  const input = wordOf(get("input"), ["tokens", "features"], "tokens", report);
  const vocabField = get("vocab");
  const vocabBounds = { what: "`vocab`", least: 1, most: largestInteger };
  const vocab = vocabField === null ? 0 : integerOf(vocabField.value, constants, vocabBounds, report);
  const dim = size("dim", mostWidth, "Write e.g. `dim 768`.");
  const layers = size("layers", mostLayers, "Write e.g. `layers 12`.");

  const ffnField = get("ffn");
  const ffnBounds = { what: "The width of `ffn`", least: 1, most: mostWidth };
  const ffnDim =
    ffnField === null
      ? absent("ffn", "Write e.g. `ffn 3072 gelu`.")
      : integerOf(ffnField.dim, constants, ffnBounds, report);
  const named = ffnField?.activation ?? null;
  const activation = wordOf(
    named === null ? null : { field: "ffn", value: named },
    ["gelu", "relu", "swish"],
    "gelu",
    report,
  );

  const norm = wordOf(get("norm"), ["sub_ln", "pre_ln", "post_ln", "deepnorm"], "sub_ln", report);
  const pre = norm === "sub_ln" || norm === "pre_ln";
  const finalNorm = wordOf(get("final_norm"), ["true", "false"], pre ? "true" : "false", report);
  const embedNorm = wordOf(get("embed_norm"), ["true", "false"], "false", report);
  const positions = positionsOf(item, constants, report);
  const epsField = get("eps");
  const eps = epsField === null ? 1e-5 : positiveOf(epsField.value, constants, "`eps`", report, 1);
  const scaleField = get("embed_scale");
  const withDim = new Map(constants).set("dim", dim);
  const embedScale = scaleField === null ? 1 : positiveOf(scaleField.value, withDim, "`embed_scale`", report);

  const known = {
    encoder: kind === null ? null : kind === "encoder",
    input,
    // In a file that breaks off, vocab may stand in the lost part.
    vocab: vocabField !== null || item.damaged !== undefined,
    pooled: ["class", "mean"].includes(get("pool")?.value.text ?? ""),
    place: item.name.span,
  };
  const head = headOf(title, get("head"), known, report);
  const encoder = encoderOf(get, { title, kind, input, head }, constants, report);
  if (positions?.grid != null) {
    const at = item.fields.find((f) => f.field === "position" && f.value.text === "grid")?.span ?? item.span;
    if (kind === "decoder") {
      const hint = "Write `kind encoder`, or another position.";
      report(diagnostic("encoder-only", at, { field: "`position grid`", model: title }, { hint }));
    } else if (input === "tokens") {
      const args = { field: "`position grid`", other: "`input features`", model: title };
      report(diagnostic("needs-field", at, args, { hint: "Coordinates belong to features of places." }));
    }
    if (dim !== null && dim % 4 !== 0) report(diagnostic("grid-dim", at, { dim }));
  }
  const unused = vocabField !== null && input === "features" && head === "none";
  if (unused) report(diagnostic("vocab-unused", vocabField.span, { model: title }, { hint: "Remove it." }));

  const attentionField = get("attention");
  if (attentionField === null)
    absent("attention", "Write `attention NAME`, a name declared in this program.");
  const used =
    attentionField === null ? null : attentionNamed(attentionField.value, attentions, incomplete, report);
  const attention = used?.spec ?? null;
  if (used !== null && attentionField !== null) {
    const { heads, headDim, causal } = used.outline;
    const [name, span] = [`\`${used.outline.name}\``, attentionField.value.span];
    if (dim !== null && heads !== null && headDim !== null && dim !== heads * headDim) {
      const at = get("dim")?.value.span ?? span;
      const more = {
        expected: `${heads * headDim}, the width of ${name}`,
        hint: dim % heads === 0 ? `Or give ${name} a head_dim of ${dim / heads}.` : null,
      };
      report(diagnostic("dim-mismatch", at, { dim, heads, headDim }, more));
    }
    if (kind === "decoder" && causal === false) {
      const hint = `Write \`causal true\` in ${name}, or \`kind encoder\` here.`;
      report(diagnostic("decoder-not-causal", span, { attention: name }, { hint }));
    }
    if (kind === "encoder" && causal === true) {
      const hint = `Write \`causal false\` in ${name}, or \`kind decoder\` here.`;
      report(diagnostic("encoder-causal", span, { attention: name, model: title }, { hint }));
    }
    if (positions !== null && positions.xpos !== null && headDim !== null && headDim % 2 === 1) {
      const at = item.fields.find((f) => f.field === "position" && f.value.text === "xpos")?.span ?? span;
      report(diagnostic("xpos-odd-head-dim", at, { headDim }, { expected: "an even head_dim" }));
    }
  }

  if (kind === null || input === null || vocab === null || dim === null || layers === null) return null;
  if (ffnDim === null || activation === null || attention === null || positions === null) return null;
  if (norm === null || embedScale === null || embedNorm === null || head === null) return null;
  if (finalNorm === null || eps === null || encoder === null) return null;
  const shape: ModelShape = {
    name: item.name.text,
    kind,
    input,
    vocab: unused ? 0 : vocab,
    dim,
    layers,
    ffn: { dim: ffnDim, activation },
    attention,
    ...positions,
    norm,
    embedScale,
    embedNorm: embedNorm === "true",
    head,
    finalNorm: finalNorm === "true",
    eps,
    ...encoder,
  };
  return seal(shape);
};
