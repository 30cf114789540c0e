import type { CstNode, IToken } from "chevrotain";
import { longestExpression } from "../src/ast.ts";
import type { BinaryOp, Expr, Span } from "../src/ast.ts";
import { diagnostic } from "../src/diagnostic.ts";
import type { Diagnostic } from "../src/diagnostic.ts";
import { nodes, quote, spanOf, spanOfNode, tokens } from "./place.ts";

const bounds = (a: Span, b: Span): Span =>
  "path" in a || "path" in b ? a : { start: Math.min(a.start, b.start), end: Math.max(a.end, b.end) };

/** Reads expressions of the CST. Whatever recovery left out becomes a hole at `at`. */
export const expressionReader = (report: (d: Diagnostic) => void) => {
  let operations = 0;

  const number = (token: IToken): Expr => {
    const span = spanOf(token);
    if (/^\d+(?:\.\d+)?(?:[eE][+-]?\d+)?$/.test(token.image)) {
      return { is: "number", value: Number(token.image), span };
    }
    report(
      diagnostic(
        "malformed-number",
        span,
        { found: quote(token.image) },
        {
          expected: "digits, e.g. 2048, 0.5 or 1e-5",
          hint: "There are no suffixes, separators or other bases.",
        },
      ),
    );
    return { is: "hole", span };
  };

  const primary = (node: CstNode, at: Span): Expr => {
    const span = spanOfNode(node, at);
    const [digits] = tokens(node, "NumberText");
    if (digits !== undefined) return number(digits);
    const [word] = tokens(node, "Word");
    if (word !== undefined) {
      if (tokens(node, "LParen").length > 0) {
        operations++;
        const args = nodes(node, "expression").map((e) => expression(e, span));
        return {
          is: "call",
          fn: { text: word.image, span: spanOf(word) },
          args,
          span: bounds(spanOf(word), span),
        };
      }
      return word.image === "all"
        ? { is: "all", span: spanOf(word) }
        : { is: "name", name: word.image, span: spanOf(word) };
    }
    const [inner] = nodes(node, "expression");
    return inner === undefined ? { is: "hole", span } : expression(inner, span);
  };

  const negate = (signs: readonly IToken[], of: Expr): Expr =>
    signs.reduceRight<Expr>((value, sign) => {
      operations++;
      return { is: "minus", of: value, span: bounds(spanOf(sign), value.span) };
    }, of);

  const binary = (op: BinaryOp, left: Expr, right: Expr): Expr => {
    operations++;
    return { is: "binary", op, left, right, span: bounds(left.span, right.span) };
  };

  /** Right-associative, and a sign in an exponent covers the powers behind it: 2 ** -3 ** 2 is 2 ** -(3 ** 2). */
  const power = (node: CstNode, at: Span): Expr => {
    const operands = nodes(node, "operand");
    const value = operands.reduceRight<Expr | null>((right, operand) => {
      const base = primary(operand, at);
      return negate(tokens(operand, "Minus"), right === null ? base : binary("**", base, right));
    }, null);
    return value ?? { is: "hole", span: at };
  };

  const chain = (
    node: CstNode,
    part: string,
    sign: string,
    read: (n: CstNode, at: Span) => Expr,
    at: Span,
  ) => {
    const signs = tokens(node, sign);
    const [first, ...rest] = nodes(node, part);
    let value: Expr = first === undefined ? { is: "hole", span: at } : read(first, at);
    signs.forEach((token, i) => {
      const right = rest[i];
      const hole: Expr = { is: "hole", span: spanOf(token) };
      value = binary(token.image as BinaryOp, value, right === undefined ? hole : read(right, spanOf(token)));
    });
    return value;
  };

  const term = (node: CstNode, at: Span): Expr => chain(node, "power", "MulOp", power, at);
  const expression = (node: CstNode, at: Span): Expr => chain(node, "term", "AddOp", term, at);

  /** One whole expression, or a hole where there is none or it is too long. */
  return (node: CstNode | undefined, at: Span): Expr => {
    const span = spanOfNode(node, at);
    if (node === undefined) return { is: "hole", span };
    operations = 0;
    const value = expression(node, span);
    if (operations <= longestExpression) return value;
    report(
      diagnostic(
        "expression-too-long",
        span,
        { count: operations },
        { expected: `at most ${longestExpression}`, hint: "Name parts of it with `let`." },
      ),
    );
    return { is: "hole", span };
  };
};
