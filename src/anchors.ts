/** Where a spec says what a kernel does: the lines that shaders name in their comments. */
import type * as Ast from "./ast.ts";
import { placeOf } from "./diagnostic/place.ts";
import type { AttentionShape } from "./spec.ts";

/** Lines of a source, from 1; null where nothing was written in a text. */
export type Anchors = {
  readonly item: (name: string) => number | null;
  readonly branch: (attention: AttentionShape, branch: number) => number | null;
};

/** The anchors of a text that was read to `ast`. */
export function anchorsOf(ast: Ast.Program, text: string): Anchors {
  const line = (span: Ast.Span): number | null => placeOf(span, { file: "", text })?.line ?? null;
  const named = (name: string) => ast.items.find((item) => "name" in item && item.name.text === name);
  return {
    item: (name) => {
      const item = named(name);
      return item === undefined ? null : line(item.span);
    },
    branch: ({ name, branches }, branch) => {
      const item = named(name);
      if (item?.item !== "attention") return null;
      const fields = item.fields.filter((f) => f.field === "branch" || f.field === "branches");
      // A range stands for as many branches as the other fields leave; of several ranges the first one is named.
      const fixed = fields.map((f) =>
        f.field === "branches" ? f.segments.length : f.over === null ? 1 : null,
      );
      const rest = branches.length - fixed.reduce<number>((sum, n) => sum + (n ?? 0), 0);
      let before = 0;
      for (const [i, field] of fields.entries()) {
        before += fixed[i] ?? rest;
        if (branch < before) return line(field.span);
      }
      return line(item.span);
    },
  };
}
