import type { Diagnostic, Source } from "./diagnostic.ts";
import { linesOf, placeOf } from "./place.ts";
import type { Place } from "./place.ts";

const tabStop = 4;
/** Longest piece of a source line that is shown; a longer one is cut around its caret. */
const widest = 120;

const wide =
  /[\u1100-\u115f\u2e80-\u303e\u3041-\u33ff\u3400-\u4dbf\u4e00-\u9fff\ua000-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe4f\uff00-\uff60\uffe0-\uffe6\u{1f300}-\u{1f64f}\u{1f680}-\u{1f6ff}\u{1f900}-\u{1f9ff}\u{20000}-\u{3fffd}]/u;
const thin = /\p{Mn}|\p{Me}|[\u200b-\u200d]/u;
/** Control characters never reach the terminal: they could move the cursor or recolour it. Bidi marks neither. */
const unprintable = /[\p{Cc}\p{Cs}\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]/u;

type Cell = { readonly text: string; readonly width: number };

const cells = (line: string): readonly Cell[] => {
  const out: Cell[] = [];
  let column = 0;
  for (const c of line) {
    const cell =
      c === "\t"
        ? { text: " ".repeat(tabStop - (column % tabStop)), width: tabStop - (column % tabStop) }
        : unprintable.test(c)
          ? { text: "\ufffd", width: 1 }
          : { text: c, width: thin.test(c) ? 0 : wide.test(c) ? 2 : 1 };
    column += cell.width;
    out.push(cell);
  }
  return out;
};

const sum = (list: readonly Cell[]): number => list.reduce((n, c) => n + c.width, 0);
const join = (list: readonly Cell[]): string => list.map((c) => c.text).join("");

/** The source line and the line of carets under it. */
const excerpt = (line: string, place: Place): { readonly shown: string; readonly marks: string } => {
  const all = cells(line);
  const from = Math.min(place.column - 1, all.length);
  const to = place.endLine > place.line ? all.length : Math.min(place.endColumn - 1, all.length);
  const left = from > widest / 2 ? from - widest / 4 : 0;
  const right = Math.min(all.length, left + widest);
  const carets = Math.max(1, sum(all.slice(from, Math.min(to, right))));
  return {
    shown: (left > 0 ? "…" : "") + join(all.slice(left, right)) + (right < all.length ? "…" : ""),
    marks: " ".repeat((left > 0 ? 1 : 0) + sum(all.slice(left, from))) + "^".repeat(carets),
  };
};

const one = (d: Diagnostic, source: Source | null): string => {
  const place = placeOf(d.span, source);
  const head = `${d.severity}[${d.code}]: ${d.message}`;
  const out: string[] = [];
  if (place !== null && source !== null) {
    const gutter = " ".repeat(String(place.line).length);
    const { shown, marks } = excerpt(linesOf(source.text)[place.line - 1]?.text ?? "", place);
    out.push(`${source.file}:${place.line}:${place.column}: ${head}`);
    out.push(`${gutter} |`, `${place.line} | ${shown}`.trimEnd(), `${gutter} | ${marks}`);
  } else {
    out.push(head, `  at ${"path" in d.span ? d.span.path : `offset ${d.span.start}`}`);
  }
  // Where the sentence already names them they are not said twice.
  if (d.found !== null && !d.message.includes(d.found)) out.push(`  found:    ${d.found}`);
  if (d.expected !== null && !d.message.includes(d.expected)) out.push(`  expected: ${d.expected}`);
  if (d.hint !== null) out.push(`  Hint: ${d.hint}`);
  return out.join("\n");
};

/** Diagnostics as text for a person, in order, with a blank line between two. `source` is null for built programs. */
export const render = (diagnostics: readonly Diagnostic[], source: Source | null): string =>
  diagnostics.map((d) => one(d, source) + "\n").join("\n");
