/** The runtime on Node: checkpoints by ranges, outputs whole or not at all, graphics drivers. The one runtime file with Node modules. */
import { existsSync } from "node:fs";
import { mkdir, open, readdir, readFile, realpath, rename, rm, stat, writeFile } from "node:fs/promises";
import { basename, delimiter, dirname, join } from "node:path";
import type { Checkpoint } from "./checkpoint.ts";
import type { ByteSource } from "./safetensors.ts";
import { checkpoint } from "./sources.ts";
import type { CheckpointOptions, RangeCache } from "./sources.ts";
import { foreign } from "./sources/foreign.ts";
import { textHash } from "./sources/sha256.ts";
import { isIndex } from "./sources/shards.ts";
import type { Drivers } from "./webgpu/options.ts";

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
    foreign,
    read: async (start, end, { into } = {}) => {
      const length = Math.max(0, Math.min(end, found.size) - start);
      const bytes =
        into !== undefined && into.length >= length ? into.subarray(0, length) : new Uint8Array(length);
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

export type FileCheckpoint = Checkpoint & { readonly close: () => Promise<void> };

/**
 * A checkpoint by its path: of a safetensors file, or of an index (`….index.json`) with its shards beside it. The files stay open, since a
 * lost GPU is loaded again from them, until `close`.
 */
export async function fileCheckpoint(path: string, options: CheckpointOptions = {}): Promise<FileCheckpoint> {
  const opened: FileSource[] = [];
  const source = async (file: string) => {
    const made = await fileSource(file);
    opened.push(made);
    return made;
  };
  const close = async () => void (await Promise.all(opened.map((file) => file.close())));
  try {
    const first = await source(path);
    const shards = isIndex(path) ? { open: (file: string) => source(join(dirname(path), file)) } : {};
    return { ...(await checkpoint(first, { ...options, ...shards })), close };
  } catch (error) {
    await close();
    throw error;
  }
}

/** A cache of ranges in a folder: `folder`/(hash of the URL)/(hash of the version)/(range). Any of it may be deleted at any time. */
export function folderCache(folder: string): RangeCache {
  return {
    open: async (url, version) => {
      const file = join(folder, textHash(url).slice(0, 32));
      const own = textHash(version).slice(0, 32);
      const place = join(file, own);
      await mkdir(place, { recursive: true });
      const others = (await readdir(file)).filter((name) => name !== own);
      await Promise.all(others.map((name) => rm(join(file, name), { recursive: true, force: true })));
      return {
        get: (range) => readFile(join(place, range)).catch(() => undefined),
        set: (range, bytes) => writeWhole(join(place, range), bytes),
      };
    },
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

/** Where the Vulkan loader of Linux looks for drivers, as its own documentation lists them. */
const ICD_FOLDERS = ["/etc/vulkan/icd.d", "/usr/local/share/vulkan/icd.d", "/usr/share/vulkan/icd.d"];
/** Software drivers that other packages bring without telling the loader. */
const UNLISTED = ["/usr/lib/chromium/vk_swiftshader_icd.json", "/opt/google/chrome/vk_swiftshader_icd.json"];

/**
 * The Vulkan drivers of this machine, by the files that name them, for `webgpuDevice({ drivers: vulkanDrivers })`. Dawn reads
 * them anew for every instance, so the fallback works by the environment variable of the loader. Nothing is searched where
 * WebGPU stands on Metal or Direct3D.
 */
export async function vulkanDrivers(): Promise<Drivers> {
  if (process.platform !== "linux") return { found: [], searched: [] };
  const { env } = process;
  const named = env["VK_DRIVER_FILES"] ?? env["VK_ICD_FILENAMES"];
  if (named !== undefined) {
    const files = named.split(delimiter).filter((f) => f !== "");
    const there = await Promise.all(files.map((f) => stat(f).then(() => true, () => false))); // prettier-ignore
    return {
      found: files.filter((_, i) => there[i]),
      searched: [`VK_DRIVER_FILES or VK_ICD_FILENAMES (${named})`],
    };
  }
  const lists = await Promise.all(
    ICD_FOLDERS.map(async (folder) => {
      const names = await readdir(folder).catch(() => []);
      return names.filter((f) => f.endsWith(".json")).map((f) => join(folder, f));
    }),
  );
  const fallback = () => {
    const file = UNLISTED.find((f) => existsSync(f));
    if (file === undefined) return null;
    env["VK_ICD_FILENAMES"] = file;
    return () => void delete env["VK_ICD_FILENAMES"];
  };
  return { found: lists.flat(), searched: [...ICD_FOLDERS, ...UNLISTED], fallback };
}
