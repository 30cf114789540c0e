/**
 * How a target stores what a spec asks to store in 16 bits. Arithmetic is f32 everywhere: kernels widen what they load and round
 * what they store, to nearest even.
 */
import { toBf16, toF16 } from "./interpret/memory.ts";
import type { Dtype } from "./kernel.ts";

export type FloatDtype = Exclude<Dtype, "i32">;

/** The type in which a target stores values and weights for which a spec asks for `dtype`. */
export type Storage = (dtype: FloatDtype) => FloatDtype;

/** For targets that store f32 only, and for the f64 reference: a spec of another dtype means the same numbers, unrounded. */
export const WIDE: Storage = () => "f32";
/** As the spec says. */
export const NARROW: Storage = (dtype) => dtype;

/**
 * The storage of a tensor whose kernels write rows in pieces of `width` elements: 16-bit elements are stored four at a time, so any
 * other width stays f32.
 */
export const storedAs = (dtype: FloatDtype, width: number): FloatDtype => (width % 4 === 0 ? dtype : "f32");

/** The stored number nearest to x, ties to even: what a host must make of an input before it is compared by the reference. */
export const rounding: { readonly [D in FloatDtype]: (x: number) => number } = {
  f32: Math.fround,
  f16: toF16,
  bf16: toBf16,
};
