/** Files for the runtime on Node: checkpoints by ranges, outputs whole or not at all. The one runtime file with Node modules. */
import { open, realpath, rename, rm, stat, writeFile } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import type { ByteSource } from "./safetensors.ts";

export type FileSource = ByteSource & { readonly close: () => Promise<void> };

/** A file read by ranges. Rejects with the system's error (`code` ENOENT, EACCES …), or one that says it is no file. */
export async function fileSource(path: string): Promise<FileSource> {
  const handle = await open(path, "r");
  const found = await handle.stat();
  if (!found.isFile()) {
    await handle.close();
    throw Object.assign(new Error(`${path} is not a file`), { code: "EISDIR", path });
  }
  return {
    name: path,
    size: found.size,
    read: async (start, end) => {
      const bytes = new Uint8Array(Math.max(0, Math.min(end, found.size) - start));
      let at = 0;
      while (at < bytes.length) {
        const { bytesRead } = await handle.read(bytes, at, bytes.length - at, start + at);
        if (bytesRead === 0) break;
        at += bytesRead;
      }
      return bytes.subarray(0, at);
    },
    close: () => handle.close(),
  };
}

let written = 0;

/**
 * Writes a file whole or not at all: into a new file beside it, which then takes its name. Keeps the mode of an old file.
 * Rejects with the system's error, its `path` the one given here.
 */
export async function writeWhole(path: string, data: Uint8Array | string): Promise<void> {
  const old = await stat(path).catch(() => undefined);
  // A pipe or a device (`/dev/stdout`) cannot be replaced.
  if (old !== undefined && !old.isFile() && !old.isDirectory()) return writeFile(path, data);
  if (old?.isDirectory() === true)
    throw Object.assign(new Error(`${path} is a folder`), { code: "EISDIR", path });
  // A link stays one; the file it leads to is replaced.
  const target = old === undefined ? path : await realpath(path);
  const beside = join(dirname(target), `.${basename(target)}.${process.pid}.${written++}.tmp`);
  const mode = old?.mode ?? 0o666;
  try {
    const handle = await open(beside, "wx", mode);
    try {
      await handle.writeFile(data);
    } finally {
      await handle.close();
    }
    await rename(beside, target);
  } catch (error) {
    await rm(beside, { force: true }).catch(() => undefined);
    // The system names the file beside, which nobody asked for.
    throw error instanceof Error ? Object.assign(error, { path }) : error;
  }
}
