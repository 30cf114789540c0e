/** Expressions as WGSL: one row of the table for each operation. */
import { isVector } from "../../src/expr.ts";
import type { Expr, Op, Type } from "../../src/kernel.ts";
import { showFloat } from "../../src/show/size.ts";
import {
  ATOM,
  atom,
  call,
  common,
  component,
  fourLaneTypes,
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

export const typeText = fourLaneTypes("WGSL", {
  f32: "f32",
  i32: "i32",
  bool: "bool",
  f32x4: "vec4f",
  i32x4: "vec4i",
  boolx4: "vec4<bool>",
});

const convert =
  (of: (type: Type) => string): Row =>
  (args, e) =>
    atom(`${of(e.type)}(${within(args[0], 0)})`);
/** Shift counts are unsigned, and of as many lanes. */
const shift =
  (symbol: string): Row =>
  ([a, b], e) => {
    const by = e.args[1];
    const count =
      by?.e === "const" ? `${by.value}u` : `${isVector(e.type) ? "vec4u" : "u32"}(${within(b, 0)})`;
    return { text: `${within(a, UNARY)} ${symbol} ${count}`, level: LOOSE };
  };
/**
 * Dividends are never negative, which the languages do not know: their division by a power of two takes several instructions more
 * than a shift, and what guards an i32 division against overflow comes on top.
 */
const powerOfTwo = (e: Parameters<Row>[1]): number | null => {
  const by = e.args[1];
  const log = by?.e === "const" && by.type === "i32" && by.value > 0 ? Math.log2(by.value) : NaN;
  return Number.isInteger(log) ? log : null;
};
const rows: Rows = {
  ...common,
  div: (args, e) => {
    const log = powerOfTwo(e);
    return log === null
      ? common.div(args, e)
      : { text: `${within(args[0], UNARY)} >> ${log}u`, level: LOOSE };
  },
  rem: (args, e) => {
    const log = powerOfTwo(e);
    return log === null
      ? common.rem(args, e)
      : { text: `${within(args[0], UNARY)} & ${2 ** log - 1}`, level: LOOSE };
  },
  min: call("min"),
  max: call("max"),
  abs: call("abs"),
  sqrt: call("sqrt"),
  floor: call("floor"),
  round: call("round"),
  madd: call("fma"),
  shl: shift("<<"),
  shr: shift(">>"),
  select: ([cond, yes, no]) => atom(`select(${no?.text}, ${yes?.text}, ${cond?.text})`),
  float: convert((t) => typeText[t]),
  int: convert((t) => typeText[t]),
  bits: convert((t) => `bitcast<${typeText[t]}>`),
  unbits: convert((t) => `bitcast<${typeText[t]}>`),
  splat: (args, e) => atom(`${typeText[e.type]}(${args[0]?.text})`),
  iota: ([a]) => ({ text: `vec4i(${a?.text}) + vec4i(0, 1, 2, 3)`, level: 5 }),
  exp2: call("exp2"),
  log2: call("log2"),
  sum: call("sum4"),
  most: call("most4"),
};

/** Functions that the text of a kernel calls and WGSL does not have. */
export const helpers: { readonly [name: string]: string } = {
  sum4: "fn sum4(v: vec4f) -> f32 {\n  return (v.x + v.y) + (v.z + v.w);\n}",
  most4: "fn most4(v: vec4f) -> f32 {\n  return max(max(v.x, v.y), max(v.z, v.w));\n}",
};

/** A shuffle of one vector is a swizzle; any other is built from its four numbers. */
function shuffled(e: Expr, print: (e: Expr) => Text): Text {
  const parts = [0, 1, 2, 3].map((i) => component(e, i));
  const sources = parts.map((p) => (p.e === "op" && p.op === "lane" ? p.args[0] : undefined));
  const [first] = sources;
  if (first !== undefined && sources.every((s) => s === first)) {
    const swizzle = parts.map((p) => LANES[(p.e === "op" ? p.imm?.[0] : 0) ?? 0]).join("");
    return atom(`${within(print(first), ATOM)}.${swizzle}`);
  }
  return atom(`vec4f(${parts.map((p) => print(p).text).join(", ")})`);
}

/** The operations WGSL has, scalar and vector alike. */
export const wgslOps: ReadonlySet<Op> = new Set<Op>([...(Object.keys(rows) as Op[]), "shuffle"]);

/** A constant; −∞ and +∞ have no literal and come from the parameters. */
function constantText(e: Extract<Expr, { readonly e: "const" }>): string {
  if (e.type === "bool") return e.value === 0 ? "false" : "true";
  if (e.type === "i32") return e.value === -(2 ** 31) ? "i32(-2147483648)" : String(e.value);
  if (e.value === -Infinity) return "params.low";
  if (e.value === Infinity) return "-params.low";
  return `${showFloat(e.value)}f`;
}

export function printer(leaves: Leaves): (e: Expr) => string {
  const print = textOf({ name: "wgsl", rows, constant: constantText, shuffle: shuffled }, leaves);
  return (e) => print(e).text;
}
