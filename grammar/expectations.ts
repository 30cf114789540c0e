/** What the parser was looking for, as a phrase for people; the reader turns it into a diagnostic. */
import { EOF } from "chevrotain";
import type { IParserErrorMessageProvider, TokenType } from "chevrotain";

const places: Readonly<Record<string, string>> = {
  value: "a value",
  operand: "a number, a name or `(`",
  word: "a word",
  branch: "`segment`",
  position: "`xpos`, `learned`, `grid` or `none`",
};

const named: Readonly<Record<string, string>> = {
  Word: "a name",
  NumberText: "a number",
  LCurly: "`{`",
  RCurly: "`}`",
  LParen: "`(`",
  RParen: "`)`",
  LSquare: "`[`",
  RSquare: "`]`",
  Equals: "`=`",
  Range: "`..`",
  Comma: "`,`",
};

/** A token as a phrase: `}` for RCurly, a keyword by itself. */
const phrase = (type: TokenType): string =>
  type === EOF
    ? "an item (`attention`, `model`, `schedule` or `let`)"
    : (named[type.name] ?? `\`${type.LABEL ?? type.name}\``);

export const errorMessages: IParserErrorMessageProvider = {
  buildMismatchTokenMessage: ({ expected }) => phrase(expected),
  buildNotAllInputParsedMessage: () => phrase(EOF),
  buildNoViableAltMessage: ({ ruleName }) => places[ruleName] ?? "something else",
  buildEarlyExitMessage: ({ ruleName }) => places[ruleName] ?? "something else",
};
