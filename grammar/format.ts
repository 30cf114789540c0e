import { isError } from "../src/diagnostic.ts";
import type { Diagnostic } from "../src/diagnostic.ts";
import { layout } from "./layout.ts";
import { read } from "./read.ts";
import { parse } from "./rules.ts";
import { tokenize } from "./tokens.ts";

/**
 * Lays out a file, keeping its comments and its line ends; formatting twice changes nothing more. A file with syntax
 * errors is not touched and its errors come back instead.
 */
export const format = (
  text: string,
  file = "",
): { readonly text: string } | { readonly diagnostics: readonly Diagnostic[] } => {
  const { diagnostics } = read(text, file);
  if (diagnostics.some(isError)) return { diagnostics };
  const { tokens, comments } = tokenize(text);
  return { text: layout(tokens, comments, parse(tokens).cst) };
};
