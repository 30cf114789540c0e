/**
 * What is known to divide an index: vector accesses that start at multiples of four are one access of a text target.
 * A divisor is a power of two up to MOST; 0 stands for the value 0, which everything divides.
 */
import type { Expr, Kernel, Stmt } from "../src/kernel.ts";
import type { Warp } from "../src/warp.ts";
import { blocksOf } from "./rewrite.ts";

export type Divisors = {
  readonly of: (e: Expr) => number;
  /** Remembers the divisor of a name; `var`s and other values that change have 1. */
  readonly name: (name: string, divisor: number) => void;
};

const MOST = 64;
const gcd = (a: number, b: number): number => (a === 0 ? b : b === 0 ? a : Math.min(a, b));
const product = (a: number, b: number): number => (a === 0 || b === 0 ? 0 : Math.min(MOST, a * b));
/** The largest power of two ≤ MOST that divides an integer. */
export const powerIn = (x: number): number => (x === 0 ? 0 : Math.min(MOST, x & -x));

export function divisors(tables: ReadonlyMap<string, readonly number[]>): Divisors {
  const names = new Map<string, number>();
  const of = (e: Expr): number => {
    switch (e.e) {
      case "const":
        return e.type === "i32" ? powerIn(e.value) : 1;
      case "ref":
        return names.get(e.name) ?? 1;
      case "builtin":
        return 1;
      case "load": {
        const values = tables.get(e.from);
        return values === undefined || e.type !== "i32" ? 1 : values.map(powerIn).reduce(gcd, 0);
      }
      case "op":
        return ofOp(e);
    }
  };
  const ofOp = (e: Extract<Expr, { readonly e: "op" }>): number => {
    const [a, b, c] = e.args;
    if (a === undefined || e.type !== "i32") return 1;
    if (b === undefined) return e.op === "neg" ? of(a) : 1;
    switch (e.op) {
      case "add":
      case "sub":
      case "min":
      case "max":
      case "or":
      case "xor":
        return gcd(of(a), of(b));
      case "rem":
        return gcd(of(a), of(b));
      case "mul":
        return product(of(a), of(b));
      case "and":
        return Math.max(...[of(a), of(b)].map((x) => (x === 0 ? MOST : x)));
      case "shl":
        return b.e === "const" ? product(of(a), powerIn(2 ** Math.min(b.value, 30))) : of(a);
      case "select":
        return c === undefined ? 1 : gcd(of(b), of(c));
      default:
        return 1;
    }
  };
  return { of, name: (name, divisor) => void names.set(name, divisor) };
}

const tableValues = <X extends Warp>(kernel: Kernel<X>): ReadonlyMap<string, readonly number[]> =>
  new Map(kernel.tables.map((t) => [t.name, t.values]));

/** What is known to divide every name of a kernel. Names are unique among what is visible; a name used twice keeps the weaker. */
export function divisorsOf<X extends Warp = never>(kernel: Kernel<X>): Divisors {
  const known = divisors(tableValues<X>(kernel));
  const seen = new Map<string, number>();
  const learn = (name: string, divisor: number) => {
    const before = seen.get(name);
    const both = before === undefined ? divisor : weaker(before, divisor);
    seen.set(name, both);
    known.name(name, both);
  };
  const walk = (body: readonly Stmt<X>[]): void => {
    for (const s of body) {
      if (s.s === "let") learn(s.name, s.value.type === "i32" ? known.of(s.value) : 1);
      else if (s.s === "var" || s.s === "exchange") learn(s.name, 1);
      else if (s.s === "for") learn(s.name, weaker(known.of(s.from), s.step & -s.step));
      blocksOf<X>(s).forEach(walk);
    }
  };
  walk(kernel.body);
  return known;
}
const weaker = (a: number, b: number): number => (a === 0 ? b : b === 0 ? a : Math.min(a, b));

/** `min`, `max`, `rem`, `and` of two multiples of four are multiples of four, but only sums and products divide term by term. */
export function quarter(e: Expr, known: Divisors): Expr | null {
  const by4 = (x: Expr) => known.of(x) % 4 === 0;
  if (e.e === "const") return { ...e, value: e.value / 4 };
  if (e.e !== "op") return null;
  const [a, b] = e.args;
  if (a === undefined || b === undefined) return null;
  if (e.op === "add" || e.op === "sub") {
    if (!by4(a) || !by4(b)) return null;
    const [x, y] = [quarter(a, known) ?? shifted(a), quarter(b, known) ?? shifted(b)];
    return { ...e, args: [x, y] };
  }
  if (e.op === "mul") {
    if (by4(b)) {
      const y = quarter(b, known);
      if (y !== null) return y.e === "const" && y.value === 1 ? a : { ...e, args: [a, y] };
    }
    if (by4(a)) {
      const x = quarter(a, known);
      if (x !== null) return { ...e, args: [x, b] };
    }
  }
  return null;
}

/** e / 4 of a multiple of four. */
export const shifted = (e: Expr): Expr => ({
  e: "op",
  type: "i32",
  op: "shr",
  args: [e, { e: "const", type: "i32", value: 2 }],
});
