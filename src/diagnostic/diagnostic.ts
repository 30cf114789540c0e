import type { Span } from "../ast.ts";
import { sentence, severityOf } from "./table.ts";
import type { Args, Code, Severity } from "./table.ts";

/** One problem of a user's program, as data. */
export type Diagnostic = {
  readonly code: Code;
  readonly severity: Severity;
  readonly message: string;
  readonly span: Span;
  /** What stands there, and what should: phrases, or null where the sentence says it all. */
  readonly found: string | null;
  readonly expected: string | null;
  /** How to repair it. */
  readonly hint: string | null;
};

/** The text a program was read from; `file` is only a name for messages. */
export type Source = { readonly file: string; readonly text: string };

/** Makes a diagnostic; its sentence comes from the table, so `args` must hold exactly what the sentence needs. */
export const diagnostic = <C extends Code>(
  code: C,
  span: Span,
  args: Args<C>,
  more: {
    readonly found?: string | undefined;
    readonly expected?: string | undefined;
    readonly hint?: string | null | undefined;
  } = {},
): Diagnostic => ({
  code,
  severity: severityOf(code),
  message: sentence(code, args),
  span,
  found: more.found ?? null,
  expected: more.expected ?? null,
  hint: more.hint ?? null,
});

export const isError = (d: Diagnostic): boolean => d.severity === "error";

/** In the order of the text; problems at one place, and those of built programs, stay in the order they were found. */
export const inOrder = (diagnostics: readonly Diagnostic[]): readonly Diagnostic[] => {
  const at = (d: Diagnostic) => ("path" in d.span ? 0 : d.span.start);
  return [...diagnostics].sort((a, b) => at(a) - at(b));
};

/** A file of rubbish has a problem per byte; nobody reads past these. */
const mostProblems = 1000;

/** The first thousand diagnostics, and one that says how many more there are. */
export const limited = (diagnostics: readonly Diagnostic[]): readonly Diagnostic[] => {
  const next = diagnostics[mostProblems];
  if (next === undefined) return diagnostics;
  const args = { most: mostProblems, left: diagnostics.length - mostProblems };
  return [...diagnostics.slice(0, mostProblems), diagnostic("too-many-problems", next.span, args)];
};
