/** The rules of `simplify` on expressions: folding of constants and the exact identities of i32, bool and x·1. */
import { lanesOf, op, scalarOf, splat } from "../src/expr.ts";
import type { Expr, Op, Scalar, Type } from "../src/kernel.ts";

/** The value of a constant, or of a vector whose lanes are all that constant. */
export const constOf = (e: Expr): number | undefined =>
  e.e === "const" ? e.value : e.e === "op" && e.op === "splat" ? constOf(e.args[0] as Expr) : undefined;

const constant = (type: Type, value: number): Expr => {
  const scalar: Expr = { e: "const", type: scalarOf(type), value };
  const lanes = lanesOf(type);
  return lanes === 1 ? scalar : splat(scalar, lanes);
};

const word = new Int32Array(1);
const float = new Float32Array(word.buffer);
/** To the nearest whole number, the even one of two; the sign stays, of zero too. */
const even = (x: number): number => {
  if (Math.abs(x) >= 8388608) return x;
  const whole = Math.abs(x) + 6755399441055744 - 6755399441055744;
  return x < 0 || Object.is(x, -0) ? -whole : whole;
};

type Fold = (a: number, b: number, c: number) => number | boolean | undefined;
const inShift = (b: number) => b >= 0 && b <= 31;
const i32: { readonly [O in Op]?: Fold } = {
  add: (a, b) => (a + b) | 0,
  sub: (a, b) => (a - b) | 0,
  mul: (a, b) => Math.imul(a, b),
  div: (a, b) => (a >= 0 && b > 0 ? Math.trunc(a / b) : undefined),
  rem: (a, b) => (a >= 0 && b > 0 ? a % b : undefined),
  min: (a, b) => Math.min(a, b),
  max: (a, b) => Math.max(a, b),
  neg: (a) => -a | 0,
  and: (a, b) => a & b,
  or: (a, b) => a | b,
  xor: (a, b) => a ^ b,
  shl: (a, b) => (inShift(b) ? a << b : undefined),
  shr: (a, b) => (inShift(b) ? a >> b : undefined),
  float: (a) => Math.fround(a),
  unbits: (a) => {
    word[0] = a;
    return float[0];
  },
};
const f32: { readonly [O in Op]?: Fold } = {
  add: (a, b) => Math.fround(a + b),
  sub: (a, b) => Math.fround(a - b),
  mul: (a, b) => Math.fround(a * b),
  div: (a, b) => Math.fround(a / b),
  madd: (a, b, c) => Math.fround(Math.fround(a * b) + c),
  min: (a, b) => Math.min(a, b),
  max: (a, b) => Math.max(a, b),
  neg: (a) => -a,
  abs: (a) => Math.abs(a),
  sqrt: (a) => Math.fround(Math.sqrt(a)),
  floor: (a) => Math.floor(a),
  round: even,
  int: (a) => (a > -2147483649 && a < 2147483648 ? Math.trunc(a) : undefined),
  bits: (a) => {
    float[0] = a;
    return word[0];
  },
};
const compare: { readonly [O in Op]?: Fold } = {
  eq: (a, b) => a === b,
  ne: (a, b) => a !== b,
  lt: (a, b) => a < b,
  le: (a, b) => a <= b,
  gt: (a, b) => a > b,
  ge: (a, b) => a >= b,
};
const logic: { readonly [O in Op]?: Fold } = {
  and: (a, b) => a !== 0 && b !== 0,
  or: (a, b) => a !== 0 || b !== 0,
  xor: (a, b) => (a !== 0) !== (b !== 0),
  not: (a) => a === 0,
};
const folds: { readonly [S in Scalar]: { readonly [O in Op]?: Fold } } = {
  i32: { ...i32, ...compare },
  f32: { ...f32, ...compare },
  bool: logic,
};

function folded(e: Extract<Expr, { e: "op" }>): Expr | undefined {
  const values = e.args.map(constOf);
  if (values.includes(undefined)) return undefined;
  const fold = folds[scalarOf((e.args[0] as Expr).type)][e.op];
  const [a = 0, b = 0, c = 0] = values;
  const result = fold?.(a, b, c);
  // Infinity, NaN and −0 have no literal in every target.
  if (result === undefined || !Number.isFinite(Number(result)) || Object.is(result, -0)) return undefined;
  return constant(e.type, Number(result));
}

/** An i32 as a term and a constant; without a term, the constant alone. */
function sum(e: Expr): readonly [term: Expr | undefined, constant: number] {
  const value = constOf(e);
  if (value !== undefined) return [undefined, value];
  if (e.e === "op" && e.op === "add") {
    const c = constOf(e.args[1] as Expr);
    if (c !== undefined) return [e.args[0] as Expr, c];
  }
  return [e, 0];
}
const plus = (term: Expr, c: number): Expr => (c === 0 ? term : op("add", [term, constant(term.type, c)]));

const opposite: { readonly [O in Op]?: Op } = { eq: "ne", ne: "eq", lt: "ge", ge: "lt", gt: "le", le: "gt" };

/** One expression whose operands are simple already. */
export function step(e: Expr): Expr {
  if (e.e !== "op") return e;
  const [a, b, c] = e.args as readonly [Expr, Expr, Expr];
  const whole = folded(e);
  if (whole !== undefined) return whole;
  if (e.op === "select") {
    const cond = constOf(a);
    if (cond !== undefined) return cond !== 0 ? b : c;
    return b === c || (b.e === "ref" && c.e === "ref" && b.name === c.name) ? b : e;
  }
  if (e.op === "lane") return a.e === "op" && a.op === "splat" ? (a.args[0] as Expr) : e;
  const kind = scalarOf(a.type);
  return kind === "i32" ? integer(e, a, b) : kind === "f32" ? real(e, a, b) : logical(e, a, b);
}

function real(e: Extract<Expr, { e: "op" }>, a: Expr, b: Expr): Expr {
  if (e.op === "mul" && constOf(b) === 1) return a;
  if (e.op === "mul" && constOf(a) === 1) return b;
  return e.op === "div" && constOf(b) === 1 ? a : e;
}

function logical(e: Extract<Expr, { e: "op" }>, a: Expr, b: Expr): Expr {
  if (e.op === "not") {
    if (a.e !== "op") return e;
    if (a.op === "not") return a.args[0] as Expr;
    const other = opposite[a.op];
    // Nothing is ever NaN, so this holds for f32 too.
    return other === undefined ? e : op(other, a.args);
  }
  if (e.op !== "and" && e.op !== "or") return e;
  for (const [x, y] of [[a, b], [b, a]] as const) {
    const v = constOf(x);
    if (v !== undefined) return (v !== 0) === (e.op === "and") ? y : x;
  } // prettier-ignore
  return e;
}

function integer(e: Extract<Expr, { e: "op" }>, a: Expr, b: Expr): Expr {
  switch (e.op) {
    case "add": {
      const [[x, p], [y, q]] = [sum(a), sum(b)];
      if (x === undefined) return y === undefined ? e : plus(y, (p + q) | 0);
      if (y === undefined) return plus(x, (p + q) | 0);
      return p === 0 && q === 0 ? e : plus(op("add", [x, y]), (p + q) | 0);
    }
    case "sub": {
      const [[x, p], [y, q]] = [sum(a), sum(b)];
      if (y === undefined) return x === undefined ? e : plus(x, (p - q) | 0);
      if (x === undefined) return q === 0 ? e : op("sub", [constant(e.type, (p - q) | 0), y]);
      return p === 0 && q === 0 ? e : plus(op("sub", [x, y]), (p - q) | 0);
    }
    case "mul": {
      const [x, k] = constOf(b) === undefined ? [b, constOf(a)] : [a, constOf(b)];
      if (k === undefined) return e;
      if (k === 0) return constant(e.type, 0);
      if (k === 1) return x;
      const [term, p] = sum(x);
      if (term !== undefined && p !== 0)
        return plus(step(op("mul", [term, constant(e.type, k)])), Math.imul(p, k));
      const inner = x.e === "op" && x.op === "mul" ? constOf(x.args[1] as Expr) : undefined;
      if (inner !== undefined)
        return step(op("mul", [(x as typeof e).args[0] as Expr, constant(e.type, Math.imul(inner, k))]));
      return x === a ? e : op("mul", [x, constant(e.type, k)]);
    }
    case "div":
      return constOf(b) === 1 ? a : e;
    case "rem":
      return constOf(b) === 1 ? constant(e.type, 0) : e;
    case "shl":
    case "shr":
      return constOf(b) === 0 ? a : e;
    case "and":
      return constOf(a) === 0 ? a : constOf(b) === 0 ? b : e;
    case "or":
    case "xor":
      return constOf(a) === 0 ? b : constOf(b) === 0 ? a : e;
    default:
      return e;
  }
}
