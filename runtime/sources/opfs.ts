/** A cache of ranges in the page's own file system (OPFS), which pages with https and their workers have. */
import type { RangeCache } from "./cache.ts";
import { textHash } from "./sha256.ts";

/** The parts of the File System API that are used; sources are checked without the DOM library. */
type Folder = {
  readonly getDirectoryHandle: (name: string, options?: { readonly create?: boolean }) => Promise<Folder>;
  readonly getFileHandle: (name: string, options?: { readonly create?: boolean }) => Promise<Handle>;
  readonly removeEntry: (name: string, options?: { readonly recursive?: boolean }) => Promise<void>;
  readonly keys: () => AsyncIterable<string>;
};
type Handle = {
  readonly getFile: () => Promise<{ readonly arrayBuffer: () => Promise<ArrayBuffer> }>;
  readonly createWritable: () => Promise<{
    readonly write: (bytes: Uint8Array) => Promise<void>;
    readonly close: () => Promise<void>;
  }>;
};
type Host = {
  readonly navigator?: { readonly storage?: { readonly getDirectory?: () => Promise<Folder> } };
};

/**
 * Keeps ranges in the folder `name` of the page's own file system: `name`/(hash of the URL)/(hash of the version)/(range). Where the page
 * has none, nothing is kept.
 */
export function opfsCache(name = "heddle"): RangeCache {
  return {
    open: async (url, version) => {
      const { navigator } = globalThis as Host;
      const root = await navigator?.storage?.getDirectory?.();
      if (root === undefined) throw new Error("this page has no file system of its own");
      const make = { create: true };
      const all = await root.getDirectoryHandle(name, make);
      const file = await all.getDirectoryHandle(textHash(url).slice(0, 32), make);
      const own = textHash(version).slice(0, 32);
      for await (const other of file.keys())
        if (other !== own) await file.removeEntry(other, { recursive: true }).catch(() => undefined);
      const folder = await file.getDirectoryHandle(own, make);
      return {
        get: async (range) => {
          const handle = await folder.getFileHandle(range).catch(() => undefined);
          if (handle === undefined) return undefined;
          return new Uint8Array(await (await handle.getFile()).arrayBuffer());
        },
        set: async (range, bytes) => {
          // What is written takes the file's place when it is closed: half an entry is never seen.
          const writable = await (await folder.getFileHandle(range, make)).createWritable();
          await writable.write(bytes);
          await writable.close();
        },
      };
    },
  };
}

/** Forgets all that a cache of this name keeps. */
export async function clearOpfsCache(name = "heddle"): Promise<void> {
  const { navigator } = globalThis as Host;
  const root = await navigator?.storage?.getDirectory?.();
  await root?.removeEntry(name, { recursive: true }).catch(() => undefined);
}
