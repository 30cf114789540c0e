/** What the lexer and the parser could not make sense of, in the words of heddle's diagnostics. */
import { EOF, tokenMatcher } from "chevrotain";
import type { CstNode, IRecognitionException, IToken } from "chevrotain";
import { attentionFields, modelFields, scheduleFields } from "../src/ast.ts";
import { diagnostic, nearest } from "../src/diagnostic.ts";
import type { Diagnostic } from "../src/diagnostic.ts";
import { nodes, quote, spanOf, tokens } from "./place.ts";
import type { LexError } from "./tokens.ts";
import { LCurly, LParen, LSquare, RCurly, RParen, RSquare } from "./tokens.ts";

const deepest = 64;
const largest = 4 * 2 ** 20;

export const tooLarge = (text: string): Diagnostic | null =>
  text.length <= largest
    ? null
    : diagnostic(
        "file-too-large",
        { start: 0, end: 0 },
        { length: text.length },
        { expected: `at most ${largest}`, hint: "Split it: attentions and models need no common file." },
      );

/** The parser recurses once per bracket; deeper than any honest file it is not started at all. */
export const tooDeep = (all: readonly IToken[]): Diagnostic | null => {
  let [depth, most]: [number, number] = [0, 0];
  let at: IToken | null = null;
  for (const token of all) {
    if ([LCurly, LParen, LSquare].some((type) => tokenMatcher(token, type))) {
      depth++;
      if (depth === deepest + 1 && at === null) at = token;
      most = Math.max(most, depth);
    } else if ([RCurly, RParen, RSquare].some((type) => tokenMatcher(token, type))) {
      depth = Math.max(0, depth - 1);
    }
  }
  return at === null
    ? null
    : diagnostic("nesting-too-deep", spanOf(at), { depth: most }, { expected: `at most ${deepest}` });
};

/** Fields of the CST by place: of the errors inside one field only the first tells something new. */
const fieldRanges = (cst: CstNode): readonly (readonly [number, number])[] =>
  ["attention", "model", "schedule"]
    .flatMap((item) => nodes(cst, item).flatMap((node) => nodes(node, `${item}Field`)))
    .concat(nodes(cst, "let"))
    .map((node) => [node.location?.startOffset ?? 0, node.location?.endOffset ?? 0] as const)
    .sort((a, b) => a[0] - b[0]);

/** The parser's exceptions. One at the end of the file points behind the last thing that stands there. */
export const syntaxErrors = (
  errors: readonly IRecognitionException[],
  cst: CstNode,
  text: string,
): readonly Diagnostic[] => {
  const ranges = fieldRanges(cst);
  const told = new Set<string>();
  const rangeAt = (offset: number): number => {
    let [low, high] = [0, ranges.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((ranges[middle]?.[0] ?? 0) <= offset) low = middle + 1;
      else high = middle;
    }
    return offset <= (ranges[low - 1]?.[1] ?? -1) ? low - 1 : -1;
  };
  return errors.flatMap((error) => {
    // chevrotain's type leaves out what its mismatch errors carry.
    const last = (error as { readonly previousToken?: IToken }).previousToken;
    const before = last !== undefined && !Number.isNaN(last.startOffset) ? last : null;
    const field = before === null ? -1 : rangeAt(before.startOffset);
    const end = tokenMatcher(error.token, EOF);
    const key = field >= 0 ? `field ${field}` : `at ${end ? "end" : error.token.startOffset}`;
    if (told.has(key)) return [];
    told.add(key);
    const expected = error.message;
    const previous = before === null ? null : quote(before.image);
    if (end) {
      const tail = before === null ? text.trimEnd().length : spanOf(before).end;
      const span = { start: tail, end: tail };
      return diagnostic(
        "unexpected-end",
        span,
        { previous: previous ?? "its beginning", expected },
        { expected },
      );
    }
    const found = quote(error.token.image);
    return previous === null
      ? diagnostic("syntax-start", spanOf(error.token), { expected, found }, { found, expected })
      : diagnostic("syntax", spanOf(error.token), { expected, previous, found }, { found, expected });
  });
};

/** Line → offset of the first error of the lexer or the parser there. */
export type Stumbles = ReadonlyMap<number, number>;

export const stumbles = (
  errors: readonly IRecognitionException[],
  rubbish: readonly LexError[],
): Stumbles => {
  const lines = new Map<number, number>();
  for (const { line, offset } of rubbish) lines.set(line, Math.min(lines.get(line) ?? offset, offset));
  for (const { token } of errors) {
    const { startLine: line, startOffset: at } = token;
    if (line !== undefined && !Number.isNaN(at)) lines.set(line, Math.min(lines.get(line) ?? at, at));
  }
  return lines;
};

const known = { attention: attentionFields, model: modelFields, schedule: scheduleFields };
const title = { attention: "An attention", model: "A model", schedule: "A schedule" };
const items = ["attention", "model", "schedule", "let"];

const list = (words: readonly string[]) => words.map((w) => `\`${w}\``).join(", ");

/** Why a word that is no field here might have been written. */
const fieldHint = (word: string, body: keyof typeof known): string => {
  const other = (Object.keys(known) as (keyof typeof known)[]).find(
    (b) => b !== body && (known[b] as readonly string[]).includes(word),
  );
  const meant = nearest(word, known[body]);
  if (meant !== null) return `Did you mean \`${meant}\`?`;
  if (word === "segment" || word === "dilation")
    return "It belongs to a branch: `branch segment 2048 dilation 1`.";
  if (other !== undefined) return `\`${word}\` is a field of ${title[other].toLowerCase()}.`;
  return `Its fields are ${list(known[body])}.`;
};

/** What the rules `unknown`, `stray` and `block` had to read away below this node. */
export const unreadable = (
  node: CstNode,
  body: "program" | keyof typeof known,
  stumbled: Stumbles,
): readonly Diagnostic[] => {
  const out: Diagnostic[] = [];
  // Behind a parser error on the same line it is only what is left of a field in whose middle reading went on.
  const remains = (token: IToken) => token.startOffset >= (stumbled.get(token.startLine ?? -1) ?? Infinity);
  for (const part of nodes(node, "unknown")) {
    const [word] = tokens(part, "Word");
    if (word === undefined || remains(word)) continue;
    const name = quote(word.image);
    if (body === "program") {
      const meant = nearest(word.image, items);
      const hint = meant === null ? null : `Did you mean \`${meant}\`?`;
      out.push(diagnostic("unknown-item", spanOf(word), { name }, { expected: list(items), hint }));
    } else {
      const hint = fieldHint(word.image, body);
      out.push(diagnostic("unknown-field", spanOf(word), { item: title[body], name }, { hint }));
    }
  }
  const expected = body === "program" ? "an item (`attention`, `model`, `schedule` or `let`)" : "a field";
  const firsts = [
    ...nodes(node, "stray").map((part) => tokens(part, "Stray")[0]),
    ...nodes(node, "block").map((part) => tokens(part, "LCurly")[0]),
    ...(body === "program" ? tokens(node, "RCurly") : []),
  ].filter((token) => token !== undefined);
  firsts.sort((a, b) => a.startOffset - b.startOffset);
  const lines = new Set<number | undefined>();
  for (const token of firsts) {
    if (lines.has(token.startLine) || remains(token)) continue;
    lines.add(token.startLine);
    const found = quote(token.image);
    out.push(diagnostic("syntax-start", spanOf(token), { expected, found }, { found, expected }));
  }
  return out;
};
