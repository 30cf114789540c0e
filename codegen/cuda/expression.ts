/**
 * Expressions as CUDA C++: one row of the table for each operation. Vectors are structs of four numbers; their operators and
 * functions are made from the rows of the scalars, lane by lane.
 *
 * Errors: `exp2` is ex2.approx.ftz, at most 2 ulp, results below 2⁻¹²⁶ are 0; `log2` is log2f, at most 1 ulp; everything else is
 * rounded to nearest even as the IR says, provided that nothing is contracted (`--fmad=false`): `madd` is the only fused operation.
 */
import { isVector, scalarOf } from "../../src/expr.ts";
import type { Expr, Op, Scalar } from "../../src/kernel.ts";
import { showFloat } from "../../src/show/size.ts";
import {
  atom,
  call,
  common,
  component,
  fourLaneTypes,
  infix,
  LANES,
  LOOSE,
  textOf,
  UNARY,
  within,
  type Leaves,
  type Row,
  type Rows,
  type Text,
} from "../clike/expression.ts";

export const typeText = fourLaneTypes("CUDA", {
  f32: "float",
  i32: "int",
  bool: "bool",
  f32x4: "vec4",
  i32x4: "ivec4",
  boolx4: "bvec4",
});

/** By the scalar type of the first operand. */
const byScalar =
  (rows: { readonly [S in Scalar]?: string }): Row =>
  (args, e) => {
    const type = scalarOf(e.args[0]?.type ?? e.type);
    const name = rows[type];
    if (name === undefined) throw new Error(`heddle: internal: cuda: no '${e.op}' of ${type}`);
    return call(name)(args, e);
  };
const cast =
  (type: string): Row =>
  ([a]) => ({ text: `(${type})${within(a, UNARY)}`, level: UNARY });

/** Operations on numbers. */
const scalars: Rows = {
  ...common,
  min: byScalar({ f32: "fminf", i32: "min" }),
  max: byScalar({ f32: "fmaxf", i32: "max" }),
  abs: call("fabsf"),
  sqrt: call("sqrtf"),
  floor: call("floorf"),
  round: call("rintf"),
  madd: call("fmaf"),
  shl: infix("<<"),
  shr: infix(">>"),
  select: ([cond, yes, no]) => ({
    text: `${within(cond, LOOSE)} ? ${within(yes, LOOSE)} : ${within(no, LOOSE)}`,
    level: 0,
  }),
  float: cast("float"),
  int: cast("int"),
  bits: call("__float_as_int"),
  unbits: call("__int_as_float"),
  exp2: call("exp2_approx"),
  log2: call("log2f"),
};

/** Operations with vectors that are written as those with numbers: operators, by overloads. */
const OPERATORS: { readonly [O in Op]?: string } = {
  add: "operator+",
  sub: "operator-",
  mul: "operator*",
  div: "operator/",
  rem: "operator%",
  neg: "operator-",
  eq: "operator==",
  ne: "operator!=",
  lt: "operator<",
  le: "operator<=",
  gt: "operator>",
  ge: "operator>=",
  and: "operator&",
  or: "operator|",
  xor: "operator^",
  not: "operator!",
  shl: "operator<<",
  shr: "operator>>",
};
/** `xor` of bools is `!=`. */
const operatorOf = (e: OpExpr): string | undefined =>
  e.op === "xor" && e.type === "boolx4" ? "operator!=" : OPERATORS[e.op];

type OpExpr = Extract<Expr, { readonly e: "op" }>;
const vectorial = (e: OpExpr): boolean => isVector(e.type) || e.args.some((a) => isVector(a.type));
/** A scalar condition chooses between vectors as between numbers. */
const asScalar = (e: OpExpr): boolean =>
  !vectorial(e) || operatorOf(e) !== undefined || (e.op === "select" && e.args[0]?.type === "bool");

/** How an operation is written. */
const rows: Rows = Object.fromEntries(
  Object.entries(scalars).map(([op, row]): [string, Row] => [
    op,
    (args, e) => (e.op === "lane" || asScalar(e) ? row(args, e) : call(`${op}_4`)(args, e)),
  ]),
);
const whole: Rows = {
  ...rows,
  splat: (args, e) => atom(`${typeText[e.type]}{${[0, 1, 2, 3].map(() => args[0]?.text).join(", ")}}`),
  iota: call("iota"),
  sum: call("sum_4"),
  most: call("most_4"),
};

/** A value used four times is computed once. */
const splat: Row = (args, e) =>
  /^[\w.-]+$/.test(args[0]?.text ?? "") ? (whole.splat as Row)(args, e) : call("splat")(args, e);

const table: Rows = { ...whole, splat };

/** The operations CUDA has, scalar and vector alike. */
export const cudaOps: ReadonlySet<Op> = new Set<Op>([...(Object.keys(table) as Op[]), "shuffle"]);

/** A constant; NaN is never one. */
export function constantText(e: Extract<Expr, { readonly e: "const" }>): string {
  if (e.type === "bool") return e.value === 0 ? "false" : "true";
  if (e.type === "i32") return e.value === -(2 ** 31) ? "(-2147483647 - 1)" : String(e.value);
  if (!Number.isFinite(e.value)) return `__int_as_float(${e.value > 0 ? "0x7f800000" : "0xff800000"})`;
  return `${showFloat(e.value)}f`;
}

/** Four numbers of one or two vectors, each by its name. */
const shuffled = (e: Expr, print: (e: Expr) => Text): Text =>
  atom(`vec4{${[0, 1, 2, 3].map((i) => print(component(e, i)).text).join(", ")}}`);

export const printer = (leaves: Leaves): ((e: Expr) => Text) =>
  textOf({ name: "cuda", rows: table, constant: constantText, shuffle: shuffled }, leaves);

/** Names of vector operations that are functions. */
export const vectorWords: readonly string[] = [
  "splat",
  "iota",
  ...[...Object.keys(scalars), "sum", "most"].map((o) => `${o}_4`),
];

/** The definition of a vector operation that `e` calls; null where it calls none. */
export function vectorFunction(e: OpExpr): string | null {
  const types = e.args.map((a) => a.type);
  const result = typeText[e.type];
  const [a, b, c] = ["a", "b", "c"];
  const head = (name: string) =>
    `__device__ inline ${result} ${name}(${types.map((t, i) => `${typeText[t]} ${[a, b, c][i]}`).join(", ")})`;
  if (e.op === "splat") return `${head("splat")} { return {a, a, a, a}; }`;
  if (e.op === "iota") return `${head("iota")} { return {a, a + 1, a + 2, a + 3}; }`;
  if (e.op === "sum") return `${head("sum_4")} { return (a.x + a.y) + (a.z + a.w); }`;
  if (e.op === "most") return `${head("most_4")} { return fmaxf(fmaxf(a.x, a.y), fmaxf(a.z, a.w)); }`;
  if (e.op === "lane" || e.op === "shuffle" || !vectorial(e)) return null;
  if (e.op === "select" && e.args[0]?.type === "bool") return null;
  const row = scalars[e.op];
  if (row === undefined) return null;
  // The scalar expression of one lane: only its types matter to the row.
  const one: OpExpr = {
    ...e,
    type: scalarOf(e.type),
    args: e.args.map((x): Expr => ({ e: "ref", type: scalarOf(x.type), name: "" })),
  };
  const lane = (field: string) =>
    row(
      types.map((t, i) => atom(isVector(t) ? `${[a, b, c][i]}.${field}` : `${[a, b, c][i]}`)),
      one,
    ).text;
  return `${head(operatorOf(e) ?? `${e.op}_4`)} { return {${LANES.map(lane).join(", ")}}; }`;
}
