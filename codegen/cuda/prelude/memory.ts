/** Access to buffers, tables and shared memory; 16-bit numbers. */
import type { Dtype } from "../../../src/kernel.ts";
import { device, elementText, template, type Snippet, type Snippets } from "./snippet.ts";

export type Verb = "at" | "at4" | "at4_any" | "put" | "put4" | "put4_any";

/** Conversions: one 16-bit number, and two in a word, the first in its lower half. */
export const conversions: Snippets = {
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

export function access(verb: Verb, dtype: Dtype): Snippet {
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

/** Two neighbours of a buffer, from an even index on. */
export function pairs(verb: "load_pair" | "store_pair", dtype: "f32" | "f16" | "bf16"): Snippet {
  const element = elementText[dtype];
  const half = dtype !== "f32";
  if (verb === "load_pair")
    return {
      needs: half ? [`unpack ${dtype}`, dtype] : [],
      text: `${template} ${device} void load_pair(float* x, const ${element}* p, I i) {
  ${half ? `unpack_${dtype}(*(const unsigned*)(p + i), x[0], x[1]);` : "const float2 pair = *(const float2*)(p + i);\n  x[0] = pair.x, x[1] = pair.y;"}
}`,
    };
  return {
    needs: half ? [`pack ${dtype}`, dtype] : [],
    text: `${template} ${device} void store_pair(${element}* p, I i, float low, float high) {
  ${half ? `*(unsigned*)(p + i) = pack_${dtype}(low, high);` : "*(float2*)(p + i) = {low, high};"}
}`,
  };
}
