/**
 * What the text of a kernel calls and CUDA does not have: storage types, access to memory by one number or four, inline PTX. A
 * text includes what it uses, between `#ifndef HEDDLE_HOST` and `#endif`; a host that runs the text (test/cuda/host) defines the
 * same words in its own way. All PTX stands here, in functions of one instruction or two.
 *
 * Memory. `at(p, i)` reads one element, `at4` the four from a multiple of four on, `at4_any` the four from anywhere; `put`, `put4`
 * and `put4_any` write. 16-bit numbers widen to float and are rounded to nearest even.
 */
import type { Dtype } from "../../src/kernel.ts";
import { access, conversions, pairs, type Verb } from "./prelude/memory.ts";
import { device, type Snippet, type Snippets } from "./prelude/snippet.ts";
import { warps } from "./prelude/warp.ts";

export { elementText } from "./prelude/snippet.ts";
export type { Verb } from "./prelude/memory.ts";

const vectors: Snippets = {
  i64: { text: "typedef long long i64;" },
  vec4: { text: "struct alignas(16) vec4 { float x, y, z, w; };" },
  ivec4: { text: "struct alignas(16) ivec4 { int x, y, z, w; };" },
  bvec4: { text: "struct bvec4 { bool x, y, z, w; };" },
  f16: { text: "struct f16 { unsigned short bits; };" },
  bf16: { text: "struct bf16 { unsigned short bits; };" },
  In: { text: "template <typename T> using In = const T* __restrict__;" },
  Out: { text: "template <typename T> using Out = T* __restrict__;" },
  Shared: { text: "template <typename T> using Shared = T*;" },
  shared: {
    needs: ["Shared"],
    text: `extern __shared__ uint4 heddle_shared[];
// An array of the launch's shared memory, from a byte on, by its number of elements.
template <typename T> ${device} Shared<T> shared(int byte, int) { return (T*)((char*)heddle_shared + byte); }`,
  },
};

const instructions: Snippets = {
  exp2_approx: {
    text: `${device} float exp2_approx(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}`,
  },
};

const VERBS: readonly Verb[] = ["at", "at4", "at4_any", "put", "put4", "put4_any"];
const DTYPES: readonly Dtype[] = ["f32", "i32", "f16", "bf16"];

/** By name, each after what it needs. */
const snippets: ReadonlyMap<string, Snippet> = new Map<string, Snippet>([
  ...Object.entries(vectors),
  ...Object.entries(conversions),
  ...VERBS.flatMap((v) => DTYPES.map((d): [string, Snippet] => [`${v} ${d}`, access(v, d)])),
  ...Object.entries(instructions),
  ...Object.entries(warps),
  ...(["load_pair", "store_pair"] as const).flatMap((v) =>
    (["f32", "f16", "bf16"] as const).map((d): [string, Snippet] => [`${v} ${d}`, pairs(v, d)]),
  ),
]);

/** The words that the prelude may define. */
export const preludeWords: readonly string[] = [...snippets.keys()].flatMap((name) => [
  name.split(" ")[0] ?? "",
  name.replace(" ", "_"),
]);

/** The definitions that a text asks for by name, and what these need. */
export function prelude(used: Iterable<string>): readonly string[] {
  const wanted = new Set<string>();
  const want = (name: string): void => {
    const snippet = snippets.get(name);
    if (snippet === undefined) throw new Error(`heddle: internal: cuda: the prelude has no '${name}'`);
    snippet.needs?.forEach(want);
    wanted.add(name);
  };
  for (const name of used) want(name);
  return [...snippets].flatMap(([name, { text }]) => (wanted.has(name) ? [text] : []));
}
