/** Exact conversions between f32 and the two 16-bit float types, rounding to nearest even. Bits are unsigned 16-bit integers. */

const word = new Uint32Array(1);
const float = new Float32Array(word.buffer);

const bitsOf = (value: number): number => {
  float[0] = value;
  return word[0] ?? 0;
};
const valueOf = (bits: number): number => {
  word[0] = bits;
  return float[0] ?? 0;
};

/** The value of an IEEE binary16. NaN payloads are kept in the upper bits. */
export function f16Value(bits: number): number {
  const sign = (bits & 0x8000) << 16;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 0x3ff;
  if (exponent === 31) return valueOf(sign | 0x7f800000 | (fraction << 13));
  if (exponent === 0) return (sign === 0 ? 1 : -1) * fraction * 2 ** -24;
  return valueOf(sign | ((exponent + 112) << 23) | (fraction << 13));
}

/** The binary16 nearest to fl32(value), ties to even; beyond ±65519 an infinity, NaN a quiet NaN. */
export const f16Bits = (value: number): number => f16OfWord(bitsOf(value));
function f16OfWord(bits: number): number {
  const sign = (bits >>> 16) & 0x8000;
  const magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000) return sign | 0x7e00 | ((magnitude >> 13) & 0x1ff);
  // 65520 is half-way between the largest f16 and the next power of two, and rounds to even: infinity.
  if (magnitude >= 0x477ff000) return sign | 0x7c00;
  if (magnitude >= 0x38800000)
    return sign | ((magnitude - 0x38000000 + 0xfff + ((magnitude >> 13) & 1)) >> 13);
  // Subnormal: adding 0.5 leaves exactly ten fraction bits below it, so the f32 addition does the rounding.
  return sign | (bitsOf(valueOf(magnitude) + 0.5) - 0x3f000000);
}

/** The value of a bfloat16: the upper half of an f32. */
export const bf16Value = (bits: number): number => valueOf((bits & 0xffff) << 16);

/** The bfloat16 nearest to fl32(value), ties to even; NaN stays a NaN. */
export const bf16Bits = (value: number): number => bf16OfWord(bitsOf(value));
function bf16OfWord(bits: number): number {
  if ((bits & 0x7fffffff) > 0x7f800000) return (bits >>> 16) | 0x40;
  return ((bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16) & 0xffff;
}

export type HalfDtype = "f16" | "bf16";

/**
 * f32 as 16-bit storage: element i in the i-th 16 bits, so on a little-endian machine the lower half of a 32-bit word comes first.
 * The length is even, a last half without an element 0.
 */
export function narrow(values: Float32Array, dtype: HalfDtype): Uint16Array {
  const bits = new Uint16Array(values.length + (values.length & 1));
  const words = new Uint32Array(values.buffer, values.byteOffset, values.length);
  if (dtype === "f16") for (let i = 0; i < words.length; i++) bits[i] = f16OfWord(words[i] ?? 0);
  else for (let i = 0; i < words.length; i++) bits[i] = bf16OfWord(words[i] ?? 0);
  return bits;
}

/** The first `to.length` elements of 16-bit storage as f32, exactly. Returns `to`. */
export function widen(bits: Uint16Array, dtype: HalfDtype, to: Float32Array): Float32Array {
  const words = new Uint32Array(to.buffer, to.byteOffset, to.length);
  for (let i = 0; i < words.length; i++) {
    const b = bits[i] ?? 0;
    if (dtype === "bf16") words[i] = b << 16;
    // Normal numbers have an exponent of 1 … 30; the others are rare.
    else if (((b + 0x400) & 0x7c00) > 0x400)
      words[i] = ((b & 0x8000) << 16) | (((b & 0x7fff) << 13) + 0x38000000);
    else to[i] = f16Value(b);
  }
  return to;
}
