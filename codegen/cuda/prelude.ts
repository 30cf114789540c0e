/**
 * What the text of a kernel calls and CUDA does not have: storage types, access to memory by one number or four, inline PTX. A
 * text includes what it uses, between `#ifndef HEDDLE_HOST` and `#endif`; a host that runs the text (test/cuda/host) defines the
 * same words in its own way. All PTX stands here, in functions of one instruction or two.
 *
 * Memory. `at(p, i)` reads one element, `at4` the four from a multiple of four on, `at4_any` the four from anywhere; `put`, `put4`
 * and `put4_any` write. 16-bit numbers widen to float and are rounded to nearest even.
 */
import type { Dtype } from "../../src/kernel.ts";

export const elementText: { readonly [D in Dtype]: string } = {
  f32: "float",
  i32: "int",
  f16: "f16",
  bf16: "bf16",
};

type Snippet = { readonly needs?: readonly string[]; readonly text: string };
export type Verb = "at" | "at4" | "at4_any" | "put" | "put4" | "put4_any";

const device = "__device__ inline";
const template = "template <typename I>";

const vectors: { readonly [name: string]: Snippet } = {
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

/** Conversions: one 16-bit number, and two in a word, the first in its lower half. */
const conversions: { readonly [name: string]: Snippet } = {
  "widen f16": {
    needs: ["f16"],
    text: `${device} float widen(f16 x) {
  float wide;
  asm("cvt.f32.f16 %0, %1;" : "=f"(wide) : "h"(x.bits));
  return wide;
}`,
  },
  "widen bf16": {
    needs: ["bf16"],
    text: `${device} float widen(bf16 x) { return __int_as_float((int)((unsigned)x.bits << 16)); }`,
  },
  "narrow f16": {
    needs: ["f16"],
    text: `${device} void narrow(f16& to, float x) { asm("cvt.rn.f16.f32 %0, %1;" : "=h"(to.bits) : "f"(x)); }`,
  },
  "narrow bf16": {
    needs: ["bf16"],
    text: `${device} void narrow(bf16& to, float x) { asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(to.bits) : "f"(x)); }`,
  },
  "unpack f16": {
    text: `${device} void unpack_f16(unsigned pair, float& low, float& high) {
  asm("{.reg .f16 l, h; mov.b32 {l, h}, %2; cvt.f32.f16 %0, l; cvt.f32.f16 %1, h;}" : "=f"(low), "=f"(high) : "r"(pair));
}`,
  },
  "unpack bf16": {
    text: `${device} void unpack_bf16(unsigned pair, float& low, float& high) {
  low = __int_as_float((int)(pair << 16));
  high = __int_as_float((int)(pair & 0xffff0000u));
}`,
  },
  "pack f16": {
    text: `${device} unsigned pack_f16(float low, float high) {
  unsigned pair;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  return pair;
}`,
  },
  "pack bf16": {
    text: `${device} unsigned pack_bf16(float low, float high) {
  unsigned pair;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  return pair;
}`,
  },
};

function access(verb: Verb, dtype: Dtype): Snippet {
  const wide = dtype === "i32" ? "int" : "float";
  const vector = dtype === "i32" ? "ivec4" : "vec4";
  const element = elementText[dtype];
  const half = dtype === "f16" || dtype === "bf16";
  const [from, to] = [`const ${element}* p, I i`, `${element}* p, I i`];
  const reads = `${template} ${device}`;
  const four = [0, 1, 2, 3];
  switch (verb) {
    case "at":
      return {
        needs: half ? [`widen ${dtype}`] : [],
        text: `${reads} ${wide} at(${from}) { return ${half ? "widen(p[i])" : "p[i]"}; }`,
      };
    case "at4":
      return {
        needs: [vector, ...(half ? [`unpack ${dtype}`] : [])],
        text: half
          ? `${reads} vec4 at4(${from}) {
  const uint2 raw = *(const uint2*)(p + i);
  vec4 v;
  unpack_${dtype}(raw.x, v.x, v.y);
  unpack_${dtype}(raw.y, v.z, v.w);
  return v;
}`
          : `${reads} ${vector} at4(${from}) { return *(const ${vector}*)(p + i); }`,
      };
    case "at4_any":
      return {
        needs: [vector, `at ${dtype}`],
        text: `${reads} ${vector} at4_any(${from}) { return {${four.map((k) => `at(p, i${k === 0 ? "" : ` + ${k}`})`).join(", ")}}; }`,
      };
    case "put":
      return {
        needs: half ? [`narrow ${dtype}`] : [],
        text: `${reads} void put(${to}, ${wide} x) { ${half ? "narrow(p[i], x)" : "p[i] = x"}; }`,
      };
    case "put4":
      return {
        needs: [vector, ...(half ? [`pack ${dtype}`] : [])],
        text: half
          ? `${reads} void put4(${to}, vec4 v) { *(uint2*)(p + i) = {pack_${dtype}(v.x, v.y), pack_${dtype}(v.z, v.w)}; }`
          : `${reads} void put4(${to}, ${vector} v) { *(${vector}*)(p + i) = v; }`,
      };
    case "put4_any":
      return {
        needs: [vector, `put ${dtype}`],
        text: `${reads} void put4_any(${to}, ${vector} v) {
${four.map((k) => `  put(p, i${k === 0 ? "" : ` + ${k}`}, v.${"xyzw"[k]});`).join("\n")}
}`,
      };
  }
}

const instructions: { readonly [name: string]: Snippet } = {
  exp2_approx: {
    text: `${device} float exp2_approx(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}`,
  },
  "exchange f32": {
    text: `${device} float exchange(float x, int mask) { return __shfl_xor_sync(0xffffffffu, x, mask); }`,
  },
  "exchange f32x4": {
    needs: ["vec4", "exchange f32"],
    text: `${device} vec4 exchange(vec4 v, int mask) {
  return {exchange(v.x, mask), exchange(v.y, mask), exchange(v.z, mask), exchange(v.w, mask)};
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
