import { isError } from "../src/diagnostic.ts";
import type { Diagnostic } from "../src/diagnostic.ts";
import { layout } from "./layout.ts";
import { readWhole } from "./read.ts";

/**
 * Lays out a file, keeping its comments and its line ends; formatting twice changes nothing more. A file with syntax
 * errors is not touched and its errors come back instead.
 */
export const format = (
  text: string,
  _file = "",
): { readonly text: string } | { readonly diagnostics: readonly Diagnostic[] } => {
  const { diagnostics, tokens, comments, cst } = readWhole(text);
  return diagnostics.some(isError) ? { diagnostics } : { text: layout(tokens, comments, cst) };
};
