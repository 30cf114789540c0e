/** Numbers of the host as a device stores them, piece by piece. */
import { narrow, widen } from "../half.ts";
import type { Dtype } from "../plan.ts";
import type { HostArray } from "../tensors.ts";

const isHalf = (dtype: Dtype): dtype is "f16" | "bf16" => dtype === "f16" || dtype === "bf16";

/** The bytes of an array. */
export const bytesIn = ({ buffer, byteOffset, byteLength }: ArrayBufferView): Uint8Array =>
  new Uint8Array(buffer, byteOffset, byteLength);

/** An array in its storage type: a view of it, or a narrower copy, up to whole 32-bit words. */
export const stored = (data: HostArray, dtype: Dtype): Uint8Array =>
  bytesIn(isHalf(dtype) && data instanceof Float32Array ? narrow(data, dtype) : data);

/** Fills `piece` with what an array has from byte `from` of its storage on. */
export function give(data: HostArray, dtype: Dtype, piece: Uint8Array, from: number): void {
  if (!isHalf(dtype) || !(data instanceof Float32Array)) {
    piece.set(bytesIn(data).subarray(from, from + piece.length));
    return;
  }
  const part = data.subarray(from / 2, from / 2 + piece.length / 2);
  piece.set(stored(part, dtype).subarray(0, piece.length));
}

/** The other way: puts a piece of storage to where it belongs in an array. What pads it to whole words is left out. */
export function take(data: HostArray, dtype: Dtype, piece: Uint8Array<ArrayBuffer>, from: number): void {
  if (!isHalf(dtype) || !(data instanceof Float32Array)) {
    bytesIn(data).set(piece, from);
    return;
  }
  const part = data.subarray(from / 2, from / 2 + piece.length / 2);
  widen(new Uint16Array(piece.buffer, piece.byteOffset, part.length), dtype, part);
}
