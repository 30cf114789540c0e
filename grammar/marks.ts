import type { CstNode, IToken } from "chevrotain";
import { nodes, tokens } from "./place.ts";

/** What the layout must know of a file beyond its tokens: offsets of tokens by the part they play. */
export type Marks = {
  readonly item: ReadonlySet<number>;
  readonly field: ReadonlySet<number>;
  /** A branch with one segment and one dilation: the field's start, to the start of its `dilation`. */
  readonly cut: ReadonlyMap<number, number>;
  /** Later parts of a field, set apart by two spaces: `dilation`, `dilations`. */
  readonly part: ReadonlySet<number>;
  /** `segment` and `dilation` inside the braces of a loop. */
  readonly inner: ReadonlySet<number>;
  readonly callParen: ReadonlySet<number>;
  readonly sign: ReadonlySet<number>;
};

const offset = (token: IToken | undefined): readonly number[] =>
  token === undefined ? [] : [token.startOffset];

/** Reads the marks off the CST of a file without syntax errors. */
export const marksOf = (cst: CstNode): Marks => {
  const [item, field, part, inner, callParen, sign] = Array.from({ length: 6 }, () => new Set<number>());
  const cut = new Map<number, number>();
  const start = (node: CstNode): number => node.location?.startOffset ?? 0;
  const walk = (node: CstNode): void => {
    switch (node.name) {
      case "let":
      case "attention":
      case "model":
      case "schedule":
        item?.add(start(node));
        break;
      case "attentionField":
      case "modelField":
      case "scheduleField":
        field?.add(start(node));
        break;
      case "branch": {
        const sizes = nodes(node, "cut")[0];
        const dilation = tokens(sizes, "Dilation")[0];
        if (dilation !== undefined) part?.add(dilation.startOffset);
        if (nodes(node, "name").length === 0) {
          if (dilation !== undefined) cut.set(start(node), dilation.startOffset);
        } else {
          for (const token of [...tokens(sizes, "Segment"), ...tokens(sizes, "Dilation")]) {
            inner?.add(token.startOffset);
          }
        }
        break;
      }
      case "branches":
        for (const at of offset(tokens(node, "Dilations")[0])) part?.add(at);
        break;
      case "operand":
        if (tokens(node, "Word").length > 0)
          for (const at of offset(tokens(node, "LParen")[0])) callParen?.add(at);
        for (const minus of tokens(node, "Minus")) sign?.add(minus.startOffset);
        break;
    }
    for (const children of Object.values(node.children)) {
      for (const child of children) if ("children" in child) walk(child);
    }
  };
  walk(cst);
  const set = (s: Set<number> | undefined) => s ?? new Set<number>();
  return {
    item: set(item),
    field: set(field),
    cut,
    part: set(part),
    inner: set(inner),
    callParen: set(callParen),
    sign: set(sign),
  };
};
