import type { Code, Severity } from "./table.ts";
import type { Diagnostic, Source } from "./diagnostic.ts";
import { placeOf } from "./place.ts";

/** A diagnostic for programs. A problem of a built program has a `path` and no file; one of a text the reverse. */
export type JsonDiagnostic = {
  readonly code: Code;
  readonly severity: Severity;
  readonly message: string;
  readonly file: string | null;
  readonly path: string | null;
  readonly line: number | null;
  readonly column: number | null;
  readonly endLine: number | null;
  readonly endColumn: number | null;
  readonly found: string | null;
  readonly expected: string | null;
  readonly hint: string | null;
};

export const toJson = (
  diagnostics: readonly Diagnostic[],
  source: Source | null,
): readonly JsonDiagnostic[] =>
  diagnostics.map((d) => {
    const place = placeOf(d.span, source);
    return {
      code: d.code,
      severity: d.severity,
      message: d.message,
      file: source?.file ?? null,
      path: "path" in d.span ? d.span.path : null,
      line: place?.line ?? null,
      column: place?.column ?? null,
      endLine: place?.endLine ?? null,
      endColumn: place?.endColumn ?? null,
      found: d.found,
      expected: d.expected,
      hint: d.hint,
    };
  });

/** GitHub reads `%`, line ends and, in properties, `:` and `,` as its own; they travel as percent codes. */
const data = (s: string) => s.replaceAll("%", "%25").replaceAll("\r", "%0D").replaceAll("\n", "%0A");
const property = (s: string) => data(s).replaceAll(":", "%3A").replaceAll(",", "%2C");

/** Workflow commands, one line each: GitHub shows them beside the lines of a pull request. */
export const toGithub = (diagnostics: readonly Diagnostic[], source: Source | null): string =>
  toJson(diagnostics, source)
    .map((d) => {
      const where =
        d.file !== null && d.line !== null
          ? `file=${property(d.file)},line=${d.line},endLine=${d.endLine},col=${d.column},endColumn=${d.endColumn},`
          : "";
      const text = [
        d.path === null ? d.message : `${d.path}: ${d.message}`,
        ...(d.found === null ? [] : [`found: ${d.found}`]),
        ...(d.expected === null ? [] : [`expected: ${d.expected}`]),
        ...(d.hint === null ? [] : [`Hint: ${d.hint}`]),
      ].join("\n");
      return `::${d.severity} ${where}title=${property(d.code)}::${data(text)}\n`;
    })
    .join("");
