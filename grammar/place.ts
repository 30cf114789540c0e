import type { CstNode, IToken } from "chevrotain";
import type { Span } from "../src/ast.ts";

/** What stood at a place, as a phrase: the token in backquotes, long ones cut. */
export const quote = (image: string): string => `\`${image.length > 32 ? `${image.slice(0, 31)}…` : image}\``;

export const spanOf = (token: IToken): { readonly start: number; readonly end: number } => ({
  start: token.startOffset,
  end: token.startOffset + token.image.length,
});

/** From the first to the last token of a node; `fallback` where recovery left the node empty. */
export const spanOfNode = (node: CstNode | undefined, fallback: Span): Span => {
  const [start, end] = [node?.location?.startOffset, node?.location?.endOffset];
  return start === undefined || end === undefined || Number.isNaN(start) || Number.isNaN(end)
    ? fallback
    : { start, end: end + 1 };
};

/** Child nodes and tokens of a CST node by name; tokens that recovery made up are left out. */
export const nodes = (node: CstNode | undefined, name: string): readonly CstNode[] =>
  (node?.children[name] ?? []).filter((e): e is CstNode => "children" in e);
export const tokens = (node: CstNode | undefined, name: string): readonly IToken[] =>
  (node?.children[name] ?? []).filter((e): e is IToken => "image" in e && e.isInsertedInRecovery !== true);
