/**
 * The grammar, without actions: it only builds a CST, recovering from errors so that one run finds many.
 *
 *     program   = { let | attention | model | schedule }
 *     let       = "let" name "=" expression
 *     attention = "attention" name "{" { field } "}"
 *     model     = "model" name "{" { field } "}"
 *     schedule  = "schedule" name "on" name "{" { field } "}"
 *     branch    = "branch" "segment" expression "dilation" expression
 *               | "branch" name "in" expression ".." expression "{" "segment" expression "dilation" expression "}"
 *     branches  = "branches" "segments" list "dilations" list
 *     offsets   = "offsets" "[" list { "," list } "]"
 *     power     = "-"* primary { "**" "-"* primary }          right-associative, binds closer than a sign before it
 *
 * A range `a..b` holds both ends: `0..3` is 0, 1, 2, 3. White space and line ends only separate, except that a field name at
 * the start of a line is never taken for the forgotten value of the field before it.
 */
import { CstParser, EOF, tokenMatcher } from "chevrotain";
import type { CstNode, IToken, ParserMethod, TokenType } from "chevrotain";
import * as t from "./tokens.ts";
import { errorMessages } from "./expectations.ts";

const k = t.keyword;
const bodyFields = {
  attention: [t.AttentionNumber, t.AttentionWord, k("branch"), k("branches"), k("offsets")],
  model: [t.ModelNumber, t.ModelWord, k("ffn"), k("position")],
  schedule: [t.ScheduleNumber, t.ScheduleWord],
};
const anyField = Object.values(bodyFields).flat();
const operators: readonly TokenType[] = [t.AddOp, t.MulOp, t.Power, t.RParen, t.RSquare, t.Comma, t.Range];

type Rule = ParserMethod<[], CstNode>;
type Body = keyof typeof bodyFields;

class HeddleParser extends CstParser {
  constructor() {
    super(t.vocabulary, {
      recoveryEnabled: true,
      nodeLocationTracking: "full",
      maxLookahead: 1,
      errorMessageProvider: errorMessages,
    });
    this.performSelfAnalysis();
  }

  private is(at: number, ...types: readonly TokenType[]): boolean {
    const token = this.LA(at);
    return types.some((type) => tokenMatcher(token, type));
  }

  private sameLine(): boolean {
    return this.LA(0).endLine === this.LA(1).startLine;
  }

  /** A field name with something on its line that is no operator: it can only begin a field. */
  private fieldAhead(): boolean {
    return (
      this.is(1, ...anyField) &&
      !this.is(2, ...operators, t.RCurly, EOF) &&
      this.LA(1).endLine === this.LA(2).startLine
    );
  }

  /** An item keyword with the head of an item behind it: the block before it was not closed. */
  private itemAhead(): boolean {
    return this.is(1, t.ItemName) && this.is(2, t.Word) && this.is(3, t.LCurly, t.Equals, k("on"));
  }

  /** The value is missing when the next line begins with a field or an item. */
  private valueAhead(): boolean {
    return this.sameLine() || !(this.fieldAhead() || this.itemAhead());
  }

  program: Rule = this.RULE("program", () => {
    this.MANY(() =>
      this.OR({
        IGNORE_AMBIGUITIES: true,
        MAX_LOOKAHEAD: 1,
        DEF: [
          { ALT: () => this.SUBRULE(this.let) },
          { ALT: () => this.SUBRULE(this.attention) },
          { ALT: () => this.SUBRULE(this.model) },
          { ALT: () => this.SUBRULE(this.schedule) },
          ...this.leftovers(),
          { ALT: () => this.CONSUME(t.RCurly) },
        ],
      }),
    );
    this.CONSUME(EOF);
  });

  let: Rule = this.RULE("let", () => {
    this.CONSUME(k("let"));
    this.SUBRULE(this.name);
    this.CONSUME(t.Equals);
    this.SUBRULE(this.value);
  });

  /** Parts that several rules share; chevrotain counts them as written in each rule that calls them. */
  private body(field: Rule): void {
    this.CONSUME(t.LCurly);
    this.MANY({ GATE: () => !this.itemAhead(), DEF: () => this.SUBRULE(field) });
    this.CONSUME(t.RCurly);
  }

  private field(number: TokenType, word: TokenType, ...others: readonly Rule[]): void {
    const sized = () => {
      this.CONSUME(number);
      this.SUBRULE(this.value);
    };
    const worded = () => {
      this.CONSUME(word);
      this.SUBRULE(this.word);
    };
    const first = [sized, worded].map((ALT) => ({ ALT }));
    const rest = others.map((rule, i) => ({ ALT: () => this.subrule(i, rule) }));
    this.OR({ IGNORE_AMBIGUITIES: true, MAX_LOOKAHEAD: 1, DEF: [...first, ...rest, ...this.leftovers()] });
  }

  /** What is read away where something else should begin; tried last, since every keyword is a word too. */
  private leftovers() {
    return [this.unknown, this.stray, this.block].map((rule, i) => ({
      ALT: () => this.subrule(6 + i, rule),
    }));
  }

  attention: Rule = this.RULE("attention", () => {
    this.CONSUME(k("attention"));
    this.SUBRULE(this.name);
    this.body(this.attentionField);
  });

  model: Rule = this.RULE("model", () => {
    this.CONSUME(k("model"));
    this.SUBRULE(this.name);
    this.body(this.modelField);
  });

  schedule: Rule = this.RULE("schedule", () => {
    this.CONSUME(k("schedule"));
    this.SUBRULE(this.name);
    this.CONSUME(k("on"));
    this.SUBRULE2(this.name);
    this.body(this.scheduleField);
  });

  attentionField: Rule = this.RULE("attentionField", () =>
    this.field(t.AttentionNumber, t.AttentionWord, this.branch, this.branches, this.offsets),
  );

  modelField: Rule = this.RULE("modelField", () =>
    this.field(t.ModelNumber, t.ModelWord, this.ffn, this.position),
  );

  scheduleField: Rule = this.RULE("scheduleField", () => this.field(t.ScheduleNumber, t.ScheduleWord));

  branch: Rule = this.RULE("branch", () => {
    this.CONSUME(k("branch"));
    this.OR({
      IGNORE_AMBIGUITIES: true,
      MAX_LOOKAHEAD: 1,
      DEF: [
        { ALT: () => this.SUBRULE(this.cut) },
        {
          ALT: () => {
            this.SUBRULE(this.name);
            this.CONSUME(k("in"));
            this.SUBRULE(this.expression);
            this.CONSUME(t.Range);
            this.SUBRULE2(this.expression);
            this.CONSUME(t.LCurly);
            this.SUBRULE2(this.cut);
            this.CONSUME(t.RCurly);
          },
        },
      ],
    });
  });

  cut: Rule = this.RULE("cut", () => {
    this.CONSUME(k("segment"));
    this.SUBRULE(this.expression);
    this.CONSUME(k("dilation"));
    this.SUBRULE2(this.expression);
  });

  branches: Rule = this.RULE("branches", () => {
    this.CONSUME(k("branches"));
    this.CONSUME(k("segments"));
    this.SUBRULE(this.list);
    this.CONSUME(k("dilations"));
    this.SUBRULE2(this.list);
  });

  offsets: Rule = this.RULE("offsets", () => {
    this.CONSUME(k("offsets"));
    this.CONSUME(t.LSquare);
    this.MANY_SEP({ SEP: t.Comma, DEF: () => this.SUBRULE(this.list) });
    this.CONSUME(t.RSquare);
  });

  list: Rule = this.RULE("list", () => {
    this.CONSUME(t.LSquare);
    this.MANY_SEP({ SEP: t.Comma, DEF: () => this.SUBRULE(this.expression) });
    this.CONSUME(t.RSquare);
  });

  ffn: Rule = this.RULE("ffn", () => {
    this.CONSUME(k("ffn"));
    this.SUBRULE(this.value);
    this.OPTION({
      GATE: () =>
        this.sameLine() &&
        !this.is(1, ...bodyFields.model) &&
        !this.is(2, t.NumberText, t.LParen, t.LSquare, t.Minus),
      DEF: () => this.CONSUME(t.Word),
    });
  });

  position: Rule = this.RULE("position", () => {
    this.CONSUME(k("position"));
    this.OR({
      IGNORE_AMBIGUITIES: true,
      MAX_LOOKAHEAD: 1,
      DEF: [
        {
          ALT: () => {
            this.CONSUME(k("xpos"));
            this.OPTION(() => {
              this.CONSUME(k("base"));
              this.SUBRULE(this.expression);
            });
          },
        },
        {
          ALT: () => {
            this.CONSUME(k("learned"));
            this.OPTION2({
              GATE: () => this.valueAhead(),
              DEF: () => this.SUBRULE2(this.expression),
            });
          },
        },
        {
          ALT: () => {
            this.CONSUME(k("grid"));
            this.OPTION3({
              GATE: () => this.valueAhead(),
              DEF: () => {
                this.SUBRULE3(this.expression);
                this.OPTION4(() => {
                  this.CONSUME(k("tile"));
                  this.SUBRULE4(this.expression);
                });
              },
            });
          },
        },
        { GATE: () => this.valueAhead(), ALT: () => this.CONSUME(t.Word) },
      ],
    });
  });

  name: Rule = this.RULE("name", () => {
    this.CONSUME(t.Word);
  });

  word: Rule = this.RULE("word", () => {
    this.OR([{ GATE: () => this.valueAhead(), ALT: () => this.CONSUME(t.Word) }]);
  });

  value: Rule = this.RULE("value", () => {
    this.OR([{ GATE: () => this.valueAhead(), ALT: () => this.SUBRULE(this.expression) }]);
  });

  expression: Rule = this.RULE("expression", () => {
    this.SUBRULE(this.term);
    this.MANY(() => {
      this.CONSUME(t.AddOp);
      this.SUBRULE2(this.term);
    });
  });

  term: Rule = this.RULE("term", () => {
    this.SUBRULE(this.power);
    this.MANY(() => {
      this.CONSUME(t.MulOp);
      this.SUBRULE2(this.power);
    });
  });

  power: Rule = this.RULE("power", () => {
    this.SUBRULE(this.operand);
    this.MANY(() => {
      this.CONSUME(t.Power);
      this.SUBRULE2(this.operand);
    });
  });

  operand: Rule = this.RULE("operand", () => {
    this.MANY(() => this.CONSUME(t.Minus));
    this.OR([
      { ALT: () => this.CONSUME(t.NumberText) },
      {
        GATE: () => this.valueAhead(),
        ALT: () => {
          this.CONSUME(t.Word);
          this.OPTION(() => {
            this.CONSUME(t.LParen);
            this.MANY_SEP({ SEP: t.Comma, DEF: () => this.SUBRULE(this.expression) });
            this.CONSUME(t.RParen);
          });
        },
      },
      {
        ALT: () => {
          this.CONSUME2(t.LParen);
          this.SUBRULE2(this.expression);
          this.CONSUME2(t.RParen);
        },
      },
    ]);
  });

  /** A word that begins nothing, what follows on its line, and a block: read away, so that only the word is reported. */
  unknown: Rule = this.RULE("unknown", () => {
    this.CONSUME(t.Word);
    this.MANY({
      GATE: () => this.sameLine() && !this.fieldAhead() && !this.itemAhead(),
      DEF: () => this.CONSUME(t.Loose),
    });
    this.OPTION({ GATE: () => this.sameLine(), DEF: () => this.SUBRULE(this.block) });
  });

  /** Numbers and signs where a field or an item should begin. */
  stray: Rule = this.RULE("stray", () => {
    this.CONSUME(t.Stray);
    this.MANY({ GATE: () => this.sameLine(), DEF: () => this.CONSUME2(t.Stray) });
  });

  block: Rule = this.RULE("block", () => {
    this.CONSUME(t.LCurly);
    this.MANY({
      GATE: () => !this.itemAhead(),
      DEF: () => this.OR([{ ALT: () => this.CONSUME(t.Loose) }, { ALT: () => this.SUBRULE(this.block) }]),
    });
    this.CONSUME(t.RCurly);
  });
}

const parser = new HeddleParser();

/** Whether a token begins a field of this kind of block. */
export const beginsField = (token: IToken, body: Body): boolean =>
  bodyFields[body].some((type) => tokenMatcher(token, type));

export type { Body };

/** The CST of a whole file, with as much of it as could be read, and what was wrong. */
export const parse = (tokens: IToken[]) => {
  parser.input = tokens;
  return { cst: parser.program(), errors: parser.errors };
};
