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
export function f16Bits(value: number): number {
  const bits = bitsOf(value);
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
export function bf16Bits(value: number): number {
  const bits = bitsOf(value);
  if ((bits & 0x7fffffff) > 0x7f800000) return (bits >>> 16) | 0x40;
  return ((bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16) & 0xffff;
}
