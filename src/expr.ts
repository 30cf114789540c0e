/**
 * Typed constructors of kernel expressions. A wrong operand type is our bug and throws at once, at the line that made
 * it. Only folding that is exact is done here: integer arithmetic on constants and the neutral elements of i32.
 */
import type { Element, Expr, Op, Scalar, Stmt, Type, Vector, Width } from "./kernel.ts";

export type AnyExpr = Expr<Element>;

/** By type: the scalar, and how many of them. */
const shapes = new Map(
  (["f32", "i32", "bool"] as const).flatMap((scalar) =>
    ([1, 4, 8, 16] as const).map((lanes): [Type, { readonly scalar: Scalar; readonly lanes: 1 | Width }] => [
      lanes === 1 ? scalar : `${scalar}x${lanes}`,
      { scalar, lanes },
    ]),
  ),
);
const shapeOf = (t: Type) => {
  const shape = shapes.get(t);
  if (shape === undefined) throw new Error(`heddle: internal: there is no type '${t}'`);
  return shape;
};
export const lanesOf = (t: Type): 1 | Width => shapeOf(t).lanes;
export const scalarOf = (t: Type): Scalar => shapeOf(t).scalar;
export const vectorOf = (t: Scalar, lanes: Width = 4): Vector => `${t}x${lanes}`;
export const isVector = (t: Type): t is Vector => lanesOf(t) > 1;
/** The same scalar in so many lanes. */
export const widened = (t: Scalar, lanes: 1 | Width): Type => (lanes === 1 ? t : vectorOf(t, lanes));

/**
 * The result type of an operation, or a sentence that says what is wrong. One row per operation. `width` is how wide a result is
 * that no operand tells.
 */
type Rule = (
  args: readonly Type[],
  imm: readonly number[] | undefined,
  width?: 1 | Width,
) => Type | { readonly wrong: string };
const wrong = (why: string) => ({ wrong: why });

const same =
  (arity: number, ...scalars: Scalar[]): Rule =>
  (a) => {
    const first = a[0];
    if (a.length !== arity || first === undefined) return wrong(`takes ${arity} operands`);
    if (!scalars.includes(scalarOf(first))) return wrong(`does not take ${first}`);
    return a.every((t) => t === first) ? first : wrong(`mixes ${a.join(", ")}`);
  };
const compare: Rule = (a) => {
  const t = same(2, "f32", "i32")(a, undefined);
  return typeof t === "object" ? t : widened("bool", lanesOf(t));
};
const convert =
  (from: Scalar, to: Scalar): Rule =>
  (a) => {
    const t = a[0];
    if (a.length !== 1 || t === undefined || scalarOf(t) !== from) return wrong(`takes one ${from}`);
    return widened(to, lanesOf(t));
  };
const isF32s = (t: Type | undefined): t is Vector => t !== undefined && isVector(t) && scalarOf(t) === "f32";
const fold: Rule = (a) => (a.length === 1 && isF32s(a[0]) ? "f32" : wrong("takes one vector of f32"));
const atLeastFour = (width: 1 | Width | undefined): Width => (width === undefined || width === 1 ? 4 : width);
const within = (imm: readonly number[] | undefined, count: number, below: number) =>
  imm !== undefined && imm.length === count && imm.every((i) => Number.isInteger(i) && i >= 0 && i < below);

export const rules: { readonly [O in Op]: Rule } = {
  add: same(2, "f32", "i32"),
  sub: same(2, "f32", "i32"),
  mul: same(2, "f32", "i32"),
  div: same(2, "f32", "i32"),
  rem: same(2, "i32"),
  min: same(2, "f32", "i32"),
  max: same(2, "f32", "i32"),
  neg: same(1, "f32", "i32"),
  abs: same(1, "f32"),
  sqrt: same(1, "f32"),
  floor: same(1, "f32"),
  round: same(1, "f32"),
  madd: same(3, "f32"),
  exp2: same(1, "f32"),
  log2: same(1, "f32"),
  eq: compare,
  ne: compare,
  lt: compare,
  le: compare,
  gt: compare,
  ge: compare,
  and: same(2, "i32", "bool"),
  or: same(2, "i32", "bool"),
  xor: same(2, "i32", "bool"),
  not: same(1, "bool"),
  shl: same(2, "i32"),
  shr: same(2, "i32"),
  select: (a) => {
    const [c, yes, no] = a;
    if (a.length !== 3 || c === undefined || yes === undefined || no === undefined)
      return wrong("takes 3 operands");
    if (scalarOf(c) !== "bool") return wrong(`chooses by ${c}`);
    if (yes !== no) return wrong(`mixes ${yes} and ${no}`);
    if (isVector(c) && lanesOf(c) !== lanesOf(yes)) return wrong(`chooses ${yes} by ${c}`);
    return yes;
  },
  float: convert("i32", "f32"),
  int: convert("f32", "i32"),
  bits: convert("f32", "i32"),
  unbits: convert("i32", "f32"),
  splat: (a, _, width) => {
    const t = a[0];
    if (a.length !== 1 || t === undefined || isVector(t)) return wrong("takes one scalar");
    return vectorOf(t, atLeastFour(width));
  },
  iota: (a, _, width) =>
    a.length === 1 && a[0] === "i32" ? vectorOf("i32", atLeastFour(width)) : wrong("takes one i32"),
  shuffle: (a, imm) => {
    const [t, u] = a;
    return a.length === 2 && isF32s(t) && t === u && within(imm, lanesOf(t), 2 * lanesOf(t))
      ? t
      : wrong("takes two vectors of f32 and a lane of them for each");
  },
  lane: (a, imm) =>
    a.length === 1 && isF32s(a[0]) && within(imm, 1, lanesOf(a[0]))
      ? "f32"
      : wrong("takes one vector of f32 and a lane of it"),
  sum: fold,
  most: fold,
};

/** `width`: of a `splat` or an `iota` that is not four lanes wide. */
export function op<L = never>(
  name: Op,
  args: readonly Expr<L>[],
  imm?: readonly number[],
  width?: 1 | Width,
): Expr<L> {
  const types = args.map((a) => (a as Expr).type);
  const type = rules[name](types, imm, width);
  if (typeof type === "object")
    throw new Error(`heddle: internal: '${name}' ${type.wrong} (got ${types.join(", ")})`);
  return imm === undefined ? { e: "op", type, op: name, args } : { e: "op", type, op: name, args, imm };
}

export const i32 = (value: number): Expr => ({ e: "const", type: "i32", value: value | 0 });
export const f32 = (value: number): Expr => ({ e: "const", type: "f32", value: Math.fround(value) });
export const bool = (value: boolean): Expr => ({ e: "const", type: "bool", value: value ? 1 : 0 });
export const ref = (name: string, type: Type = "i32"): Expr => ({ e: "ref", type, name });
export const group: Expr = { e: "builtin", type: "i32", name: "group" };
export const laneId: Expr = { e: "builtin", type: "i32", name: "lane" };
export const at = (tile: string, pick?: "flip" | "even" | "odd"): Element =>
  pick === undefined ? { e: "at", type: "f32", tile } : { e: "at", type: "f32", tile, pick };
export const row: Element = { e: "row", type: "i32" };
export const col: Element = { e: "col", type: "i32" };
export const load = <L = never>(from: string, index: Expr<L>, type: Type = "f32"): Expr<L> => ({
  e: "load",
  type,
  from,
  index,
});

const constant = (x: AnyExpr | Expr): number | undefined =>
  x.e === "const" && x.type === "i32" ? x.value : undefined;

/** i32 arithmetic on constants is folded, with the wrap-around of the target. */
function binary<L>(
  name: Op,
  a: Expr<L>,
  b: Expr<L>,
  exact: (x: number, y: number) => number | undefined,
): Expr<L> {
  const x = constant(a as Expr);
  const y = constant(b as Expr);
  if (x !== undefined && y !== undefined) {
    const value = exact(x, y);
    if (value !== undefined) return i32(value) as Expr<L>;
  }
  return op(name, [a, b]);
}

export function add<L = never>(a: Expr<L>, b: Expr<L>): Expr<L> {
  if (constant(a as Expr) === 0) return b;
  if (constant(b as Expr) === 0) return a;
  return binary("add", a, b, (x, y) => (x + y) | 0);
}
export function sub<L = never>(a: Expr<L>, b: Expr<L>): Expr<L> {
  if (constant(b as Expr) === 0) return a;
  return binary("sub", a, b, (x, y) => (x - y) | 0);
}
export function mul<L = never>(a: Expr<L>, b: Expr<L>): Expr<L> {
  if (constant(a as Expr) === 1) return b;
  if (constant(b as Expr) === 1) return a;
  if (constant(a as Expr) === 0) return a;
  if (constant(b as Expr) === 0) return b;
  return binary("mul", a, b, Math.imul);
}
export function div<L = never>(a: Expr<L>, b: Expr<L>): Expr<L> {
  if (constant(b as Expr) === 1) return a;
  return binary("div", a, b, (x, y) => (y > 0 && x >= 0 ? Math.trunc(x / y) : undefined));
}
export function rem<L = never>(a: Expr<L>, b: Expr<L>): Expr<L> {
  if (constant(b as Expr) === 1) return i32(0) as Expr<L>;
  return binary("rem", a, b, (x, y) => (y > 0 && x >= 0 ? x % y : undefined));
}
export const min = <L = never>(a: Expr<L>, b: Expr<L>): Expr<L> => binary("min", a, b, Math.min);
export const max = <L = never>(a: Expr<L>, b: Expr<L>): Expr<L> => binary("max", a, b, Math.max);
export const neg = <L = never>(a: Expr<L>): Expr<L> => op("neg", [a]);
export const sqrt = <L = never>(a: Expr<L>): Expr<L> => op("sqrt", [a]);
export const abs = <L = never>(a: Expr<L>): Expr<L> => op("abs", [a]);
export const floor = <L = never>(a: Expr<L>): Expr<L> => op("floor", [a]);
export const exp2 = <L = never>(a: Expr<L>): Expr<L> => op("exp2", [a]);
export const log2 = <L = never>(a: Expr<L>): Expr<L> => op("log2", [a]);
export const madd = <L = never>(a: Expr<L>, b: Expr<L>, c: Expr<L>): Expr<L> => op("madd", [a, b, c]);
export const float = <L = never>(a: Expr<L>): Expr<L> => op("float", [a]);
export const eq = <L = never>(a: Expr<L>, b: Expr<L>): Expr<L> => op("eq", [a, b]);
export const ne = <L = never>(a: Expr<L>, b: Expr<L>): Expr<L> => op("ne", [a, b]);
export const lt = <L = never>(a: Expr<L>, b: Expr<L>): Expr<L> => op("lt", [a, b]);
export const le = <L = never>(a: Expr<L>, b: Expr<L>): Expr<L> => op("le", [a, b]);
export const gt = <L = never>(a: Expr<L>, b: Expr<L>): Expr<L> => op("gt", [a, b]);
export const ge = <L = never>(a: Expr<L>, b: Expr<L>): Expr<L> => op("ge", [a, b]);
export const and = <L = never>(a: Expr<L>, b: Expr<L>): Expr<L> => op("and", [a, b]);
export const or = <L = never>(a: Expr<L>, b: Expr<L>): Expr<L> => op("or", [a, b]);
export const not = <L = never>(a: Expr<L>): Expr<L> => op("not", [a]);
export const select = <L = never>(cond: Expr<L>, yes: Expr<L>, no: Expr<L>): Expr<L> =>
  op("select", [cond, yes, no]);
export const splat = <L = never>(a: Expr<L>, lanes: Width = 4): Expr<L> => op("splat", [a], undefined, lanes);
/** i32 → (x, x + 1, …). */
export const iota = <L = never>(a: Expr<L>, lanes: Width = 4): Expr<L> => op("iota", [a], undefined, lanes);
/** ⌈a / b⌉ for a ≥ 0, b > 0. */
export const ceilDiv = <L = never>(a: Expr<L>, b: Expr<L>): Expr<L> => {
  const y = constant(b as Expr);
  return y === 1 ? a : div(add(a, sub(b, i32(1) as Expr<L>)), b);
};

export const exchange = (name: string, value: Expr, mask: 1 | 2): Stmt => ({
  s: "exchange",
  name,
  value,
  mask,
});
export const let_ = (name: string, value: Expr): Stmt => ({ s: "let", name, value });
export const var_ = (name: string, value: Expr): Stmt => ({ s: "var", name, value });
export const set = (name: string, value: Expr): Stmt => ({ s: "set", name, value });
export const store = (to: string, index: Expr, value: Expr): Stmt => ({ s: "store", to, index, value });
