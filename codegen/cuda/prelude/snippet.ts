/** Pieces of the text that kernels include. */
import type { Dtype } from "../../../src/kernel.ts";

/** A definition, and the names of those it calls. */
export type Snippet = { readonly needs?: readonly string[]; readonly text: string };
export type Snippets = { readonly [name: string]: Snippet };

/** How an element of a buffer is called. */
export const elementText: { readonly [D in Dtype]: string } = {
  f32: "float",
  i32: "int",
  f16: "f16",
  bf16: "bf16",
};

export const device = "__device__ inline";
/** Indices are int or i64. */
export const template = "template <typename I>";
