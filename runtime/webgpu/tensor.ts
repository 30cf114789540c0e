/** Tensors on the device: one buffer, or several of a power-of-two size where one would be too large to bind. */
import { narrow, widen } from "../half.ts";
import { bytesOf } from "../memory.ts";
import type { Dtype } from "../plan.ts";
import type { HostArray } from "../tensors.ts";
import { deviceError } from "./errors.ts";
import { MAP_READ, USAGE } from "./session.ts";
import type { Session, Wanted } from "./session.ts";

export type DeviceTensor = { readonly buffers: readonly GPUBuffer[]; readonly bytes: number };

/** log2 of the bytes of a part: the largest that can be bound. */
export const partLog = ({ limits }: Session): number =>
  Math.min(30, Math.floor(Math.log2(Math.min(limits.maxStorageBufferBindingSize, limits.maxBufferSize))));

export async function allocate(session: Session, what: Wanted): Promise<DeviceTensor> {
  const part = 2 ** partLog(session);
  const most = Math.min(session.limits.maxStorageBufferBindingSize, session.limits.maxBufferSize);
  const sizes =
    what.bytes <= most
      ? [what.bytes]
      : Array.from({ length: Math.ceil(what.bytes / part) }, (_, i) => Math.min(part, what.bytes - i * part));
  const buffers: GPUBuffer[] = [];
  try {
    for (const bytes of sizes)
      buffers.push(await session.buffer({ ...what, bytes }, USAGE.storage | USAGE.copySrc | USAGE.copyDst));
  } catch (error) {
    buffers.forEach(session.free);
    throw error;
  }
  return { buffers, bytes: what.bytes };
}

export const release = (session: Session, tensors: readonly DeviceTensor[]): void =>
  tensors.forEach((t) => t.buffers.forEach(session.free));

/** What one writeBuffer or one staging buffer moves at most, so that host copies stay small. */
const PIECE = 2 ** 24;

/** Calls `move` for every piece of a tensor: at most PIECE bytes inside one buffer. */
function pieces(
  tensor: DeviceTensor,
  bytes: number,
  part: number,
  move: (buffer: GPUBuffer, offset: number, from: number, size: number) => void,
): void {
  for (let from = 0; from < bytes;) {
    const index = tensor.buffers.length === 1 ? 0 : Math.floor(from / part);
    const buffer = tensor.buffers[index];
    if (buffer === undefined) throw deviceError("FAILED", "internal: a tensor ends before its data");
    const offset = from - index * part;
    const end = tensor.buffers.length === 1 ? bytes : Math.min(bytes, (index + 1) * part);
    const size = Math.min(PIECE, end - from);
    move(buffer, offset, from, size);
    from += size;
  }
}

/** Copies an array to the device, in the tensor's storage type. What is converted on the way is never more than a piece. */
export function upload(session: Session, tensor: DeviceTensor, dtype: Dtype, data: HostArray): void {
  const half = (dtype === "f16" || dtype === "bf16") && data instanceof Float32Array;
  const write = (buffer: GPUBuffer, offset: number, from: number, size: number) => {
    // An odd last element of 16 bits is followed by a zero, since buffers are written in whole words.
    const stored = half
      ? narrow(data.subarray(from / 2, (from + size) / 2), dtype)
      : data.subarray(from / 4, (from + size) / 4);
    session.device.queue.writeBuffer(
      buffer,
      offset,
      stored as Uint16Array<ArrayBuffer>,
      0,
      size / stored.BYTES_PER_ELEMENT,
    );
  };
  pieces(tensor, bytesOf(dtype, data.length), 2 ** partLog(session), write);
}

/** Copies whole words to the device as they are. */
export function uploadBytes(session: Session, tensor: DeviceTensor, bytes: Uint8Array): void {
  const write = (buffer: GPUBuffer, offset: number, from: number, size: number) =>
    session.device.queue.writeBuffer(buffer, offset, bytes as Uint8Array<ArrayBuffer>, from, size);
  pieces(tensor, bytes.length, 2 ** partLog(session), write);
}

/** Overwrites a tensor with NaN. */
export function poisonTensor(session: Session, tensor: DeviceTensor): void {
  const nan = new Uint32Array(Math.min(PIECE, Math.ceil(tensor.bytes / 4) * 4) / 4).fill(0x7fc00000);
  pieces(tensor, Math.ceil(tensor.bytes / 4) * 4, 2 ** partLog(session), (buffer, offset, _from, size) =>
    session.device.queue.writeBuffer(buffer, offset, nan, 0, size / 4),
  );
}

/** Copies a tensor of `to.length` elements back, once all that was submitted has run. A failed map is an error. */
export async function download(
  session: Session,
  tensor: DeviceTensor,
  dtype: Dtype,
  to: HostArray,
): Promise<void> {
  const bytes = bytesOf(dtype, to.length);
  const half = dtype === "f16" || dtype === "bf16";
  const target = half ? new Uint8Array(bytes) : new Uint8Array(to.buffer, to.byteOffset, to.byteLength);
  await downloadBytes(session, tensor, target);
  if (half && to instanceof Float32Array) widen(new Uint16Array(target.buffer), dtype, to);
}

/** All bytes of a tensor as they lie on the device. */
export async function downloadBytes(
  session: Session,
  tensor: DeviceTensor,
  target: Uint8Array,
): Promise<void> {
  const bytes = target.length;
  const moves: (readonly [GPUBuffer, number, number, number])[] = [];
  pieces(tensor, bytes, 2 ** partLog(session), (...move) => void moves.push(move));
  const size = Math.max(0, ...moves.map((m) => m[3]));
  if (size === 0) return;
  const staging = await session.buffer(
    { label: "a readback buffer", bytes: size },
    USAGE.mapRead | USAGE.copyDst,
  );
  try {
    for (const [buffer, offset, from, length] of moves) {
      const encoder = session.device.createCommandEncoder();
      encoder.copyBufferToBuffer(buffer, offset, staging, 0, length);
      session.device.queue.submit([encoder.finish()]);
      await Promise.race([staging.mapAsync(MAP_READ, 0, length), session.lost]);
      target.set(new Uint8Array(staging.getMappedRange(0, length)), from);
      staging.unmap();
    }
  } catch (error) {
    if ((error as { name?: string }).name === "DeviceError") throw error;
    const why = error instanceof Error ? error.message : String(error);
    throw deviceError(
      session.isLost() ? "DEVICE_LOST" : "FAILED",
      `the result could not be read back: ${why}`,
      error,
    );
  } finally {
    session.free(staging);
  }
}
