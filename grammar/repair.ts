/**
 * Misspelt keywords, put right before parsing: `haeds 8` is reported once and then read as `heads 8`, so that one slip
 * neither hides what stands behind it nor drags a "missing heads" after it.
 */
import { tokenMatcher } from "chevrotain";
import type { IToken, TokenType } from "chevrotain";
import { attentionFields, modelFields, scheduleFields } from "../src/ast.ts";
import { diagnostic, nearest } from "../src/diagnostic.ts";
import type { Diagnostic } from "../src/diagnostic.ts";
import * as t from "./tokens.ts";
import { spanOf } from "./place.ts";

type Block = "top" | "attention" | "model" | "schedule" | "loop" | "other";

const k = t.keyword;
const known: Readonly<Record<Block, readonly string[]>> = {
  top: [],
  attention: [...attentionFields, "segment", "dilation", "segments", "dilations"],
  model: modelFields,
  schedule: scheduleFields,
  loop: ["segment", "dilation"],
  other: [],
};
const title: Readonly<Record<Block, string>> = {
  top: "A file",
  attention: "An attention",
  model: "A model",
  schedule: "A schedule",
  loop: "A branch",
  other: "A block",
};
/** Keywords that may follow these on the same line; anything else behind a keyword is its value. */
const after = new Map<TokenType, readonly string[]>([
  [k("branch"), ["segment"]],
  [k("branches"), ["segments"]],
  [k("position"), ["xpos", "learned", "grid"]],
  [k("xpos"), ["base"]],
  [k("grid"), ["tile"]],
]);

const is = (token: IToken | undefined, ...types: readonly TokenType[]) =>
  token !== undefined && types.some((type) => tokenMatcher(token, type));

/** An item's keyword, its name, and what only stands in the head of an item. */
const headAt = (tokens: readonly IToken[], i: number) =>
  is(tokens[i], t.Word) && is(tokens[i + 1], t.Word) && is(tokens[i + 2], t.LCurly, t.Equals, k("on"));

const itemsFor = (sign: IToken | undefined): readonly string[] =>
  is(sign, t.Equals) ? ["let"] : is(sign, k("on")) ? ["schedule"] : ["attention", "model"];

/** What this token could be a misspelling of, where it stands. */
const candidates = (
  tokens: readonly IToken[],
  i: number,
  block: Block,
  brackets: number,
): readonly string[] => {
  const [token, previous] = [tokens[i], tokens[i - 1]];
  if (token?.tokenType !== t.Word || brackets > 0) return [];
  if (block === "top") return headAt(tokens, i) ? itemsFor(tokens[i + 2]) : [];
  if (is(previous, t.AddOp, t.MulOp, t.Power, t.Range, t.Equals, t.Comma)) return [];
  const keyword = previous !== undefined && is(previous, t.Word) && previous.tokenType !== t.Word;
  if (keyword && previous.endLine === token.startLine) return after.get(previous.tokenType) ?? [];
  return known[block];
};

/** Gives misspelt keywords the type they were meant to have, in place, and reports each. */
export const repair = (tokens: readonly IToken[]): readonly Diagnostic[] => {
  const diagnostics: Diagnostic[] = [];
  let blocks: Block[] = ["top"];
  let [brackets, item]: [number, Block] = [0, "other"];

  tokens.forEach((token, i) => {
    if (is(token, t.ItemName) && headAt(tokens, i)) [blocks, brackets] = [["top"], 0];
    const block = blocks.at(-1) ?? "top";
    const meant = nearest(token.image, candidates(tokens, i, block, brackets));
    if (meant !== null && token.image.length > 1) {
      const hint = `Did you mean \`${meant}\`?`;
      diagnostics.push(
        block === "top"
          ? diagnostic("unknown-item", spanOf(token), { name: `\`${token.image}\`` }, { hint })
          : diagnostic(
              "unknown-field",
              spanOf(token),
              { item: title[block], name: `\`${token.image}\`` },
              { hint },
            ),
      );
      token.tokenType = k(meant);
      token.tokenTypeIdx = token.tokenType.tokenTypeIdx ?? token.tokenTypeIdx;
    }
    if (block === "top" && is(token, t.ItemName) && headAt(tokens, i)) {
      item = (["attention", "model", "schedule"] as const).find((b) => is(token, k(b))) ?? "other";
    }
    if (is(token, t.LParen, t.LSquare)) brackets++;
    else if (is(token, t.RParen, t.RSquare)) brackets = Math.max(0, brackets - 1);
    else if (is(token, t.LCurly)) {
      blocks.push(block === "top" ? item : block === "attention" ? "loop" : "other");
      [item, brackets] = ["other", 0];
    } else if (is(token, t.RCurly)) {
      if (blocks.length > 1) blocks.pop();
      brackets = 0;
    }
  });
  return diagnostics;
};
