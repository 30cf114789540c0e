/**
 * Kernels' CUDA C++ compiled by the machine's own C++ compiler against heddle_host.h: one shared library for each text, cached by
 * what goes into it, and the program that runs them.
 */
import { createHash, type Hash } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, statSync } from "node:fs";
import { tmpdir, userInfo } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { execa, execaSync } from "execa";
import type { CudaKernelText } from "../../../codegen/cuda/text.ts";

const here = (file: string): string => fileURLToPath(new URL(file, import.meta.url));
const SOURCES = ["engine.h", "heddle_host.h", "engine.cpp", "memory.cpp"] as const;
// What nobody has written in a lane's registers is a large negative number.
const FLAGS = [
  "-ftrivial-auto-var-init=pattern",
  "-std=c++17",
  "-ffp-contract=off",
  "-fno-strict-aliasing",
  "-march=native",
] as const;
/** Compilers at work at a time, in one process. */
const AT_ONCE = 2;
const DAY = 24 * 3600 * 1000;

export type Compiler = { readonly command: string; readonly version: string };

/** The compiler to use: $CXX, c++ or g++; null where there is none, or the machine is not one that the fibers know. */
export function compiler(): Compiler | null {
  if (process.arch !== "x64" || process.platform !== "linux") return null;
  for (const command of [process.env["CXX"], "c++", "g++"]) {
    if (command === undefined || command === "") continue;
    const { stdout, failed } = execaSync(command, ["--version"], { reject: false });
    if (!failed) return { command, version: stdout };
  }
  return null;
}
export const COMPILER_MISSING = "no C++ compiler for x86-64 Linux (CXX, c++ or g++)";

const folder = join(tmpdir(), `heddle-cuda-${userInfo().uid}`);
let pruned = false;
/** The cache; what has not been made for a day goes. */
function cache(): string {
  mkdirSync(folder, { recursive: true });
  if (!pruned) {
    pruned = true;
    for (const name of readdirSync(folder)) {
      const path = join(folder, name);
      const age = Date.now() - (statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? Date.now());
      if (age > DAY) rmSync(path, { force: true });
    }
  }
  return folder;
}

const sources = SOURCES.map((name) => readFileSync(here(name), "utf8"));
const hashed = (c: Compiler): Hash =>
  sources.reduce((h, s) => h.update(s).update("\0"), createHash("sha256").update(c.version));

let waiting: (() => void)[] = [];
let working = 0;
async function inTurn<T>(work: () => Promise<T>): Promise<T> {
  if (working >= AT_ONCE) await new Promise<void>((resolve) => waiting.push(resolve));
  working++;
  try {
    return await work();
  } finally {
    working--;
    waiting.shift()?.();
  }
}

const made = new Map<string, Promise<string>>();
/** Compiles to `name` in the cache unless it is there; written under another name first, since others may look for it. */
function make(name: string, c: Compiler, args: readonly string[], input?: string): Promise<string> {
  const path = join(cache(), name);
  const known = made.get(path);
  if (known !== undefined) return known;
  const work = inTurn(async () => {
    if (existsSync(path)) return path;
    const draft = `${path}.${process.pid}`;
    const result = await execa(c.command, [...args, "-o", draft], {
      reject: false,
      ...(input === undefined ? {} : { input }),
    });
    if (result.failed)
      throw new Error(`${c.command} does not compile ${name}:\n${result.stderr.slice(0, 4000)}`);
    renameSync(draft, path);
    return path;
  });
  made.set(path, work);
  return work;
}

/** The program that runs jobs (job.ts). */
export function runner(c: Compiler): Promise<string> {
  const name = `engine-${hashed(c).digest("hex").slice(0, 24)}`;
  return make(name, c, ["-O2", ...FLAGS, "-rdynamic", here("engine.cpp"), here("memory.cpp"), "-ldl"]);
}

export type BuildOptions = {
  /** -O0 compiles four times faster and runs four times slower; for kernels that run long, `fast`. */
  readonly fast?: boolean;
  /** Signed overflow and shifts out of range end the program. */
  readonly sanitize?: boolean;
};

/** The shared library of one kernel. */
export function library(
  c: Compiler,
  { entry, code }: CudaKernelText,
  options: BuildOptions = {},
): Promise<string> {
  const flags = [
    options.fast === true ? "-O1" : "-O0",
    ...(options.sanitize === true
      ? ["-fsanitize=signed-integer-overflow,shift-exponent,bounds", "-fsanitize-undefined-trap-on-error"]
      : []),
  ];
  const text = `${code}HEDDLE_ENTRY(${entry})\n`;
  const name = `${hashed(c).update(flags.join(" ")).update(text).digest("hex").slice(0, 32)}.so`;
  const include = ["-include", here("heddle_host.h")];
  return make(name, c, [...flags, ...FLAGS, "-fPIC", "-shared", "-w", ...include, "-x", "c++", "-"], text);
}
