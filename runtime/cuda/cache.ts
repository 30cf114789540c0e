/**
 * Compiled kernels on disk. An entry is one file, written beside and renamed, so that any number of processes may share the folder;
 * it carries the digest of all it holds, so that a torn or altered one is told and made anew.
 */
import { createHash } from "node:crypto";
import { mkdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { writeWhole } from "../node.ts";
import { cacheFolder } from "./folder.ts";
import { optionsOf } from "./nvrtc.ts";
import type { CompileOptions, Compiled, KernelUsage, Nvrtc } from "./nvrtc.ts";

/** All that decides what a compiler makes of a source. */
export type KernelKey = {
  readonly source: string;
  /** `Nvrtc.identity`. */
  readonly compiler: string;
  readonly options: CompileOptions;
};

export type KernelCache = {
  readonly folder: string;
  /** The file of an entry, whether it exists or not. */
  readonly fileOf: (key: KernelKey) => string;
  /** Null where there is no entry, or none that is whole. */
  readonly get: (key: KernelKey) => Promise<Compiled | null>;
  readonly put: (key: KernelKey, kernel: Compiled) => Promise<void>;
  /**
   * The entry, or what NVRTC makes, which is then kept. Several calls for one key share the work. A folder that cannot be written
   * does not matter: the kernel is made all the same, and `problem` hears of it.
   */
  readonly compile: (nvrtc: Nvrtc, source: string, options: CompileOptions) => Promise<CachedKernel>;
};

export type CachedKernel = Compiled & { readonly from: "disk" | "compiler" };

export type KernelCacheOptions = {
  /** `kernels` of `cacheFolder()` unless given. */
  readonly folder?: string;
  /** Hears what kept an entry from being written. */
  readonly problem?: (error: unknown) => void;
};

const MAGIC = "heddle kernel 1";

/** Hex. Lengths keep the parts apart. */
export function kernelDigest({ source, compiler, options }: KernelKey): string {
  const hash = createHash("sha256");
  for (const part of [MAGIC, source, compiler, options.name ?? "", ...optionsOf(options)])
    hash.update(`${Buffer.byteLength(part)}:`).update(part);
  return hash.digest("hex");
}

export function kernelCache(options: KernelCacheOptions = {}): KernelCache {
  const { folder = join(cacheFolder(), "kernels"), problem = () => undefined } = options;
  const fileOf = (key: KernelKey) => join(folder, `${kernelDigest(key)}.kernel`);
  const working = new Map<string, Promise<CachedKernel>>();

  const get = async (key: KernelKey): Promise<Compiled | null> => {
    const data = await readFile(fileOf(key)).catch(() => null);
    return data === null ? null : decode(data, kernelDigest(key));
  };
  const put = async (key: KernelKey, kernel: Compiled): Promise<void> => {
    // Code from here runs on the GPU: nobody else may write it.
    await mkdir(folder, { recursive: true, mode: 0o700 });
    await writeWhole(fileOf(key), encode(kernel, kernelDigest(key)));
  };
  const compile = async (nvrtc: Nvrtc, key: KernelKey): Promise<CachedKernel> => {
    const found = await get(key);
    if (found !== null) return { ...found, from: "disk" };
    const made = await nvrtc.compile(key.source, key.options);
    try {
      await put(key, made);
    } catch (error) {
      problem(error);
    }
    return { ...made, from: "compiler" };
  };
  return {
    folder,
    fileOf,
    get,
    put,
    compile: (nvrtc, source, wish) => {
      const key = { source, compiler: nvrtc.identity, options: wish };
      const name = kernelDigest(key);
      const known = working.get(name);
      if (known !== undefined) return known;
      const work = compile(nvrtc, key).finally(() => working.delete(name));
      working.set(name, work);
      return work;
    },
  };
}

/** The second line of a file; the first is the digest of all that follows it. */
type Header = {
  readonly magic: string;
  /** The entry's own name, so that a file under another's is told. */
  readonly key: string;
  /** Bytes that follow, −1 where there are none; first the cubin, then the PTX. */
  readonly cubin: number;
  readonly ptx: number;
  readonly log: string;
  readonly usage: readonly KernelUsage[];
};

const sha256 = (data: Uint8Array): string => createHash("sha256").update(data).digest("hex");

function encode({ cubin, ptx, log, usage }: Compiled, key: string): Uint8Array {
  const header: Header = {
    magic: MAGIC,
    key,
    cubin: cubin?.length ?? -1,
    ptx: ptx?.length ?? -1,
    log,
    usage,
  };
  const rest = Buffer.concat([
    Buffer.from(`${JSON.stringify(header)}\n`),
    cubin ?? Buffer.alloc(0),
    ptx ?? Buffer.alloc(0),
  ]);
  return Buffer.concat([Buffer.from(`${sha256(rest)}\n`), rest]);
}

function decode(data: Buffer, key: string): Compiled | null {
  const first = data.indexOf("\n");
  const rest = data.subarray(first + 1);
  if (first !== 64 || data.toString("latin1", 0, first) !== sha256(rest)) return null;
  // The digest holds, so this is what an `encode` wrote, if perhaps that of another version.
  const end = rest.indexOf("\n");
  const header = JSON.parse(rest.toString("utf8", 0, end)) as Header;
  if (header.magic !== MAGIC || header.key !== key) return null;
  const { log, usage } = header;
  let at = end + 1;
  const part = (bytes: number): Uint8Array<ArrayBuffer> | null => {
    if (bytes < 0) return null;
    const copy = Uint8Array.from(rest.subarray(at, at + bytes));
    at += bytes;
    return copy;
  };
  return { cubin: part(header.cubin), ptx: part(header.ptx), log, usage };
}
