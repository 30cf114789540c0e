/** What tests of sources by URL share. */
import { expect } from "vitest";
import type { ByteSource } from "../../runtime/safetensors.ts";
import type { SourceError } from "../../runtime/sources.ts";
import type { UrlOptions } from "../../runtime/sources.ts";
import { inMemory } from "./range-server.ts";

export const MiB = 1 << 20;
/** Bytes that tell their place. */
const pattern = (size: number) => Uint8Array.from({ length: size }, (_x, i) => (i * 31 + (i >> 8) * 7) & 255);
export const big = pattern(20 * MiB + 123);
export const small = pattern(1000);
export const fast = { backoffMs: 1 } satisfies UrlOptions;
export const fresh = { "big.bin": inMemory(big, { etag: '"one"' }), "small.bin": inMemory(small) };

export const failure = (work: Promise<unknown>): Promise<SourceError> =>
  work.then(
    () => expect.unreachable("it went well"),
    (error: unknown) => error as SourceError,
  );
/** All of a source by pieces of some size, as tensors are read. */
export async function readAll(source: ByteSource, piece = MiB, signal?: AbortSignal): Promise<Uint8Array> {
  const whole = new Uint8Array(source.size);
  for (let at = 0; at < source.size; at += piece)
    whole.set(await source.read(at, Math.min(at + piece, source.size), { until: source.size, signal }), at);
  return whole;
}
export const equal = (a: Uint8Array, b: Uint8Array) => Buffer.compare(a, b) === 0;
