/** Expressions as text of a language with C's operators, parentheses only where its grammar asks for them. */
import { lanesOf, scalarOf } from "../../src/expr.ts";
import type { Expr, Op, Scalar, Type } from "../../src/kernel.ts";

/** `level`: how tightly the outermost operator binds. */
export type Text = { readonly text: string; readonly level: number };
type OpExpr = Extract<Expr, { readonly e: "op" }>;
/** How an operation is written, given its operands. */
export type Row = (args: readonly Text[], e: OpExpr) => Text;
export type Rows = { readonly [O in Op]?: Row };

export const ATOM = 9;
export const UNARY = 8;
/** Operators that WGSL does not let mix, and that readers of C mistake. */
export const LOOSE = 1;
const levels: { readonly [symbol: string]: number } = { "*": 6, "/": 6, "%": 6, "+": 5, "-": 5 };

export const atom = (text: string): Text => ({ text, level: ATOM });
/** The text of an operand where everything below `least` needs parentheses. */
export function within(t: Text | undefined, least: number): string {
  if (t === undefined) throw new Error("heddle: internal: an operand is missing");
  return t.level < least ? `(${t.text})` : t.text;
}
export const infix =
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
export const call =
  (name: string): Row =>
  (args) =>
    atom(`${name}(${args.map((a) => a.text).join(", ")})`);
const logical =
  (vector: string, scalar: string): Row =>
  (args, e) =>
    e.type === "bool" ? infix(scalar)(args, e) : infix(vector)(args, e);

export const LANES = ["x", "y", "z", "w"] as const;

/** What WGSL and C++ write alike, vectors included. */
export const common = {
  add: infix("+"),
  sub: infix("-"),
  mul: infix("*"),
  div: infix("/"),
  rem: infix("%"),
  neg: ([a]) => ({ text: `-${within(a, ATOM)}`, level: UNARY }),
  eq: compare("=="),
  ne: compare("!="),
  lt: compare("<"),
  le: compare("<="),
  gt: compare(">"),
  ge: compare(">="),
  and: logical("&", "&&"),
  or: logical("|", "||"),
  xor: (args, e) => infix(scalarOf(e.type) === "bool" ? "!=" : "^")(args, e),
  not: ([a]) => ({ text: `!${within(a, ATOM)}`, level: UNARY }),
  lane: ([a], e) => atom(`${within(a, ATOM)}.${LANES[e.imm?.[0] ?? 0]}`),
} as const satisfies Rows;

/** The scalar in one lane of a vector: what was splat, looked up through shuffles. */
export function component(e: Expr, i: number): Expr {
  if (e.e === "op" && e.op === "splat" && e.args[0] !== undefined) return e.args[0];
  if (e.e === "op" && e.op === "shuffle") {
    const from = e.imm?.[i] ?? 0;
    const width = lanesOf(e.type);
    const of = e.args[from < width ? 0 : 1];
    if (of !== undefined) return component(of, from % width);
  }
  return { e: "op", type: "f32", op: "lane", args: [e], imm: [i] };
}

/** What one language adds to the rows of its operations. */
export type Words = {
  readonly name: string;
  readonly rows: Rows;
  readonly constant: (e: Extract<Expr, { readonly e: "const" }>) => string;
  /** Four numbers as a vector, given the expression they came from. */
  readonly shuffle: (e: Expr, print: (e: Expr) => Text) => Text;
};
/** What a leaf is printed as: the statement printer knows its names and arrays. */
export type Leaves = {
  readonly ref: (name: string) => Text | string;
  readonly load: (e: Extract<Expr, { readonly e: "load" }>) => string;
};

type FourLaneType = Scalar | `${Scalar}x4`;
/** The types of a language whose vectors have four lanes; a kernel with wider ones was made for another target. */
export const fourLaneTypes = (
  language: string,
  words: { readonly [T in FourLaneType]: string },
): { readonly [T in Type]: string } => {
  const wide = Object.fromEntries(
    (["f32", "i32", "bool"] as const).flatMap((scalar) =>
      ([8, 16] as const).map((lanes) => [
        `${scalar}x${lanes}`,
        {
          get: (): never => {
            throw new Error(`heddle: internal: ${language} has no vectors of ${lanes} lanes`);
          },
        },
      ]),
    ),
  );
  return Object.defineProperties({ ...words }, wide) as { readonly [T in Type]: string };
};

/** Prints expressions; an operation without a row should have been spelled by legalize. */
export function textOf(words: Words, leaves: Leaves): (e: Expr) => Text {
  const print = (e: Expr): Text => {
    switch (e.e) {
      case "const": {
        const text = words.constant(e);
        return { text, level: text.startsWith("-") ? UNARY : ATOM };
      }
      case "ref": {
        const text = leaves.ref(e.name);
        return typeof text === "string" ? atom(text) : text;
      }
      case "builtin":
        return atom(e.name);
      case "load":
        return atom(leaves.load(e));
      case "op": {
        if (e.op === "shuffle") return words.shuffle(e, print);
        const row = words.rows[e.op];
        if (row === undefined)
          throw new Error(`heddle: internal: ${words.name}: '${e.op}' should have been spelled by legalize`);
        return row(e.args.map(print), e);
      }
    }
  };
  return print;
}
