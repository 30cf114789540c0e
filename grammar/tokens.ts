/**
 * The words of a heddle file. Every keyword is also a Word, so a name may be spelled like one (`let base = 256`); which
 * it is follows from where it stands. Categories group the fields that share a shape.
 */
import { createToken, Lexer } from "chevrotain";
import type { IToken, TokenType } from "chevrotain";
import {
  attentionNumbers,
  attentionWords,
  modelNumbers,
  modelWords,
  scheduleNumbers,
  scheduleWords,
} from "../src/ast.ts";

const category = (name: string, ...categories: TokenType[]) =>
  createToken({ name, pattern: Lexer.NA, categories });

/** Everything but braces: what may be skipped while looking for the next thing that can be read. */
export const Loose = category("Loose");
/** A first token that begins no item and no field. */
export const Stray = category("Stray", Loose);
export const ItemName = category("ItemName");
export const AttentionNumber = category("AttentionNumber");
export const AttentionWord = category("AttentionWord");
export const ModelNumber = category("ModelNumber");
export const ModelWord = category("ModelWord");
export const ScheduleNumber = category("ScheduleNumber");
export const ScheduleWord = category("ScheduleWord");
export const AddOp = category("AddOp", Stray);
export const MulOp = category("MulOp", Stray);

export const Word = createToken({ name: "Word", pattern: /[A-Za-z_][A-Za-z0-9_]*/, categories: Loose });

const shapes: readonly (readonly [readonly string[], TokenType])[] = [
  [["let", "attention", "model", "schedule"], ItemName],
  [attentionNumbers, AttentionNumber],
  [attentionWords, AttentionWord],
  [modelNumbers, ModelNumber],
  [modelWords, ModelWord],
  [scheduleNumbers, ScheduleNumber],
  [scheduleWords, ScheduleWord],
];
const structure = [
  "branch",
  "branches",
  "offsets",
  "segment",
  "dilation",
  "segments",
  "dilations",
  "in",
  "ffn",
  "position",
  "base",
  "xpos",
  "learned",
  "grid",
  "tile",
  "on",
] as const;

// A longer keyword must be tried before its own beginning: `branches` before `branch`.
const words = [...new Set([...shapes.flatMap(([list]) => list), ...structure])];
const keywords = new Map<string, TokenType>();
for (const word of words.sort((a, b) => b.length - a.length)) {
  const groups = shapes.filter(([list]) => list.includes(word)).map(([, group]) => group);
  keywords.set(
    word,
    createToken({
      // chevrotain keeps tokens and rules in one space of names; a rule `branch` stands beside the token `Branch`.
      name: word[0]?.toUpperCase() + word.slice(1),
      label: word,
      pattern: new RegExp(word),
      longer_alt: Word,
      categories: [Word, ...groups],
    }),
  );
}

/** The token of a keyword; asking for a word that is none is our own mistake. */
export const keyword = (word: string): TokenType => {
  const token = keywords.get(word);
  if (token === undefined) throw new Error(`heddle: internal: no keyword ${word}`);
  return token;
};

const symbol = (name: string, pattern: string, ...categories: TokenType[]) =>
  createToken({ name, pattern, categories: categories.length > 0 ? categories : [Stray] });

/** A digit and all that hangs on it; whether it is a number is for the reader to say (`2k`, `1_000`, `0x10` are not). */
export const NumberText = createToken({
  name: "NumberText",
  pattern: /\d+(?:\.\d+)?(?:[eE][+-]?\d+)?\w*/,
  categories: Stray,
});
export const Range = symbol("Range", "..");
export const Power = symbol("Power", "**");
export const Times = symbol("Times", "*", MulOp);
export const Divide = symbol("Divide", "/", MulOp);
export const Modulo = symbol("Modulo", "%", MulOp);
export const Plus = symbol("Plus", "+", AddOp);
export const Minus = symbol("Minus", "-", AddOp);
export const LParen = symbol("LParen", "(");
export const RParen = symbol("RParen", ")");
export const LSquare = symbol("LSquare", "[");
export const RSquare = symbol("RSquare", "]");
export const Comma = symbol("Comma", ",");
export const Equals = symbol("Equals", "=");
export const LCurly = createToken({ name: "LCurly", pattern: "{" });
export const RCurly = createToken({ name: "RCurly", pattern: "}" });

const White = createToken({
  name: "White",
  pattern: /[ \t\r\n\f\v\u00a0\u2028\u2029\ufeff]+/,
  group: Lexer.SKIPPED,
  line_breaks: true,
});
const Comment = createToken({ name: "Comment", pattern: /\/\/[^\n\r\u2028\u2029]*/, group: "comments" });

const groups = [...new Set(shapes.map(([, group]) => group))];
export const vocabulary: TokenType[] = [
  White,
  Comment,
  ...keywords.values(),
  Word,
  NumberText,
  Range,
  Power,
  Times,
  Divide,
  Modulo,
  Plus,
  Minus,
  LParen,
  RParen,
  LSquare,
  RSquare,
  Comma,
  Equals,
  LCurly,
  RCurly,
  Loose,
  Stray,
  AddOp,
  MulOp,
  ...groups,
];

const lexer = new Lexer(vocabulary, { positionTracking: "full", ensureOptimizations: false });

export type LexError = { readonly offset: number; readonly length: number; readonly line: number };

/** Cuts a text into tokens and comments; pieces that are no token come back as errors and are left out. */
export const tokenize = (
  text: string,
): {
  readonly tokens: IToken[];
  readonly comments: readonly IToken[];
  readonly errors: readonly LexError[];
} => {
  const { tokens, groups: found, errors } = lexer.tokenize(text);
  return {
    tokens,
    comments: found["comments"] ?? [],
    errors: errors.map((e) => ({ offset: e.offset, length: e.length, line: e.line ?? 0 })),
  };
};
