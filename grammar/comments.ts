import { tokenMatcher } from "chevrotain";
import type { IToken } from "chevrotain";
import type { Program } from "../src/ast.ts";
import { diagnostic } from "../src/diagnostic.ts";
import type { Diagnostic } from "../src/diagnostic.ts";
import { spanOf } from "./place.ts";
import { LCurly, LParen, RCurly, tokenize, Word } from "./tokens.ts";

const variables = new Set(["head", "heads", "dilation", "branch"]);

/** Whether the text of a comment could go on an expression: only names that offsets know, calls, numbers and signs. */
const readsLikeExpression = (text: string): boolean => {
  const { tokens, errors } = tokenize(text);
  return (
    tokens.length > 0 &&
    errors.length === 0 &&
    tokens.every((token, i) => {
      if (tokenMatcher(token, LCurly) || tokenMatcher(token, RCurly)) return false;
      const next = tokens[i + 1];
      const call = next !== undefined && tokenMatcher(next, LParen);
      if (!tokenMatcher(token, Word)) return true;
      return call || (variables.has(token.image) && (next === undefined || !tokenMatcher(next, Word)));
    })
  );
};

/**
 * In Python `//` divides integers; here it begins a comment, and `offset head // ceil(heads / dilation)` would silently
 * mean `offset head`. So a comment behind an offset that reads like a divisor is pointed out.
 */
export const divisionComments = (
  ast: Program,
  tokens: readonly IToken[],
  comments: readonly IToken[],
): readonly Diagnostic[] => {
  const ends = new Map<number, IToken>();
  for (const token of tokens) ends.set(spanOf(token).end, token);
  const lines = new Map(comments.map((c) => [c.startLine, c]));
  return ast.items.flatMap((item) => {
    if (item.item !== "attention") return [];
    return item.fields.flatMap((field) => {
      if (field.field !== "offset" || "path" in field.span) return [];
      const last = ends.get(field.span.end);
      const comment = lines.get(last?.endLine ?? -1);
      if (comment === undefined || comment.startOffset < field.span.end) return [];
      if (!readsLikeExpression(comment.image.slice(2))) return [];
      return diagnostic(
        "comment-division",
        spanOf(comment),
        {},
        { hint: "For an integer division write floor(a / b)." },
      );
    });
  });
};
