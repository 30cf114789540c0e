import type { Span } from "../ast.ts";
import type { Source } from "./diagnostic.ts";

/** Lines and columns from 1; a column counts code points, a tab as one. `end` stands behind the last character. */
export type Place = {
  readonly line: number;
  readonly column: number;
  readonly endLine: number;
  readonly endColumn: number;
};

const lineBreak = /\r\n|[\n\r\u2028\u2029]/g;

type Line = { readonly start: number; readonly text: string };

let latest: { readonly text: string; readonly lines: readonly Line[] } | null = null;

/** The lines of a text; the last text is remembered, since all diagnostics of a run share it. */
export const linesOf = (text: string): readonly Line[] => {
  if (latest?.text === text) return latest.lines;
  const lines: Line[] = [];
  let start = 0;
  for (const m of text.matchAll(lineBreak)) {
    lines.push({ start, text: text.slice(start, m.index) });
    start = m.index + m[0].length;
  }
  lines.push({ start, text: text.slice(start) });
  latest = { text, lines };
  return lines;
};

const lineAt = (lines: readonly Line[], offset: number): number => {
  let [low, high] = [0, lines.length - 1];
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if ((lines[middle]?.start ?? 0) <= offset) low = middle;
    else high = middle - 1;
  }
  return low;
};

const points = (line: Line | undefined, offset: number): number =>
  [...(line?.text.slice(0, Math.max(0, offset - line.start)) ?? "")].length + 1;

/** Where a span lies in its source; null for spans of the builder. */
export const placeOf = (span: Span, source: Source | null): Place | null => {
  if ("path" in span || source === null) return null;
  const lines = linesOf(source.text);
  const start = Math.min(span.start, source.text.length);
  const end = Math.min(Math.max(span.end, start), source.text.length);
  const [first, last] = [lineAt(lines, start), lineAt(lines, end)];
  return {
    line: first + 1,
    column: points(lines[first], start),
    endLine: last + 1,
    endColumn: points(lines[last], end),
  };
};
