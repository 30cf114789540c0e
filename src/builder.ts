/**
 * The language as TypeScript. Each function makes the AST that the text would give; nothing is checked here, so that
 * one checker has one set of messages. A problem is placed by the call that made it: `attention("small").heads`.
 */
import type * as Ast from "./ast.ts";

declare const literal: unique symbol;
/** Types of the numbers a call was given, for signatures that depend on them; nothing at run time. */
type Literal<T> = { readonly [literal]?: T };

export type BuiltAttention<
  N extends string = string,
  H extends number = number,
  D extends number = number,
> = Ast.Attention & Literal<{ readonly name: N; readonly heads: H; readonly headDim: D }>;
export type BuiltModel<N extends string = string> = Ast.Model & Literal<{ readonly name: N }>;

/** `segment`: a number of tokens, or `all` (also written Infinity) for the whole sequence. */
export type BranchInput = { readonly segment: number | "all"; readonly dilation: number };
/** Branches whose segment and dilation both grow by `ratio`: `count` of them. */
export type GeometricBranches = {
  readonly segment: number;
  readonly dilation: number;
  readonly ratio: number;
  readonly count: number;
};
export type BranchesInput = readonly (BranchInput | { readonly geometric: GeometricBranches })[];

/** What an offset may depend on; `branch` counts from 0. */
export type OffsetPlace = {
  readonly head: number;
  readonly heads: number;
  readonly dilation: number;
  readonly branch: number;
};

/** The fields of language.md; a field left out has its default. */
export type AttentionOptions<H extends number = number, D extends number = number> = {
  readonly heads: H;
  readonly headDim: D;
  readonly kvHeads?: number;
  readonly causal?: boolean;
  readonly branches: BranchesInput;
  /** The row at which a head starts in each segment of a branch: tabulated now, or a table [branch][head]. */
  readonly offset?: ((place: OffsetPlace) => number) | readonly (readonly number[])[];
  readonly padding?: "masked" | "zero";
  readonly align?: "segment" | "ceil";
  readonly combine?: "softmax" | "mean";
  readonly gradient?: "full" | "detached";
  readonly scale?: number;
  readonly compat?: "torchscale";
  readonly dtype?: "f32" | "f16" | "bf16";
};

export type ModelOptions = {
  readonly kind: "decoder" | "encoder";
  readonly input?: "tokens" | "features";
  /** Width of the features, which a linear layer takes to `dim`. */
  readonly patchEmbed?: number;
  readonly vocab?: number;
  readonly dim: number;
  readonly layers: number;
  readonly ffn: number | { readonly dim: number; readonly activation?: "gelu" | "relu" | "swish" };
  readonly attention: string | Ast.Attention;
  readonly position?: {
    readonly xpos?: true | { readonly base: number };
    readonly learned?: number;
    /** Cells along one side, and the side of a cell in pixels (256 unless given). */
    readonly grid?: { readonly cells: number; readonly tile?: number };
  };
  readonly classToken?: boolean;
  readonly norm?: "sub_ln" | "pre_ln" | "post_ln" | "deepnorm";
  readonly embedScale?: number | "sqrt(dim)";
  readonly embedNorm?: boolean;
  readonly head?: "separate" | "tied" | "none";
  readonly finalNorm?: boolean;
  readonly eps?: number;
  readonly pool?: "class" | "mean" | "none";
  readonly poolEps?: number;
  readonly states?: "all" | "none";
  readonly classes?: number;
  readonly checkpoint?: "torchscale" | "gigapath" | "longvit";
};

export type ScheduleOptions = {
  readonly kind?: "branch" | "class" | "dense" | "annulus" | "annulus_list";
  readonly rows?: number;
  readonly keys?: number;
};

const at = (path: string): Ast.Span => ({ path });
const word = (text: string, path: string): Ast.Name => ({ text, span: at(path) });

/** A JavaScript number as the language writes it: the AST has no signed literals. */
const number = (value: number, path: string): Ast.Expr =>
  value < 0
    ? { is: "minus", of: number(-value, path), span: at(path) }
    : { is: "number", value: value === 0 ? 0 : value, span: at(path) };

const length = (value: number | "all", path: string): Ast.Expr =>
  value === "all" || value === Infinity ? { is: "all", span: at(path) } : number(value, path);

const binary = (op: Ast.BinaryOp, left: Ast.Expr, right: Ast.Expr): Ast.Expr => ({
  is: "binary",
  op,
  left,
  right,
  span: left.span,
});

const geometricField = (g: GeometricBranches, path: string): Ast.BranchField => {
  const grown = (of: "segment" | "dilation"): Ast.Expr => {
    const i: Ast.Expr = { is: "name", name: "i", span: at(`${path}.${of}`) };
    const power = binary("**", number(g.ratio, `${path}.ratio`), i);
    return binary("*", number(g[of], `${path}.${of}`), power);
  };
  return {
    field: "branch",
    segment: grown("segment"),
    dilation: grown("dilation"),
    over: {
      name: word("i", path),
      from: number(0, path),
      to: number(g.count - 1, `${path}.count`),
    },
    span: at(path),
  };
};

const branchFields = (inputs: BranchesInput, path: string): readonly Ast.BranchField[] =>
  inputs.map((input, i) => {
    const here = `${path}.branches[${i}]`;
    if ("geometric" in input) return geometricField(input.geometric, `${here}.geometric`);
    return {
      field: "branch",
      segment: length(input.segment, `${here}.segment`),
      dilation: number(input.dilation, `${here}.dilation`),
      over: null,
      span: at(here),
    };
  });

/** Entries that are worth tabulating; beyond them the checker refuses the attention anyway, whatever the offsets. */
const largestTable = 2 ** 20;

/** Dilations of all branches, or null where there are too many to write down. */
const dilationsOf = (inputs: BranchesInput): readonly number[] | null => {
  const out: number[] = [];
  for (const input of inputs) {
    if (!("geometric" in input)) out.push(input.dilation);
    else {
      const { dilation, ratio, count } = input.geometric;
      if (!(count + out.length <= largestTable)) return null;
      for (let i = 0; i < count; i++) out.push(dilation * ratio ** i);
    }
  }
  return out;
};

const offsetsField = (
  offset: NonNullable<AttentionOptions["offset"]>,
  options: AttentionOptions,
  path: string,
): readonly Ast.OffsetsField[] => {
  const here = `${path}.offset`;
  let table: readonly (readonly number[])[];
  if (typeof offset !== "function") table = offset;
  else {
    const { heads } = options;
    const dilations = dilationsOf(options.branches);
    if (dilations === null || !(heads * dilations.length <= largestTable)) return [];
    table = dilations.map((dilation, branch) =>
      Array.from({ length: Math.max(0, heads) }, (_, head) => offset({ head, heads, dilation, branch })),
    );
  }
  const rows = table.map((row, b) => row.map((value, h) => number(value, `${here}[${b}][${h}]`)));
  return [{ field: "offsets", rows, span: at(here) }];
};

/** One field `field`, named `key` in the builder, or none where it was left out. */
const numberField = <const F extends string>(
  field: F,
  key: string,
  value: number | undefined,
  path: string,
) => {
  const here = `${path}.${key}`;
  return value === undefined ? [] : [{ field, value: number(value, here), span: at(here) }];
};
const wordField = <const F extends string>(
  field: F,
  key: string,
  value: string | boolean | undefined,
  path: string,
) => {
  const here = `${path}.${key}`;
  return value === undefined ? [] : [{ field, value: word(String(value), here), span: at(here) }];
};

/** Attention over dilated branches; the fields are those of the text language, in camel case. */
export const attention = <const N extends string, const H extends number, const D extends number>(
  name: N,
  options: AttentionOptions<H, D>,
): BuiltAttention<N, H, D> => {
  const path = `attention(${JSON.stringify(name)})`;
  const o: AttentionOptions = options;
  const fields: readonly Ast.AttentionField[] = [
    ...numberField("heads", "heads", o.heads, path),
    ...numberField("head_dim", "headDim", o.headDim, path),
    ...numberField("kv_heads", "kvHeads", o.kvHeads, path),
    ...wordField("causal", "causal", o.causal, path),
    ...branchFields(o.branches, path),
    ...(o.offset === undefined ? [] : offsetsField(o.offset, o, path)),
    ...wordField("padding", "padding", o.padding, path),
    ...wordField("align", "align", o.align, path),
    ...wordField("combine", "combine", o.combine, path),
    ...wordField("gradient", "gradient", o.gradient, path),
    ...numberField("scale", "scale", o.scale, path),
    ...wordField("compat", "compat", o.compat, path),
    ...wordField("dtype", "dtype", o.dtype, path),
  ];
  return { item: "attention", name: word(name, path), fields, span: at(path) };
};

const ffnField = (ffn: ModelOptions["ffn"], path: string): Ast.FfnField => {
  const { dim, activation } = typeof ffn === "number" ? { dim: ffn } : { activation: undefined, ...ffn };
  return {
    field: "ffn",
    dim: number(dim, `${path}.ffn`),
    activation: activation === undefined ? null : word(activation, `${path}.ffn.activation`),
    span: at(`${path}.ffn`),
  };
};

const positionFields = (position: ModelOptions["position"], path: string): readonly Ast.PositionField[] => {
  const { xpos, learned, grid } = position ?? {};
  const field = (
    value: string,
    numbers: {
      readonly base?: number;
      readonly rows?: number | undefined;
      readonly tile?: number | undefined;
    },
  ): Ast.PositionField => {
    const here = `${path}.position.${value}`;
    const { base, rows, tile } = numbers;
    return {
      field: "position",
      value: word(value, here),
      base: base === undefined ? null : number(base, `${here}.base`),
      rows: rows === undefined ? null : number(rows, value === "grid" ? `${here}.cells` : here),
      tile: tile === undefined ? null : number(tile, `${here}.tile`),
      span: at(here),
    };
  };
  return [
    ...(xpos === undefined ? [] : [field("xpos", xpos === true ? {} : xpos)]),
    ...(learned === undefined ? [] : [field("learned", { rows: learned })]),
    ...(grid === undefined ? [] : [field("grid", { rows: grid.cells, tile: grid.tile })]),
  ];
};

const embedScaleField = (scale: ModelOptions["embedScale"], path: string) => {
  if (scale !== "sqrt(dim)") return numberField("embed_scale", "embedScale", scale, path);
  const span = at(`${path}.embedScale`);
  const args: readonly Ast.Expr[] = [{ is: "name", name: "dim", span }];
  const value: Ast.Expr = { is: "call", fn: { text: "sqrt", span }, args, span };
  return [{ field: "embed_scale", value, span } as const];
};

/** A LongNet decoder or encoder; `attention` is the attention itself or its name. */
export const model = <const N extends string>(name: N, options: ModelOptions): BuiltModel<N> => {
  const path = `model(${JSON.stringify(name)})`;
  const o = options;
  const used = typeof o.attention === "string" ? o.attention : o.attention.name.text;
  const fields: readonly Ast.ModelField[] = [
    ...wordField("kind", "kind", o.kind, path),
    ...wordField("input", "input", o.input, path),
    ...numberField("patch_embed", "patchEmbed", o.patchEmbed, path),
    ...numberField("vocab", "vocab", o.vocab, path),
    ...numberField("dim", "dim", o.dim, path),
    ...numberField("layers", "layers", o.layers, path),
    ffnField(o.ffn, path),
    ...wordField("attention", "attention", used, path),
    ...positionFields(o.position, path),
    ...wordField("class_token", "classToken", o.classToken, path),
    ...wordField("norm", "norm", o.norm, path),
    ...embedScaleField(o.embedScale, path),
    ...wordField("embed_norm", "embedNorm", o.embedNorm, path),
    ...wordField("head", "head", o.head, path),
    ...wordField("final_norm", "finalNorm", o.finalNorm, path),
    ...numberField("eps", "eps", o.eps, path),
    ...wordField("pool", "pool", o.pool, path),
    ...numberField("pool_eps", "poolEps", o.poolEps, path),
    ...wordField("states", "states", o.states, path),
    ...numberField("classes", "classes", o.classes, path),
    ...wordField("checkpoint", "checkpoint", o.checkpoint, path),
  ];
  return { item: "model", name: word(name, path), fields, span: at(path) };
};

/** A wish for one attention on one target; never changes a result. */
export const schedule = (
  of: string | Ast.Attention,
  target: "wasm" | "native" | "wgsl" | "cuda",
  options: ScheduleOptions = {},
): Ast.Schedule => {
  const name = typeof of === "string" ? of : of.name.text;
  const path = `schedule(${JSON.stringify(name)}, ${JSON.stringify(target)})`;
  const fields: readonly Ast.ScheduleField[] = [
    ...wordField("kind", "kind", options.kind, path),
    ...numberField("rows", "rows", options.rows, path),
    ...numberField("keys", "keys", options.keys, path),
  ];
  return {
    item: "schedule",
    attention: word(name, path),
    target: word(target, path),
    fields,
    span: at(path),
  };
};

/** A whole program, ready for `check` and `print`. Items may refer to each other in any order. */
export const program = (items: readonly Ast.Item[]): Ast.Program => ({ items, span: at("program") });

/** Ways to write many branches; both give a list for `branches`, and lists can be spread into one another. */
export const branches = {
  geometric: (g: GeometricBranches): BranchesInput => [{ geometric: g }],
  list: (pairs: readonly (readonly [segment: number | "all", dilation: number])[]): BranchesInput =>
    pairs.map(([segment, dilation]) => ({ segment, dilation })),
};

/** torchscale's choices, to spread into an attention: `{ ...torchscale, padding: "masked" }` overrides one of them. */
export const torchscale = { compat: "torchscale" } as const;
