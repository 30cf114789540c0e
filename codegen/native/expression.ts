/** Expressions as C with vectors of GCC and Clang: operators where these have them, functions of the prelude where not. */
import { isVector, lanesOf, scalarOf } from "../../src/expr.ts";
import type { Expr, Op, Type } from "../../src/kernel.ts";
import { showFloat } from "../../src/show/size.ts";
import {
  atom,
  call,
  common,
  component,
  infix,
  LOOSE,
  textOf,
  UNARY,
  within,
  type Leaves,
  type Row,
  type Rows,
  type Text,
} from "../clike/expression.ts";

/** A vector of bools has all bits of a lane set or none, as comparisons give it. */
export const typeText = (type: Type): string => {
  const scalar = scalarOf(type);
  if (!isVector(type)) return scalar === "f32" ? "float" : "int";
  return `${scalar === "f32" ? "f32" : "i32"}x${lanesOf(type)}`;
};

type OpExpr = Extract<Expr, { readonly e: "op" }>;

/** The name of an operation's function: that of the operation and of its first operand's type. */
export const functionOf = (op: string, type: Type): string => `${op}_${typeText(type)}`;

const scalars = {
  ...common,
  not: ([a], e) => ({ text: `${isVector(e.type) ? "~" : "!"}${within(a, UNARY + 1)}`, level: UNARY }),
  lane: ([a], e) => atom(`${within(a, UNARY + 1)}[${e.imm?.[0] ?? 0}]`),
  and: (args, e) => infix(e.type === "bool" ? "&&" : "&")(args, e),
  or: (args, e) => infix(e.type === "bool" ? "||" : "|")(args, e),
  xor: (args, e) => infix(e.type === "bool" ? "!=" : "^")(args, e),
  shl: infix("<<"),
  shr: infix(">>"),
} as const satisfies Rows;

/** Operations that are functions of the prelude, whatever their type. */
const functions = ["min", "max", "abs", "sqrt", "floor", "round", "madd", "float", "int", "bits"] as const;
const asFunction =
  (op: Op): Row =>
  (args, e) =>
    call(functionOf(op, e.args[0]?.type ?? e.type))(args, e);

const chosen: Row = ([cond, yes, no], e) =>
  e.args[0] !== undefined && isVector(e.args[0].type)
    ? asFunction("select")([cond, yes, no] as readonly Text[], { ...e, args: e.args.slice(1) })
    : { text: `${within(cond, LOOSE)} ? ${within(yes, LOOSE)} : ${within(no, LOOSE)}`, level: 0 };

const table: Rows = {
  ...scalars,
  ...Object.fromEntries(functions.map((op) => [op, asFunction(op)])),
  unbits: asFunction("unbits"),
  select: chosen,
  splat: (args, e) => call(functionOf("splat", e.type))(args, e),
  iota: (args, e) => call(functionOf("iota", e.type))(args, e),
  sum: asFunction("sum"),
  most: asFunction("most"),
};

/** What `codegen/legalize` need not spell: exponentials and logarithms are polynomials, so that no lane calls a library. */
export const nativeOps: ReadonlySet<Op> = new Set<Op>([...(Object.keys(table) as Op[]), "shuffle"]);

/** A constant; NaN is never one. */
export function constantText(e: Extract<Expr, { readonly e: "const" }>): string {
  if (e.type === "bool") return e.value === 0 ? "0" : "1";
  if (e.type === "i32") return e.value === -(2 ** 31) ? "(-2147483647 - 1)" : String(e.value);
  if (!Number.isFinite(e.value)) return e.value > 0 ? "__builtin_inff()" : "(-__builtin_inff())";
  return `${showFloat(e.value)}f`;
}

/** Where every lane is known as a scalar, these; otherwise lanes of two vectors. */
const shuffled = (e: Expr, print: (e: Expr) => Text): Text => {
  if (e.e !== "op") throw new Error("heddle: internal: native: a shuffle is an operation");
  const parts = Array.from({ length: lanesOf(e.type) }, (_, i) => component(e, i));
  if (parts.every((p) => p.e !== "op" || p.op !== "lane"))
    return atom(`(${typeText(e.type)}){${parts.map((p) => print(p).text).join(", ")}}`);
  const [a, b] = e.args.map((x) => print(x).text);
  return atom(`shuffle_${typeText(e.type)}(${a}, ${b}, ${(e.imm ?? []).join(", ")})`);
};

export const printer = (leaves: Leaves): ((e: Expr) => Text) =>
  textOf({ name: "native", rows: table, constant: constantText, shuffle: shuffled }, leaves);

/** The functions of the prelude that an expression calls, by name; a shuffle that is none costs an unused line. */
export function functionsIn(e: OpExpr): readonly { readonly op: string; readonly type: Type }[] {
  const first = e.args[0]?.type ?? e.type;
  if (e.op === "select") return isVector(first) ? [{ op: "select", type: e.args[1]?.type ?? e.type }] : [];
  if (e.op === "splat" || e.op === "iota" || e.op === "shuffle") return [{ op: e.op, type: e.type }];
  const known: readonly string[] = [...functions, "unbits", "sum", "most"];
  return known.includes(e.op) ? [{ op: e.op, type: first }] : [];
}
