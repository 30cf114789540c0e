/** Safetensors files for tests: any header over any bytes, and a small valid one of every kind that is written. */
import { writeSafetensors } from "../../runtime/safetensors.ts";
import type { TensorToWrite } from "../../runtime/safetensors.ts";

const encoder = new TextEncoder();

/** A file of any header text and data bytes; `claim` overrides the header length. */
export function file(header: string, data: Uint8Array | number = 0, claim?: bigint): Uint8Array {
  const text = encoder.encode(header);
  const bytes = typeof data === "number" ? new Uint8Array(data) : data;
  const whole = new Uint8Array(8 + text.length + bytes.length);
  new DataView(whole.buffer).setBigUint64(0, claim ?? BigInt(text.length), true);
  whole.set(text, 8);
  whole.set(bytes, 8 + text.length);
  return whole;
}

export const small: readonly TensorToWrite[] = [
  { name: "a", dtype: "F32", shape: [2, 3], data: Float32Array.from([1, -2, 0.5, 3e38, -0, 1e-45]) },
  { name: "b", dtype: "I64", shape: [3], data: Int32Array.from([-1, 2 ** 31 - 1, -(2 ** 31)]) },
  { name: "c", dtype: "I32", shape: [], data: Int32Array.from([7]) },
  { name: "d", dtype: "F16", shape: [1, 0], data: new Float32Array(0) },
  { name: "e", dtype: "BF16", shape: [3], data: Float32Array.from([1, 1.00390625, -3]) },
];
export const smallFile = writeSafetensors(small, { format: "pt", "a key": 'with "quotes"' });
