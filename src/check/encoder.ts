/** What models of slides and images have besides torchscale's encoder: patches, a class token, a pool, classes. */
import type * as Ast from "../ast.ts";
import { diagnostic } from "../diagnostic.ts";
import type { ModelShape } from "../spec.ts";
import type { Report } from "./expression.ts";
import { integerOf, largestInteger, positiveOf, wordOf } from "./fields.ts";
import type { Constants, once } from "./fields.ts";

const mostWidth = 2 ** 20;

type Get = ReturnType<typeof once<Ast.ModelField>>;
type Encoder = Pick<ModelShape, "patchEmbed" | "classToken" | "pool" | "checkpoint">;

/** What is known of the model's other fields; null where a field is wrong. */
export type Known = {
  readonly title: string;
  readonly kind: ModelShape["kind"] | null;
  readonly input: ModelShape["input"] | null;
  readonly head: ModelShape["head"] | null;
};

/** Reads and judges these fields; null if one of them is wrong. */
export const encoderOf = (get: Get, known: Known, constants: Constants, report: Report): Encoder | null => {
  let sound = true;
  const { title: model } = known;
  const number = <T>(value: T | null): T | null => {
    if (value === null) sound = false;
    return value;
  };
  const needs = (field: Ast.ModelField | null, there: boolean, other: string, hint: string) => {
    if (field === null || there) return;
    report(diagnostic("needs-field", field.span, { field: `\`${field.field}\``, other, model }, { hint }));
    sound = false;
  };

  const patchField = get("patch_embed");
  const width = { what: "`patch_embed`", least: 1, most: mostWidth };
  const patchEmbed =
    patchField === null ? null : number(integerOf(patchField.value, constants, width, report));
  needs(
    patchField,
    known.input !== "tokens",
    "`input features`",
    "Write `input features`, or remove `patch_embed`.",
  );

  const tokenField = get("class_token");
  const token = number(wordOf(tokenField, ["true", "false"], "false", report));

  const poolField = get("pool");
  const of = number(wordOf(poolField, ["class", "mean", "none"], "none", report));
  const pooled = of === "class" || of === "mean";
  if (of === "class")
    needs(poolField, token !== "false", "`class_token true`", "Write `class_token true`, or `pool mean`.");
  if (poolField !== null && pooled && known.head !== null && known.head !== "none") {
    const hint = "Write `head none`; a classifier on the pooled row is `classes N`.";
    const args = { field: `\`pool ${of}\``, other: `\`head ${known.head}\`` };
    report(diagnostic("conflicting-fields", poolField.span, args, { hint }));
    sound = false;
  }

  const checkpointField = get("checkpoint");
  const names = ["torchscale", "gigapath", "longvit"] as const;
  const checkpoint = number(wordOf(checkpointField, names, "torchscale", report));

  const epsField = get("pool_eps");
  // LongViT's `fc_norm` has torch's own eps, Prov-GigaPath's `norm` the smaller one of vision transformers.
  const usual = checkpoint === "longvit" ? 1e-5 : 1e-6;
  const eps =
    epsField === null ? usual : number(positiveOf(epsField.value, constants, "`pool_eps`", report, 1));
  const statesField = get("states");
  const states = number(wordOf(statesField, ["all", "none"], "none", report));
  const classesField = get("classes");
  const bounds = { what: "`classes`", least: 1, most: largestInteger };
  const classes =
    classesField === null ? 0 : number(integerOf(classesField.value, constants, bounds, report));
  for (const field of [epsField, statesField, classesField])
    needs(
      field,
      of === null || pooled,
      "a `pool`",
      "Write `pool mean`, or `class_token true` and `pool class`.",
    );

  const given = { class_token: token === "true" ? tokenField : null, pool: pooled ? poolField : null };
  const foreign = checkpoint === null || checkpoint === "torchscale" ? null : checkpointField;
  for (const field of [given.class_token, given.pool, foreign]) {
    if (field === null || known.kind !== "decoder") continue;
    const args = { field: `\`${field.field}\``, model };
    report(diagnostic("encoder-only", field.span, args, { hint: "Write `kind encoder`, or remove it." }));
    sound = false;
  }
  if (foreign !== null)
    needs(foreign, known.input !== "tokens", "`input features`", "Those models read patches.");

  if (!sound || eps === null || classes === null || checkpoint === null) return null;
  return {
    patchEmbed,
    classToken: token === "true",
    pool: of === "class" || of === "mean" ? { of, eps, states: states === "all", classes } : null,
    checkpoint,
  };
};
