/**
 * Which integers may pass 2³¹. The IR's indices are i32, but a tensor of a million tokens times 768 numbers times a batch has more
 * elements than that: what leads to the index of a buffer is computed in 64 bits wherever its exact value might not fit in 32.
 *
 * Assumed of a launch: its i32 scalars (N, rows) and its number of groups are not negative and stay below 2³¹ − 2¹⁶. Then every
 * index of a buffer is exact, up to 2⁶³. Everything else is i32, as the IR says: counts, positions of tokens, places in tiles.
 */
import type { Expr, Kernel, Op, Stmt } from "../../src/kernel.ts";
import type { Warp } from "../../src/warp.ts";
import { blocksOf, exprsOf, statements } from "../rewrite.ts";

/** Least and greatest value, as if integers had no end. */
export type Range = readonly [low: number, high: number];

const INT: Range = [-(2 ** 31), 2 ** 31 - 1];
/** Of scalars and numbers of groups. */
const COUNT: Range = [0, 2 ** 31 - 2 ** 16 - 1];
/** Of variables in 64 bits. */
const ANYWHERE: Range = [-(2 ** 62), 2 ** 62];
const fits = ([low, high]: Range): boolean => low >= INT[0] && high <= INT[1];

/** Operations whose result is exact in 64 bits when these operands are; an index that needs 64 bits comes through no other. */
export const exactOperands: { readonly [O in Op]?: readonly number[] } = {
  add: [0, 1],
  sub: [0, 1],
  mul: [0, 1],
  neg: [0],
  div: [0, 1],
  rem: [0, 1],
  min: [0, 1],
  max: [0, 1],
  // What is compared are counts and positions, which fit.
  select: [1, 2],
};

export type Ranges = {
  readonly of: (e: Expr) => Range;
  /** Names that hold 64 bits. */
  readonly wide: ReadonlySet<string>;
  /** Whether an expression is computed in 64 bits where it leads to the index of a buffer. */
  readonly isWide: (e: Expr) => boolean;
};

export function rangesOf(kernel: Kernel<Warp>): Ranges {
  const names = new Map<string, Range>(kernel.scalars.map((s) => [s.name, s.type === "i32" ? COUNT : INT]));
  const tables = new Map(kernel.tables.map((t) => [t.name, t.values]));
  const known = new WeakMap<Expr, Range>();
  const of = (e: Expr): Range => {
    const before = known.get(e);
    if (before !== undefined) return before;
    const range = fresh(e);
    known.set(e, range);
    return range;
  };
  const fresh = (e: Expr): Range => {
    switch (e.e) {
      case "const":
        return [e.value, e.value];
      case "builtin":
        return e.name === "lane" ? [0, kernel.workgroup - 1] : COUNT;
      case "ref":
        return names.get(e.name) ?? INT;
      case "load": {
        const values = tables.get(e.from);
        if (values === undefined || e.type !== "i32") return INT;
        return [Math.min(...values), Math.max(...values)];
      }
      case "op":
        return e.type === "i32" ? ofOp(e, of) : INT;
    }
  };

  const learn = (name: string, range: Range) => {
    const before = names.get(name);
    names.set(name, before === undefined ? range : around(before, range));
  };
  const walk = (body: readonly Stmt<Warp>[]): void => {
    for (const s of body) {
      if (s.s === "let") learn(s.name, of(s.value));
      // What starts wide may go anywhere.
      else if (s.s === "var") learn(s.name, fits(of(s.value)) ? INT : ANYWHERE);
      else if (s.s === "exchange") learn(s.name, INT);
      else if (s.s === "for") {
        const [from, to] = [of(s.from), of(s.to)];
        // A counter is an i32 itself, whatever its bounds.
        learn(s.name, [Math.max(from[0], INT[0]), Math.min(Math.max(from[1], to[1] - 1), INT[1])]);
      }
      blocksOf<Warp>(s).forEach(walk);
    }
  };
  walk(kernel.body);

  // Names are wide where a wide expression needs them so: from indices back to definitions.
  const values = new Map<string, Expr[]>();
  for (const s of statements<Warp>(kernel.body))
    if (s.s === "let" || s.s === "var" || s.s === "set")
      values.set(s.name, [...(values.get(s.name) ?? []), s.value]);
  const wide = new Set<string>();
  const isWide = (e: Expr): boolean => e.type === "i32" && !fits(of(e));
  const need = (e: Expr): void => {
    if (!isWide(e)) return;
    const exact = e.e === "op" ? exactOperands[e.op] : undefined;
    if (e.e === "op" && exact !== undefined) return exact.forEach((i) => need(e.args[i] as Expr));
    if (e.e !== "ref" || !values.has(e.name))
      throw new Error(
        `heddle: internal: cuda: '${kernel.name}' has an index that leads to 64 bits through ${e.e === "op" ? e.op : e.e}`,
      );
    if (wide.has(e.name)) return;
    wide.add(e.name);
    values.get(e.name)?.forEach(need);
  };
  const buffers = new Set(kernel.buffers.map((b) => b.name));
  const visited = new Set<Expr>();
  const indices = (e: Expr): void => {
    if (visited.has(e)) return;
    visited.add(e);
    if (e.e === "op") e.args.forEach(indices);
    if (e.e !== "load") return;
    if (buffers.has(e.from)) need(e.index);
    indices(e.index);
  };
  for (const s of statements<Warp>(kernel.body)) {
    exprsOf<Warp>(s).forEach(indices);
    if (s.s === "store" && buffers.has(s.to)) need(s.index);
    if (s.s === "warp") for (const p of s.places) if (buffers.has(p.array)) need(p.index);
  }
  return { of, wide, isWide };
}

/** The x of (x + d − 1) / d, which no quotient exceeds. */
function ceilDivided(e: Extract<Expr, { readonly e: "op" }>): Expr | null {
  const [sum, divisor] = e.args;
  if (sum?.e !== "op" || sum.op !== "add" || divisor?.e !== "ref") return null;
  const [inner, less] = sum.args;
  if (inner?.e !== "op" || inner.op !== "add" || less?.e !== "const" || less.value !== -1) return null;
  const [x, d] = inner.args;
  return d?.e === "ref" && d.name === divisor.name && x !== undefined ? x : null;
}

const around = (a: Range, b: Range): Range => [Math.min(a[0], b[0]), Math.max(a[1], b[1])];
/** The power of two above a range of numbers that are not negative, less one. */
const mask = (a: Range, b: Range): number => 2 ** Math.ceil(Math.log2(Math.max(a[1], b[1], 1) + 1)) - 1;

function ofOp(e: Extract<Expr, { readonly e: "op" }>, of: (e: Expr) => Range): Range {
  const [a = INT, b = INT, c = INT] = e.args.map((x) => (x.type === "i32" ? of(x) : INT));
  const positive = a[0] >= 0 && b[0] >= 0;
  switch (e.op) {
    case "add":
      return [a[0] + b[0], a[1] + b[1]];
    case "sub":
      return [a[0] - b[1], a[1] - b[0]];
    case "mul": {
      const ends = [a[0] * b[0], a[0] * b[1], a[1] * b[0], a[1] * b[1]];
      return [Math.min(...ends), Math.max(...ends)];
    }
    case "neg":
      return [-a[1], -a[0]];
    // A dividend is never negative, a divisor is positive.
    case "div": {
      const whole = ceilDivided(e);
      if (whole !== null) return [0, Math.max(0, of(whole)[1])];
      return [0, Math.floor(Math.max(a[1], 0) / Math.max(b[0], 1))];
    }
    case "rem":
      return [0, Math.max(0, Math.min(a[1], b[1] - 1))];
    case "min":
      return [Math.min(a[0], b[0]), Math.min(a[1], b[1])];
    case "max":
      return [Math.max(a[0], b[0]), Math.max(a[1], b[1])];
    case "select":
      return around(b, c);
    case "and":
      return b[0] >= 0 ? [0, b[1]] : a[0] >= 0 ? [0, a[1]] : INT;
    case "or":
    case "xor":
      return positive ? [0, mask(a, b)] : INT;
    case "shr":
      return e.args[1]?.e === "const" ? [Math.floor(a[0] / 2 ** b[0]), Math.floor(a[1] / 2 ** b[0])] : INT;
    default:
      return INT;
  }
}
