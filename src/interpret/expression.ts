/**
 * Kernel expressions as JavaScript. A value is one JavaScript expression per lane of its type: f32 as a number that
 * `fround` leaves alone, i32 as a number that `| 0` leaves alone, bool as a boolean. Checks become statements before
 * the statement that holds the expression, so both sides of a `select` are checked.
 *
 * NaN is looked for where it would be lost (comparisons, conversions, `select`, lane picks) and where a value gets a
 * name or is stored; between these it propagates.
 */
import { isVector, lanesOf, scalarOf } from "../expr.ts";
import type { Expr, Op, Type, Width } from "../kernel.ts";
import type { FailureKind } from "./failure.ts";

export type Value = readonly string[];

/** What expressions need from the script they are part of. */
export type Script = {
  readonly line: (text: string) => void;
  /** Binds an expression to a fresh constant and returns its name. */
  readonly bind: (value: string, hint: string) => string;
  /** A statement that throws; `values` are the expressions for {0}, {1} … of the text. */
  readonly fail: (kind: FailureKind, text: string, ...values: string[]) => string;
  /** Names already known not to hold NaN. */
  readonly safe: Set<string>;
  readonly lookup: (name: string) => Value;
  readonly builtin: (name: "group" | "lane") => string;
  /** The elements of an array from `index` on, with every check. */
  readonly read: (from: string, index: string, count: 1 | Width) => Value;
};

const round = (text: string) => `fround(${text})`;
const wrap = (text: string) => `(${text} | 0)`;
const atomic = (text: string) => /^-?[\w$.]+$/.test(text);

/** Number literals that JavaScript reads back exactly, −0 and the infinities included. */
const literal = (x: number): string =>
  Object.is(x, -0) || x < 0 ? `(${Object.is(x, -0) ? "-0" : x})` : String(x);

type Lanewise = (script: Script, ...args: string[]) => string;
type Row = Lanewise | { readonly f32?: Lanewise; readonly i32?: Lanewise; readonly bool?: Lanewise };

const infix =
  (sign: string, finish: (text: string) => string): Lanewise =>
  (_, a, b) =>
    finish(`${a} ${sign} ${b}`);
const both = (sign: string): Row => ({ f32: infix(sign, round), i32: infix(sign, wrap) });
const plain = (text: string) => `(${text})`;
const compare = (sign: string): Row => infix(sign, plain);
const call =
  (name: string): Lanewise =>
  (_, ...args) =>
    `${name}(${args.join(", ")})`;

const bound = (s: Script, text: string) => (atomic(text) ? text : s.bind(text, "t"));
/** div and rem: defined for a dividend ≥ 0 and a divisor > 0 alone. */
const division =
  (sign: string, name: string): Lanewise =>
  (s, x, y) => {
    const [a, b] = [bound(s, x!), bound(s, y!)];
    s.line(
      `if (${a} < 0 || ${b} <= 0) ${s.fail("division", `'${name}' of {0} by {1}: the dividend must not be negative and the divisor must be positive`, a, b)}`,
    );
    return wrap(`${a} ${sign} ${b}`);
  };
const shift =
  (sign: string, name: string): Lanewise =>
  (s, x, y) => {
    const count = bound(s, y!);
    s.line(
      `if ((${count} & 31) !== ${count}) ${s.fail("domain", `'${name}' by {0}: a shift lies between 0 and 31`, count)}`,
    );
    return `(${x} ${sign} ${count})`;
  };

/** Lane by lane. Operations that mix lanes stand in `value` below. */
type Mixing = "splat" | "iota" | "shuffle" | "lane" | "sum" | "most";
const rows: { readonly [O in Exclude<Op, Mixing>]: Row } = {
  add: both("+"),
  sub: both("-"),
  mul: { f32: infix("*", round), i32: call("imul") },
  div: { f32: infix("/", round), i32: division("/", "div") },
  rem: { i32: division("%", "rem") },
  min: call("min"),
  max: call("max"),
  neg: { f32: (_, a) => `(-${a})`, i32: (_, a) => wrap(`-${a}`) },
  abs: call("abs"),
  sqrt: (_, a) => round(`sqrt(${a})`),
  floor: call("floor"),
  round: call("nearest"),
  madd: (_, a, b, c) => round(`fround(${a} * ${b}) + ${c}`),
  exp2: (_, a) => round(`2 ** ${a}`),
  log2: (s, x) => {
    const a = bound(s, x!);
    s.line(`if (${a} <= 0) ${s.fail("domain", "'log2' of {0}: the argument must be positive", a)}`);
    return round(`log2(${a})`);
  },
  eq: compare("==="),
  ne: compare("!=="),
  lt: compare("<"),
  le: compare("<="),
  gt: compare(">"),
  ge: compare(">="),
  and: { i32: infix("&", plain), bool: infix("&&", plain) },
  or: { i32: infix("|", plain), bool: infix("||", plain) },
  xor: { i32: infix("^", plain), bool: infix("!==", plain) },
  not: (_, a) => `(!${a})`,
  shl: { i32: shift("<<", "shl") },
  shr: { i32: shift(">>", "shr") },
  select: (_, cond, yes, no) => `(${cond} ? ${yes} : ${no})`,
  float: (_, a) => round(a!),
  int: (s, x) => {
    const a = bound(s, x!);
    s.line(
      `if (!(${a} > -2147483649 && ${a} < 2147483648)) ${s.fail("domain", "'int' of {0}: outside i32", a)}`,
    );
    return wrap(a);
  },
  bits: call("bitsOf"),
  unbits: call("unbitsOf"),
};

/** Operations behind which a NaN of an operand would no longer be seen. */
const hidesNaN: ReadonlySet<Op> = new Set<Op>([
  "eq", "ne", "lt", "le", "gt", "ge", "select", "int", "bits", "shuffle", "lane", "log2",
]); // prettier-ignore

/** Refuses NaN in an f32 value; returns the value with every lane named. */
export function defined(s: Script, e: Expr, v: Value): Value {
  if (scalarOf(e.type) !== "f32" || e.e === "const" || e.e === "ref") return v;
  const named = v.map((x) => bound(s, x));
  notNaN(s, e, named);
  return named;
}
/** The check alone, of names that hold the lanes of `e`. */
export function notNaN(s: Script, e: Expr, named: Value): void {
  if (scalarOf(e.type) !== "f32" || e.e === "const" || e.e === "ref") return;
  const open = [...new Set(named)].filter((x) => !s.safe.has(x) && !/^[\d(]/.test(x));
  open.forEach((x) => s.safe.add(x));
  const what = e.e === "op" ? `'${e.op}' gives NaN` : e.e === "load" ? `NaN read from '${e.from}'` : "NaN";
  if (open.length > 0) s.line(`if (${open.map((x) => `${x} !== ${x}`).join(" || ")}) ${s.fail("nan", what)}`);
}

/** How often each node of the DAGs is reached; a node reached twice is computed once. */
export function uses(roots: readonly Expr[]): ReadonlyMap<Expr, number> {
  const counts = new Map<Expr, number>();
  const visit = (e: Expr) => {
    const seen = counts.get(e) ?? 0;
    counts.set(e, seen + 1);
    if (seen > 0) return;
    if (e.e === "op") e.args.forEach(visit);
    else if (e.e === "load") visit(e.index);
  };
  roots.forEach(visit);
  return counts;
}

const lanes = (type: Type): readonly number[] => Array.from({ length: lanesOf(type) }, (_, i) => i);
/** Both halves first, then the two of them. */
const halved = (v: Value, join: (a: string, b: string) => string): string =>
  v.length === 1 ? v[0]! : join(halved(v.slice(0, v.length / 2), join), halved(v.slice(v.length / 2), join));

/** The condition of a `select` of vectors may be a scalar. */
const spread = (s: Script, v: Value, type: Type): Value => {
  if (!isVector(type) || v.length > 1) return v;
  const x = bound(s, v[0]!);
  return lanes(type).map(() => x);
};

/** Translates the expressions of one statement. */
export function translator(s: Script, counts: ReadonlyMap<Expr, number>): (e: Expr) => Value {
  const known = new Map<Expr, Value>();
  const translate = (e: Expr): Value => {
    const before = known.get(e);
    if (before !== undefined) return before;
    const v = fresh(e);
    if ((counts.get(e) ?? 0) < 2) return v;
    const named = v.map((x) => bound(s, x));
    known.set(e, named);
    return named;
  };
  const fresh = (e: Expr): Value => {
    switch (e.e) {
      case "const":
        return [
          e.type === "bool"
            ? String(e.value !== 0)
            : literal(e.type === "f32" ? Math.fround(e.value) : e.value | 0),
        ];
      case "ref":
        return s.lookup(e.name);
      case "builtin":
        return [s.builtin(e.name)];
      case "load":
        return s.read(e.from, bound(s, translate(e.index)[0]!), lanesOf(e.type));
      case "op":
        return operate(e);
    }
  };
  const operate = (e: Extract<Expr, { e: "op" }>): Value => {
    const args = e.args.map((a) => {
      const v = translate(a);
      return hidesNaN.has(e.op) ? defined(s, a, v) : v;
    });
    const first = args[0]!;
    switch (e.op) {
      case "splat": {
        const x = bound(s, first[0]!);
        return lanes(e.type).map(() => x);
      }
      case "iota": {
        const x = bound(s, first[0]!);
        return lanes(e.type).map((i) => (i === 0 ? x : wrap(`${x} + ${i}`)));
      }
      case "shuffle": {
        const both = [...first, ...args[1]!].map((x) => bound(s, x));
        return e.imm!.map((i) => both[i]!);
      }
      case "lane":
        return [first[e.imm![0]!]!];
      // The order of the additions is the targets' own; that of four is what `legalize` spells.
      case "sum":
        return [halved(first, (a, b) => round(`${a} + ${b}`))];
      case "most":
        return [halved(first, (a, b) => `max(${a}, ${b})`)];
      default: {
        const row = rows[e.op];
        const kind = scalarOf(e.args[0]!.type);
        const make = typeof row === "function" ? row : row[kind];
        if (make === undefined) throw new Error(`heddle: internal: '${e.op}' does not take ${kind}`);
        const operands = args.map((a) => spread(s, a, e.type));
        return lanes(e.type).map((i) => make(s, ...operands.map((a) => a[i]!)));
      }
    }
  };
  return translate;
}
