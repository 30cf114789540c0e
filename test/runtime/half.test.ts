import { describe, expect, it } from "vitest";
import { bf16Bits, bf16Value, f16Bits, f16Value, narrow, widen } from "../../runtime/half.ts";

/** binary16 by its definition, in exact f64 arithmetic. */
function f16ByDefinition(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  if (exponent === 31) return fraction === 0 ? sign * Infinity : NaN;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  return sign * (1024 + fraction) * 2 ** (exponent - 25);
}

describe("f16", () => {
  it("is exact for all 65,536 values, there and back", () => {
    for (let bits = 0; bits < 65536; bits++) {
      const value = f16ByDefinition(bits);
      if (!Object.is(f16Value(bits), value)) expect([bits, f16Value(bits)]).toEqual([bits, value]);
      // NaNs keep sign and payload but come back quiet.
      const back = Number.isNaN(value) ? f16Bits(f16Value(bits)) & 0x7c00 : f16Bits(value);
      expect(back).toBe(Number.isNaN(value) ? 0x7c00 : bits);
    }
    for (let bits = 0x7c01; bits < 0x8000; bits++) expect(f16Value(f16Bits(f16Value(bits)))).toBeNaN();
  });

  it("rounds to nearest, ties to even, between every pair of neighbours", () => {
    for (let bits = 0; bits < 0x7bff; bits++) {
      const [low, high] = [f16ByDefinition(bits), f16ByDefinition(bits + 1)];
      const middle = (low + high) / 2; // exact in f32
      const even = bits % 2 === 0 ? bits : bits + 1;
      const step = middle * 2 ** -23 + 2 ** -149;
      if (f16Bits(middle) !== even) expect([bits, f16Bits(middle)]).toEqual([bits, even]);
      if (f16Bits(Math.fround(middle - step)) !== bits) expect([bits, "below"]).toEqual([]);
      if (f16Bits(Math.fround(middle + step)) !== bits + 1) expect([bits, "above"]).toEqual([]);
      if (f16Bits(-middle) !== (even | 0x8000)) expect([bits, "negative"]).toEqual([]);
    }
  });

  it("overflows to infinity from 65520 and underflows to a signed zero", () => {
    expect(f16Bits(65519.99)).toBe(0x7bff);
    expect(f16Bits(65520)).toBe(0x7c00);
    expect(f16Bits(-1e30)).toBe(0xfc00);
    expect(f16Bits(Infinity)).toBe(0x7c00);
    expect(f16Bits(2 ** -25)).toBe(0);
    expect(f16Bits(-(2 ** -26))).toBe(0x8000);
    expect(f16Bits(2 ** -149)).toBe(0);
  });
});

describe("bf16", () => {
  it("is exact for all 65,536 values, there and back", () => {
    const view = new DataView(new ArrayBuffer(4));
    for (let bits = 0; bits < 65536; bits++) {
      view.setUint16(0, bits);
      view.setUint16(2, 0);
      const value = view.getFloat32(0);
      if (!Object.is(bf16Value(bits), value)) expect([bits, bf16Value(bits)]).toEqual([bits, value]);
      if (Number.isNaN(value)) expect(bf16Value(bf16Bits(value))).toBeNaN();
      else if (bf16Bits(value) !== bits) expect([bits, bf16Bits(value)]).toEqual([bits, bits]);
    }
  });

  it("rounds to nearest, ties to even, between every pair of neighbours", () => {
    for (let bits = 0; bits < 0x7f7f; bits++) {
      const middle = (bf16Value(bits) + bf16Value(bits + 1)) / 2;
      const even = bits % 2 === 0 ? bits : bits + 1;
      const step = Math.max(middle * 2 ** -23, 2 ** -149);
      if (bf16Bits(middle) !== even) expect([bits, bf16Bits(middle)]).toEqual([bits, even]);
      if (bf16Bits(Math.fround(middle - step)) !== bits) expect([bits, "below"]).toEqual([]);
      if (bf16Bits(Math.fround(middle + step)) !== bits + 1) expect([bits, "above"]).toEqual([]);
    }
  });

  it("overflows to infinity and keeps a NaN whose payload is in its lower half", () => {
    expect(bf16Bits(3.4028e38)).toBe(0x7f80);
    expect(bf16Bits(-Infinity)).toBe(0xff80);
    const view = new DataView(new ArrayBuffer(4));
    view.setUint32(0, 0x7f800001);
    expect(bf16Value(bf16Bits(view.getFloat32(0)))).toBeNaN();
  });
});

describe.each([
  { dtype: "f16", bitsOf: f16Bits, valueOf: f16Value },
  { dtype: "bf16", bitsOf: bf16Bits, valueOf: bf16Value },
] as const)("arrays of $dtype", ({ dtype, bitsOf, valueOf }) => {
  it("hold all 65,536 values, there and back, as one by one", () => {
    const bits = Uint16Array.from({ length: 65536 }, (_, i) => i);
    const values = widen(bits, dtype, new Float32Array(65536));
    for (let i = 0; i < 65536; i++)
      if (!Object.is(values[i], valueOf(i))) expect([i, values[i]]).toEqual([i, valueOf(i)]);
    // A NaN may come back with another payload, but as a NaN.
    narrow(values, dtype).forEach((b, i) => {
      const same = Number.isNaN(valueOf(i)) ? Number.isNaN(valueOf(b)) : b === i;
      if (!same) expect(b).toBe(i);
    });
  });

  it("round as one by one, at every scale", () => {
    let state = 1;
    const random = Float32Array.from({ length: 100_000 }, (_, i) => {
      state = (Math.imul(state, 1664525) + 1013904223) | 0;
      return (state / 2 ** 31) * 2 ** ((i % 60) - 40);
    });
    const edges = [
      0,
      -0,
      65504,
      65519.99,
      65520,
      -65520,
      2 ** -24,
      2 ** -25,
      1.5 * 2 ** -25,
      2 ** -149,
      3.4e38,
    ];
    const ties = [Infinity, -Infinity, 1 + 2 ** -11, 1 + 3 * 2 ** -11, 1 + 2 ** -8, 1 + 3 * 2 ** -8];
    const values = Float32Array.from([...random, ...edges, ...ties]);
    const bits = narrow(values, dtype);
    values.forEach((x, i) => {
      if (bits[i] !== bitsOf(x)) expect([x, bits[i]]).toEqual([x, bitsOf(x)]);
    });
    expect(valueOf(narrow(Float32Array.of(NaN), dtype)[0] ?? 0)).toBeNaN();
  });

  it("fill whole 32-bit words, the earlier element in the lower half", () => {
    const bits = narrow(Float32Array.of(1, -2, 0.5), dtype);
    expect([...bits]).toEqual([bitsOf(1), bitsOf(-2), bitsOf(0.5), 0]);
    const words = new Uint32Array(bits.buffer);
    expect(words[0]).toBe(bitsOf(1) + bitsOf(-2) * 65536);
    expect([...widen(bits, dtype, new Float32Array(3))]).toEqual([1, -2, 0.5]);
    expect(narrow(new Float32Array(0), dtype)).toHaveLength(0);
  });

  it("may lie anywhere in a buffer", () => {
    const whole = Float32Array.of(9, 1, 2, 9);
    const bits = narrow(whole.subarray(1, 3), dtype);
    widen(bits, dtype, whole.subarray(2));
    expect([...whole]).toEqual([9, 1, 1, 2]);
  });
});
