/**
 * The whole text of a shader: how its buffers are declared and reached. Kernels call functions named after a buffer, so a tensor
 * may be split into several bindings and 16-bit numbers may be unpacked in one way or another under the same kernel.
 */
import type { Shader, ShaderBuffer } from "../plan.ts";

export type ShaderForm = {
  /** Whether the device has `shader-f16`; without it f16 is unpacked from 32-bit words. */
  readonly f16: boolean;
  /** Bindings of each buffer; 1 unless a tensor is too large for one. */
  readonly parts?: readonly number[];
  /** A part holds 2^partLog bytes; the last one may hold fewer. */
  readonly partLog?: number;
  /**
   * Elements of a row of each buffer in parts that is seen from row `first_row` on, or 0: a binding of one part begins there itself, which
   * one of several cannot.
   */
  readonly widths?: readonly number[];
};

/** Bindings besides the parameters' that a shader takes. */
export const bindingsOf = (shader: Shader, parts?: readonly number[]): number =>
  shader.buffers.reduce((sum, _, i) => sum + (parts?.[i] ?? 1), 0);

export function shaderText(shader: Shader, { f16, parts, widths, partLog = 30 }: ShaderForm): string {
  let binding = 1;
  const lines: string[] = [];
  shader.buffers.forEach((buffer, i) => {
    const count = parts?.[i] ?? 1;
    lines.push(...declared(buffer, f16, binding, count, partLog, widths?.[i] ?? 0));
    binding += count;
  });
  // Directives come before everything else.
  const [, enables = "", rest = ""] =
    /^((?:(?:enable|requires|diagnostic)\b[^\n]*\n)*)([^]*)$/.exec(shader.code) ?? [];
  const native = f16 && shader.buffers.some((b) => b.dtype === "f16") ? "enable f16;\n" : "";
  return `${native}${enables}${lines.join("\n")}\n\n${rest}`;
}

/** How an element of the array is written, what it is read as, and how four numbers come out of it and go in. */
type Storage = {
  readonly element: string;
  /** Bytes of an element of the array, as a power of two. */
  readonly log: number;
  /** Whether an element of the array holds two of the tensor. */
  readonly pairs?: true;
  readonly scalar: "f32" | "i32";
  readonly widen: (raw: string) => string;
  readonly narrow: (value: string) => string;
};

function storageOf({ dtype, layout }: ShaderBuffer, f16: boolean): Storage {
  const four = layout === "four";
  const own = (raw: string) => raw;
  if (dtype === "i32" || dtype === "f32")
    return {
      element: four ? (dtype === "i32" ? "vec4i" : "vec4f") : dtype,
      log: four ? 4 : 2,
      scalar: dtype,
      widen: own,
      narrow: own,
    };
  if (dtype === "f16" && f16)
    return {
      element: four ? "vec4<f16>" : "f16",
      log: four ? 3 : 1,
      scalar: "f32",
      widen: (raw) => `${four ? "vec4f" : "f32"}(${raw})`,
      narrow: (value) => `${four ? "vec4<f16>" : "f16"}(${value})`,
    };
  const pair = dtype === "f16" ? "f16_pair" : "bf16_pair";
  return {
    element: four ? "vec2u" : "u32",
    log: four ? 3 : 2,
    ...(four ? {} : { pairs: true as const }),
    scalar: "f32",
    widen: (raw) =>
      four ? `vec4f(${unpack(pair, `${raw}.x`)}, ${unpack(pair, `${raw}.y`)})` : unpack(pair, raw),
    narrow: (value) =>
      dtype === "f16" ? `vec2u(pack2x16float(${value}.xy), pack2x16float(${value}.zw))` : packBf16(value),
  };
}
const unpack = (pair: string, word: string): string =>
  pair === "f16_pair"
    ? `unpack2x16float(${word})`
    : `vec2f(bitcast<f32>(${word} << 16u), bitcast<f32>(${word} & 0xffff0000u))`;
/** To nearest even: half a unit less the last kept bit's complement carries into it. */
const packBf16 = (value: string): string => {
  const rounded = `((bitcast<vec4u>(${value}) + 0x7fffu + ((bitcast<vec4u>(${value}) >> vec4u(16u)) & vec4u(1u))) >> vec4u(16u))`;
  return `vec2u(${rounded}.x | (${rounded}.y << 16u), ${rounded}.z | (${rounded}.w << 16u))`;
};

function declared(
  buffer: ShaderBuffer,
  f16: boolean,
  first: number,
  parts: number,
  partLog: number,
  width: number,
): string[] {
  const { name, access, uses, layout } = buffer;
  const s = storageOf(buffer, f16);
  const four = layout === "four";
  const mode = access === "read" ? "read" : "read_write";
  const names = Array.from({ length: parts }, (_, p) => (parts === 1 ? name : `${name}_${p}`));
  const out = names.map(
    (n, p) => `@group(0) @binding(${first + p}) var<storage, ${mode}> ${n}: array<${s.element}>;`,
  );
  const reads = uses.some((u) => u.startsWith("at"));
  const writes = uses.some((u) => u.startsWith("put"));
  const vector = s.scalar === "i32" ? "vec4i" : "vec4f";

  /** The array element at `q`, wherever its part lies. */
  let get = (q: string) => `${name}[${q}]`;
  let set = (q: string, value: string) => `${name}[${q}] = ${value};`;
  if (parts > 1) {
    const bits = partLog - s.log;
    const within = `q & ${2 ** bits - 1}u`;
    const cases = (body: (n: string) => string) =>
      names.map((n, p) => `    ${p === parts - 1 ? "default" : `case ${p}u`}: { ${body(n)} }`);
    const choose = (head: string, body: (n: string) => string) =>
      out.push(head, `  switch (q >> ${bits}u) {`, ...cases(body), "  }", "}");
    if (reads) choose(`fn ${name}_get(q: u32) -> ${s.element} {`, (n) => `return ${n}[${within}];`);
    if (writes) choose(`fn ${name}_set(q: u32, value: ${s.element}) {`, (n) => `${n}[${within}] = value;`);
    get = (q) => `${name}_get(${q})`;
    set = (q, value) => `${name}_set(${q}, ${value});`;
  }

  const packed = s.pairs === true;
  // Chunks begin at multiples of 128 rows, so i alone says where in a vector or a pair an element is.
  const place = width > 0 ? `(u32(i) + params.first_row * ${width}u)` : "u32(i)";
  const at = four
    ? `${s.widen(get(`${place} >> 2u`))}[i & 3]`
    : packed
      ? `${s.widen(get(`${place} >> 1u`))}[i & 1]`
      : s.widen(get(place));
  const one = (k: number) => `${name}_at(i${k === 0 ? "" : ` + ${k}`})`;
  if (uses.includes("at") || (uses.includes("at4") && !four))
    out.push(`fn ${name}_at(i: i32) -> ${s.scalar} { return ${at}; }`);
  if (uses.includes("at4"))
    out.push(
      four
        ? `fn ${name}_at4(i: i32) -> ${vector} { let raw = ${get(`${place} >> 2u`)}; return ${s.widen("raw")}; }`
        : `fn ${name}_at4(i: i32) -> ${vector} { return ${vector}(${[0, 1, 2, 3].map(one).join(", ")}); }`,
    );
  if (writes && packed) throw new Error(`heddle: internal: '${name}' stores single numbers of 16 bits`);
  if (uses.includes("put") || (uses.includes("put4") && !four))
    out.push(`fn ${name}_put(i: i32, v: ${s.scalar}) { ${set(place, s.narrow("v"))} }`);
  if (uses.includes("put4"))
    out.push(
      four
        ? `fn ${name}_put4(i: i32, v: ${vector}) { ${set(`${place} >> 2u`, s.narrow("v"))} }`
        : `fn ${name}_put4(i: i32, v: ${vector}) {${["x", "y", "z", "w"].map((c, k) => ` ${name}_put(i${k === 0 ? "" : ` + ${k}`}, v.${c});`).join("")} }`,
    );
  return out;
}
