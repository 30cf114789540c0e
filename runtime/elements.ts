/**
 * The element types of a safetensors file and their conversion to f32 or i32. Assumes a little-endian machine, as every
 * WebAssembly host is, where whole F32 and I32 ranges are copied.
 */
import { widen } from "./half.ts";

/** Bytes per element of every type of the format. */
export const widths = {
  BOOL: 1,
  U8: 1,
  I8: 1,
  F8_E5M2: 1,
  F8_E4M3: 1,
  I16: 2,
  U16: 2,
  F16: 2,
  BF16: 2,
  I32: 4,
  U32: 4,
  F32: 4,
  F64: 8,
  I64: 8,
  U64: 8,
} as const;
export type SafetensorsDtype = keyof typeof widths;

export const isDtype = (name: string): name is SafetensorsDtype => Object.hasOwn(widths, name);

/** Types whose elements become f32; the others become i32. */
export const isFloat = (dtype: SafetensorsDtype): boolean =>
  dtype === "F16" || dtype === "BF16" || dtype === "F32" || dtype === "F64";

type Get = (view: DataView, offset: number) => number | bigint;
/** null: whole ranges are copied or widened; undefined: not read. */
const getters: { readonly [D in SafetensorsDtype]: Get | null | undefined } = {
  BOOL: (view, offset) => view.getUint8(offset),
  U8: (view, offset) => view.getUint8(offset),
  I8: (view, offset) => view.getInt8(offset),
  F8_E5M2: undefined,
  F8_E4M3: undefined,
  I16: (view, offset) => view.getInt16(offset, true),
  U16: (view, offset) => view.getUint16(offset, true),
  F16: null,
  BF16: null,
  I32: null,
  U32: (view, offset) => view.getUint32(offset, true),
  F32: null,
  F64: (view, offset) => view.getFloat64(offset, true),
  I64: (view, offset) => view.getBigInt64(offset, true),
  U64: (view, offset) => view.getBigUint64(offset, true),
};

/** Writes the elements of `bytes` to `to` from index `at` on; returns the first one that does not fit, if any. */
export type Convert = (
  bytes: Uint8Array,
  to: Float32Array | Int32Array,
  at: number,
) => { readonly value: number | bigint; readonly index: number } | undefined;

/** The conversion of a type, or undefined for one that is not read. */
export function converter(dtype: SafetensorsDtype): Convert | undefined {
  const get = getters[dtype];
  if (get === undefined) return undefined;
  if (dtype === "F16" || dtype === "BF16")
    return (bytes, to, at) => {
      const aligned = bytes.byteOffset % 2 === 0 ? bytes : bytes.slice();
      const bits = new Uint16Array(aligned.buffer, aligned.byteOffset, aligned.length / 2);
      if (to instanceof Float32Array)
        widen(bits, dtype === "F16" ? "f16" : "bf16", to.subarray(at, at + bits.length));
      return undefined;
    };
  if (get === null)
    return (bytes, to, at) => {
      new Uint8Array(to.buffer, to.byteOffset).set(bytes, at * 4);
      return undefined;
    };
  const width = widths[dtype];
  // An F64 may be infinite but must not become so.
  const fits: (value: number) => boolean = isFloat(dtype)
    ? (value) => dtype !== "F64" || Number.isFinite(Math.fround(value)) || !Number.isFinite(value)
    : (value) => value === (value | 0);
  return (bytes, to, at) => {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    for (let i = 0; i < bytes.length / width; i++) {
      const exact = get(view, i * width);
      // A 64-bit integer beyond 2^53 rounds here, to a value that is outside i32 as well.
      const value = Number(exact);
      if (!fits(value)) return { value: exact, index: at + i };
      to[at + i] = value;
    }
    return undefined;
  };
}
