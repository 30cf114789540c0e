/**
 * Building the shim, once for each version of its sources, compiler and Node. Needs a C compiler and no network, and nothing of
 * CUDA. A build appears in the cache whole or not at all and is named for its content, so that any number of processes may build
 * at the same time, and a harmed one is told.
 */
import { execa } from "execa";
import { createHash } from "node:crypto";
import { mkdir, mkdtemp, readFile, readdir, rm, stat } from "node:fs/promises";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { writeWhole } from "../node.ts";
import { findCompiler, compilers } from "./compiler.ts";
import type { Compiler } from "./compiler.ts";
import { cudaError } from "./errors.ts";
import { cacheFolder } from "./folder.ts";

export type BuildOptions = {
  /** Of the cache; `cacheFolder()` unless given. */
  readonly cache?: string;
  /** The compiler's command, instead of the first one that is found. */
  readonly compiler?: string;
  /** Further flags for it, say `-Werror`. */
  readonly flags?: readonly string[];
  /** Builds even where a build is in the cache. */
  readonly force?: boolean;
};

export type Built = {
  /** The shim, for `process.dlopen`. */
  readonly path: string;
  readonly bytes: number;
  /** Whether it was built now. */
  readonly fresh: boolean;
  /** Of the compiler; 0 where nothing was built. */
  readonly milliseconds: number;
  /** Null where none is found, and a build of these sources by an earlier one serves. */
  readonly compiler: Compiler | null;
  /** What the compiler said. */
  readonly warnings: string;
};

const FLAGS = [
  ..."-x c -std=c11 -D_GNU_SOURCE -DNAPI_VERSION=8".split(" "),
  // Speed of the shim is the speed of the driver's calls; -O1 compiles in half the time of -O2.
  ..."-O1 -fPIC -shared -fvisibility=hidden -Wall -Wextra".split(" "),
];
type Source = { readonly name: string; readonly text: string };

/** The folder of the C sources: beside this one, or from `dist/runtime/cuda` in the package. */
async function sourceFolder(): Promise<string> {
  const here = dirname(fileURLToPath(import.meta.url));
  for (const folder of [join(here, "../native"), join(here, "../../../runtime/native")])
    if (await isFile(join(folder, "shim.c"))) return folder;
  throw cudaError(
    "BUILD_FAILED",
    "build",
    "the C sources of the shim are not in this package: install it anew",
  );
}

const isFile = (path: string) => stat(path).then((s) => s.isFile(), () => false); // prettier-ignore

async function readSources(folder: string): Promise<readonly Source[]> {
  const names = (await readdir(folder)).filter((n) => /\.[ch]$/.test(n)).sort();
  return Promise.all(names.map(async (name) => ({ name, text: await readFile(join(folder, name), "utf8") })));
}

/** The folder of `node_api.h`. */
function headerFolder(): string {
  try {
    return join(dirname(createRequire(import.meta.url).resolve("node-api-headers/package.json")), "include");
  } catch {
    throw cudaError(
      "BUILD_FAILED",
      "build",
      "the package node-api-headers is missing: npm install node-api-headers",
    );
  }
}

const digest = (...parts: readonly string[]): string => {
  const hash = createHash("sha256");
  for (const part of parts) hash.update(`${part.length}:${part}`);
  return hash.digest("hex");
};

/** @throws CudaError: UNSUPPORTED_HOST, NO_COMPILER, BUILD_FAILED with the compiler's `log`, NO_CACHE. */
export async function buildShim(options: BuildOptions = {}): Promise<Built> {
  if (process.platform !== "linux")
    throw cudaError(
      "UNSUPPORTED_HOST",
      "build",
      `CUDA is used on Linux only, and this is ${process.platform}`,
    );
  const { flags = [], force = false } = options;
  const cache = join(options.cache ?? cacheFolder(), "shim");
  const folder = await sourceFolder();
  const sources = await readSources(folder);
  const { arch, versions } = process;
  // The headers are those of an interface that keeps its binary form, so they need no place in the key.
  const key = digest(
    ...sources.flatMap((s) => [s.name, s.text]),
    ...FLAGS,
    ...flags,
    arch,
    versions.modules,
  ).slice(0, 16);
  const compiler = await findCompiler(options.compiler);
  const done = (found: Found, more: Partial<Built> = {}): Built => ({
    ...found,
    fresh: false,
    milliseconds: 0,
    compiler,
    warnings: "",
    ...more,
  });
  if (compiler === null) {
    const found = options.compiler === undefined && !force ? await foundBuild(cache, `${key}-`) : null;
    if (found !== null) return done(found);
    const looked = options.compiler ?? compilers.join(", ");
    throw cudaError(
      "NO_COMPILER",
      "build",
      `no C compiler was found (looked for ${looked}): install one (Debian: apt install gcc libc6-dev)`,
    );
  }
  const name = `${key}-${digest(compiler.command, compiler.version).slice(0, 16)}-`;
  const found = force ? null : await foundBuild(cache, name);
  if (found !== null) return done(found);
  const { data, ...said } = await compileShim(cache, compiler, folder, sources, flags);
  const path = join(cache, `${name}${digestOf(data)}${SUFFIX}`);
  await writeWhole(path, data);
  return done({ path, bytes: data.length }, { ...said, fresh: true });
}

type Found = { readonly path: string; readonly bytes: number };

const SUFFIX = ".node";
/** As long as no one can make a file to it. */
const digestOf = (data: Uint8Array): string => createHash("sha256").update(data).digest("hex").slice(0, 40);

/** A build whose name begins so and whose content is what the rest of its name says; others are passed over. */
async function foundBuild(cache: string, start: string): Promise<Found | null> {
  for (const name of await readdir(cache).catch(() => [])) {
    if (!name.startsWith(start) || !name.endsWith(SUFFIX)) continue;
    const path = join(cache, name);
    const data = await readFile(path).catch(() => null);
    if (data !== null && name.endsWith(`-${digestOf(data)}${SUFFIX}`)) return { path, bytes: data.length };
  }
  return null;
}

/** Compiles in a folder of its own and gives the result. */
async function compileShim(
  cache: string,
  compiler: Compiler,
  folder: string,
  sources: readonly Source[],
  flags: readonly string[],
): Promise<Pick<Built, "milliseconds" | "warnings"> & { readonly data: Uint8Array }> {
  const temporary = await newFolder(cache);
  try {
    const path = join(temporary, "shim.node");
    // All files as one: the headers are read once, which halves the time again.
    const input = sources.flatMap((s) => (s.name.endsWith(".c") ? [`#include "${s.name}"\n`] : [])).join("");
    // Libraries come after `-x none`, or they would be read as C.
    const args = [...FLAGS, ...flags, "-I.", "-I", headerFolder(), "-", "-x", "none", "-o", path, "-ldl"];
    const start = performance.now();
    const ran = await execa(compiler.command, args, {
      cwd: folder,
      input,
      reject: false,
      all: true,
      timeout: 120_000,
      env: { LC_ALL: "C", TMPDIR: temporary },
    });
    const milliseconds = performance.now() - start;
    if (!ran.failed) return { data: await readFile(path), milliseconds, warnings: ran.all };
    const [line = ran.message] = ran.all.split("\n").filter((l) => l.includes("error"));
    const sentence = `${compiler.command} could not compile the shim: ${line}`;
    throw cudaError("BUILD_FAILED", "build", sentence, ran.all);
  } finally {
    await rm(temporary, { recursive: true, force: true });
  }
}

async function newFolder(cache: string): Promise<string> {
  try {
    // What lies here is loaded as code: nobody else may write it.
    await mkdir(cache, { recursive: true, mode: 0o700 });
    return await mkdtemp(join(cache, ".new-"));
  } catch (error) {
    const { code = "" } = error as NodeJS.ErrnoException;
    throw cudaError(
      "NO_CACHE",
      "build",
      `the cache folder ${cache} cannot be written (${code}): set HEDDLE_CACHE to a folder that can`,
    );
  }
}
