/** Bytes of a Blob or a File, of which only what is needed is read. */
import type { ByteSource } from "../safetensors.ts";
import { foreign } from "./foreign.ts";

/** `name`: for messages; a File has one. */
export function blobSource(blob: Blob, name?: string): ByteSource {
  const own = name ?? (blob as { readonly name?: string }).name;
  return {
    ...(own === undefined ? {} : { name: own }),
    size: blob.size,
    foreign,
    read: async (start, end, { signal } = {}) => {
      signal?.throwIfAborted();
      return new Uint8Array(await blob.slice(start, end).arrayBuffer());
    },
  };
}
