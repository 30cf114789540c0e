/** Reading the fields of a block: each at most once, the required ones there, words among those known, numbers in range. */
import type { Expr, Name, Span } from "../ast.ts";
import { diagnostic, nearest } from "../diagnostic.ts";
import { evaluate } from "./expression.ts";
import type { Report } from "./expression.ts";

export const largestInteger = 2 ** 31 - 1;

export type Constants = ReadonlyMap<string, number | null>;

/** "1, 2 and 3". */
export const listed = (words: readonly string[], last = "and"): string =>
  words.length < 2 ? (words[0] ?? "") : `${words.slice(0, -1).join(", ")} ${last} ${words.at(-1) ?? ""}`;

const quoted = (words: readonly string[]) =>
  listed(
    words.map((w) => `\`${w}\``),
    "or",
  );

/** A number for people: integers in full, others to six digits. */
export const shown = (x: number): string =>
  Number.isInteger(x) && Math.abs(x) < 1e15 ? String(x) : String(Number(x.toPrecision(6)));

type AnyField = { readonly field: string; readonly span: Span };

/** Every field by its name, after reporting those given twice; `repeatable` ones are left to the caller. */
export const once = <F extends AnyField>(
  fields: readonly F[],
  repeatable: readonly string[],
  report: Report,
): (<K extends F["field"]>(name: K) => Extract<F, { readonly field: K }> | null) => {
  const first = new Map<string, F>();
  for (const f of fields) {
    if (!first.has(f.field)) first.set(f.field, f);
    else if (!repeatable.includes(f.field)) {
      report(
        diagnostic("duplicate-field", f.span, { field: `\`${f.field}\`` }, { hint: "Keep one of them." }),
      );
    }
  }
  return <K extends F["field"]>(name: K) =>
    (first.get(name) as Extract<F, { readonly field: K }> | undefined) ?? null;
};

/** A word out of `known`; `otherwise` where the field is absent, null after reporting or at a hole. */
export const wordOf = <const W extends string, D>(
  field: { readonly field: string; readonly value: Name } | null,
  known: readonly W[],
  otherwise: D,
  report: Report,
): W | D | null => {
  if (field === null) return otherwise;
  const { text, span } = field.value;
  const word = known.find((w) => w === text);
  if (word !== undefined) return word;
  if (text !== "") report(unknownWord(field.field, field.value, known, span));
  return null;
};

export const unknownWord = (field: string, found: Name, known: readonly string[], span: Span) => {
  const meant = nearest(found.text, known);
  return diagnostic(
    "unknown-word",
    span,
    { field: `\`${field}\``, found: `\`${found.text}\`` },
    {
      found: `\`${found.text}\``,
      expected: quoted(known),
      hint: meant === null ? null : `Did you mean \`${meant}\`?`,
    },
  );
};

export type Bounds = { readonly what: string; readonly least: number; readonly most: number };

/** An integer that an expression gave, within its bounds. */
export const integerAt = (value: number, span: Span, bounds: Bounds, report: Report): number | null => {
  const { what, least, most } = bounds;
  const expected =
    most === largestInteger ? `an integer of at least ${least}` : `an integer from ${least} to ${most}`;
  if (!Number.isInteger(value)) {
    report(diagnostic("not-integer", span, { what, value: shown(value) }, { expected }));
    return null;
  }
  if (value > largestInteger && value > most) {
    report(
      diagnostic(
        "number-too-large",
        span,
        { what, value: shown(value) },
        { expected: `at most ${largestInteger}` },
      ),
    );
    return null;
  }
  if (value < least || value > most) {
    report(diagnostic("out-of-range", span, { what, expected, value: shown(value) }));
    return null;
  }
  return value;
};

/** The integer an expression stands for, or null after reporting. */
export const integerOf = (
  expr: Expr,
  constants: Constants,
  bounds: Bounds,
  report: Report,
): number | null => {
  const value = evaluate(expr, constants, report);
  return value === null ? null : integerAt(value, expr.span, bounds, report);
};

/** A number above zero (and below `below`), or null after reporting. */
export const positiveOf = (
  expr: Expr,
  constants: Constants,
  what: string,
  report: Report,
  below = Infinity,
): number | null => {
  const value = evaluate(expr, constants, report);
  if (value === null) return null;
  if (value > 0 && value < below) return value;
  const expected = below === Infinity ? "a number above 0" : `a number between 0 and ${below}`;
  report(diagnostic("out-of-range", expr.span, { what, expected, value: shown(value) }));
  return null;
};

/** Reports a required field that is absent; `hint` shows how it is written. */
export const missing = (item: string, field: string, span: Span, hint: string, report: Report): null => {
  report(diagnostic("missing-field", span, { item, field: `\`${field}\`` }, { hint }));
  return null;
};
