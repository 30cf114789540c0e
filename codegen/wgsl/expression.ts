/** Expressions as WGSL: one row of the table for each operation, parentheses only where the grammar asks for them. */
import { isVector } from "../../src/expr.ts";
import type { Expr, Op, Type } from "../../src/kernel.ts";
import { showFloat } from "../../src/show/size.ts";

export const typeText: { readonly [T in Type]: string } = {
  f32: "f32",
  i32: "i32",
  bool: "bool",
  f32x4: "vec4f",
  i32x4: "vec4i",
  boolx4: "vec4<bool>",
};

/** How tightly an expression's outermost operator binds; operators that WGSL does not let mix are loose. */
const ATOM = 9;
const UNARY = 8;
const LOOSE = 1;
const levels: { readonly [symbol: string]: number } = { "*": 6, "/": 6, "%": 6, "+": 5, "-": 5 };

type Text = { readonly text: string; readonly level: number };
type Row = (args: readonly Text[], e: Extract<Expr, { readonly e: "op" }>) => Text;

const atom = (text: string): Text => ({ text, level: ATOM });
const within = (t: Text | undefined, least: number): string => {
  if (t === undefined) throw new Error("heddle: internal: wgsl: an operand is missing");
  return t.level < least ? `(${t.text})` : t.text;
};
const infix =
  (symbol: string): Row =>
  ([a, b]) => {
    const level = levels[symbol];
    // Comparisons, shifts and bit operations take operands that bind tighter than any binary operator, to be plain.
    if (level === undefined)
      return { text: `${within(a, UNARY)} ${symbol} ${within(b, UNARY)}`, level: LOOSE };
    return { text: `${within(a, level)} ${symbol} ${within(b, level + 1)}`, level };
  };
const compare =
  (symbol: string): Row =>
  ([a, b]) => ({ text: `${within(a, 5)} ${symbol} ${within(b, 5)}`, level: LOOSE });
const call =
  (name: string): Row =>
  (args) =>
    atom(`${name}(${args.map((a) => a.text).join(", ")})`);
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
const lanes = ["x", "y", "z", "w"];
const logical =
  (vector: string, scalar: string): Row =>
  (args, e) =>
    e.type === "bool" ? infix(scalar)(args, e) : infix(vector)(args, e);
const rows: { readonly [O in Op]?: Row } = {
  add: infix("+"),
  sub: infix("-"),
  mul: infix("*"),
  div: infix("/"),
  rem: infix("%"),
  min: call("min"),
  max: call("max"),
  neg: ([a]) => ({ text: `-${within(a, ATOM)}`, level: UNARY }),
  abs: call("abs"),
  sqrt: call("sqrt"),
  floor: call("floor"),
  round: call("round"),
  madd: call("fma"),
  eq: compare("=="),
  ne: compare("!="),
  lt: compare("<"),
  le: compare("<="),
  gt: compare(">"),
  ge: compare(">="),
  and: logical("&", "&&"),
  or: logical("|", "||"),
  xor: (args, e) => infix(e.type === "bool" || e.type === "boolx4" ? "!=" : "^")(args, e),
  not: ([a]) => ({ text: `!${within(a, ATOM)}`, level: UNARY }),
  shl: shift("<<"),
  shr: shift(">>"),
  select: ([cond, yes, no]) => atom(`select(${no?.text}, ${yes?.text}, ${cond?.text})`),
  float: convert((t) => typeText[t]),
  int: convert((t) => typeText[t]),
  bits: convert((t) => `bitcast<${typeText[t]}>`),
  unbits: convert((t) => `bitcast<${typeText[t]}>`),
  splat: (args, e) => atom(`${typeText[e.type]}(${args[0]?.text})`),
  iota: ([a]) => ({ text: `vec4i(${a?.text}) + vec4i(0, 1, 2, 3)`, level: 5 }),
  lane: ([a], e) => atom(`${within(a, ATOM)}.${lanes[e.imm?.[0] ?? 0]}`),
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

/** The scalar in one lane of a vector: what was splat, looked up through shuffles. */
function component(e: Expr, i: number): Expr {
  if (e.e === "op" && e.op === "splat" && e.args[0] !== undefined) return e.args[0];
  if (e.e === "op" && e.op === "shuffle") {
    const from = e.imm?.[i] ?? 0;
    const of = e.args[from < 4 ? 0 : 1];
    if (of !== undefined) return component(of, from % 4);
  }
  return { e: "op", type: "f32", op: "lane", args: [e], imm: [i] };
}

/** A shuffle of one vector is a swizzle; any other is built from its four numbers. */
function shuffled(e: Expr, print: (e: Expr) => Text): Text {
  const parts = [0, 1, 2, 3].map((i) => component(e, i));
  const sources = parts.map((p) => (p.e === "op" && p.op === "lane" ? p.args[0] : undefined));
  const [first] = sources;
  if (first !== undefined && sources.every((s) => s === first)) {
    const swizzle = parts.map((p) => lanes[(p.e === "op" ? p.imm?.[0] : 0) ?? 0]).join("");
    return atom(`${within(print(first), ATOM)}.${swizzle}`);
  }
  return atom(`vec4f(${parts.map((p) => print(p).text).join(", ")})`);
}

/** The operations WGSL has, scalar and vector alike. */
export const wgslOps: ReadonlySet<Op> = new Set<Op>([...(Object.keys(rows) as Op[]), "shuffle"]);

/** What a leaf is printed as: the statement printer knows its names and arrays. */
export type Leaves = {
  readonly ref: (name: string) => string;
  readonly load: (e: Extract<Expr, { readonly e: "load" }>) => string;
};

/** A constant; −∞ and +∞ have no literal and come from the parameters. */
export function constantText(e: Extract<Expr, { readonly e: "const" }>): string {
  if (e.type === "bool") return e.value === 0 ? "false" : "true";
  if (e.type === "i32") return e.value === -(2 ** 31) ? "i32(-2147483648)" : String(e.value);
  if (e.value === -Infinity) return "params.low";
  if (e.value === Infinity) return "-params.low";
  return `${showFloat(e.value)}f`;
}

export function printer(leaves: Leaves): (e: Expr) => string {
  const print = (e: Expr): Text => {
    switch (e.e) {
      case "const": {
        const text = constantText(e);
        return { text, level: text.startsWith("-") ? UNARY : ATOM };
      }
      case "ref":
        return atom(leaves.ref(e.name));
      case "builtin":
        return atom(e.name);
      case "load":
        return atom(leaves.load(e));
      case "op": {
        if (e.op === "shuffle") return shuffled(e, print);
        const row = rows[e.op];
        if (row === undefined)
          throw new Error(`heddle: internal: wgsl: '${e.op}' should have been spelled by legalize`);
        return row(e.args.map(print), e);
      }
    }
  };
  return (e) => print(e).text;
}
