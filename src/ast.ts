/**
 * The language as written: what a text file or the builder said, and nothing more. No default is filled in, no name is
 * looked up, no number is computed; `src/check` does that and turns a Program into a Spec.
 *
 * Every node knows where it comes from. Words (`true`, `masked`, `f32`, the name of an attention …) stay words here, so
 * that one place, the checker, tells the user which words a field knows.
 */

/** UTF-16 offsets into a text, `end` exclusive; or the builder call that made the node, e.g. `attention("a").heads`. */
export type Span = { readonly start: number; readonly end: number } | { readonly path: string };

/** A word or an identifier. The empty text is a hole: the reader could not read it and has said so. */
export type Name = { readonly text: string; readonly span: Span };

export type BinaryOp = "+" | "-" | "*" | "/" | "%" | "**";

/**
 * Numbers are written without a sign: −3 is the unary minus of 3. `all` is only meaningful where a segment stands.
 * `hole` marks what the reader could not read and has already reported; it never comes from the builder.
 */
export type Expr =
  | { readonly is: "number"; readonly value: number; readonly span: Span }
  | { readonly is: "name"; readonly name: string; readonly span: Span }
  | { readonly is: "all"; readonly span: Span }
  | { readonly is: "minus"; readonly of: Expr; readonly span: Span }
  | {
      readonly is: "binary";
      readonly op: BinaryOp;
      readonly left: Expr;
      readonly right: Expr;
      readonly span: Span;
    }
  | { readonly is: "call"; readonly fn: Name; readonly args: readonly Expr[]; readonly span: Span }
  | { readonly is: "hole"; readonly span: Span };

/** `i in A..B`: i takes A, A + 1, … B. Both ends belong to the range: `0..3` is 0, 1, 2, 3. */
export type Range = { readonly name: Name; readonly from: Expr; readonly to: Expr };

/** Fields whose value is an expression, and fields whose value is one word; grammar and checker share these lists. */
export const attentionNumbers = ["heads", "head_dim", "kv_heads", "scale", "offset"] as const;
export const attentionWords = [
  "causal",
  "padding",
  "align",
  "combine",
  "gradient",
  "dtype",
  "compat",
] as const;
export const modelNumbers = [
  "vocab",
  "patch_embed",
  "dim",
  "layers",
  "embed_scale",
  "eps",
  "pool_eps",
  "classes",
] as const;
export const modelWords = [
  "kind",
  "input",
  "attention",
  "class_token",
  "norm",
  "embed_norm",
  "head",
  "final_norm",
  "pool",
  "states",
  "checkpoint",
] as const;
export const scheduleNumbers = ["rows", "keys"] as const;
export const scheduleWords = ["kind"] as const;

type NumberField<F extends string> = F extends string
  ? { readonly field: F; readonly value: Expr; readonly span: Span }
  : never;
type WordField<F extends string> = F extends string
  ? { readonly field: F; readonly value: Name; readonly span: Span }
  : never;

export type BranchField = {
  readonly field: "branch";
  readonly segment: Expr;
  readonly dilation: Expr;
  readonly over: Range | null;
  readonly span: Span;
};
export type BranchesField = {
  readonly field: "branches";
  readonly segments: readonly Expr[];
  readonly dilations: readonly Expr[];
  readonly span: Span;
};
/** Offsets written out: one row per branch, in each one number per head. */
export type OffsetsField = {
  readonly field: "offsets";
  readonly rows: readonly (readonly Expr[])[];
  readonly span: Span;
};
export type AttentionField =
  | NumberField<(typeof attentionNumbers)[number]>
  | WordField<(typeof attentionWords)[number]>
  | BranchField
  | BranchesField
  | OffsetsField;

export type FfnField = {
  readonly field: "ffn";
  readonly dim: Expr;
  readonly activation: Name | null;
  readonly span: Span;
};
/** `position xpos [base b]`, `position learned rows`, `position grid cells [tile t]`, `position none`. */
export type PositionField = {
  readonly field: "position";
  readonly value: Name;
  readonly base: Expr | null;
  /** Of `learned`, or the cells along one side of `grid`. */
  readonly rows: Expr | null;
  readonly tile: Expr | null;
  readonly span: Span;
};
export type ModelField =
  | NumberField<(typeof modelNumbers)[number]>
  | WordField<(typeof modelWords)[number]>
  | FfnField
  | PositionField;

export type ScheduleField =
  NumberField<(typeof scheduleNumbers)[number]> | WordField<(typeof scheduleWords)[number]>;

/** All names a block knows, in the order in which messages list them. */
export const attentionFields = [
  "heads",
  "head_dim",
  "kv_heads",
  "causal",
  "branch",
  "branches",
  "offset",
  "offsets",
  "padding",
  "align",
  "combine",
  "gradient",
  "scale",
  "compat",
  "dtype",
] as const satisfies readonly AttentionField["field"][];
export const modelFields = [
  "kind",
  "input",
  "patch_embed",
  "vocab",
  "dim",
  "layers",
  "ffn",
  "attention",
  "position",
  "class_token",
  "norm",
  "embed_scale",
  "embed_norm",
  "head",
  "final_norm",
  "eps",
  "pool",
  "pool_eps",
  "states",
  "classes",
  "checkpoint",
] as const satisfies readonly ModelField["field"][];
export const scheduleFields = ["kind", "rows", "keys"] as const satisfies readonly ScheduleField["field"][];

/**
 * The reader could not read all of it and has said so. `head`: the name counts, if there is one, the contents are not
 * checked. `end`: what was read is checked, but what is missing is not missed.
 */
type Damage = { readonly damaged?: "head" | "end" };

export type Let = {
  readonly item: "let";
  readonly name: Name;
  readonly value: Expr;
  readonly span: Span;
};
export type Attention = Damage & {
  readonly item: "attention";
  readonly name: Name;
  readonly fields: readonly AttentionField[];
  readonly span: Span;
};
export type Model = Damage & {
  readonly item: "model";
  readonly name: Name;
  readonly fields: readonly ModelField[];
  readonly span: Span;
};
export type Schedule = Damage & {
  readonly item: "schedule";
  readonly attention: Name;
  readonly target: Name;
  readonly fields: readonly ScheduleField[];
  readonly span: Span;
};
export type Item = Let | Attention | Model | Schedule;

/** A whole file. `damaged`: part of it could not be read as any item, so a name may be missing through that. */
export type Program = Damage & { readonly items: readonly Item[]; readonly span: Span };

/** Most operations one expression may hold: keeps every walk over it shallow and a table of offsets quick. */
export const longestExpression = 100;
