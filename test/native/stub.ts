/** The stub libraries for tests: built once, told to fail, asked what they were called with and what is still alive. */
import { createHash } from "node:crypto";
import { spawnSync } from "node:child_process";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  renameSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { setImmediate as nextTurn } from "node:timers/promises";
import { loadShim } from "../../runtime/cuda/load.ts";
import type { LoadedShim } from "../../runtime/cuda/load.ts";
import type { CudaContext } from "../../runtime/cuda/context.ts";
import { findCompiler } from "../../runtime/cuda/compiler.ts";
import { missing } from "../webgpu/require.ts";

/** Kept between runs, as a user's own cache is. */
export const cache = resolve("node_modules/.cache/heddle-test");

/** Whether there is a C compiler; where not, says once why tests skip, or fails where it is required. */
export async function haveCompiler(): Promise<boolean> {
  if ((await findCompiler()) !== null) return true;
  missing("cc", "there is no C compiler (Debian: apt install gcc libc6-dev)");
  return false;
}

/** The shim as tests build it: a warning is an error. */
export const testShim = (): Promise<LoadedShim> => loadShim({ cache, flags: ["-Werror"] });

export type Libraries = {
  readonly driver: string;
  /** Without cuFuncGetParamInfo, as before CUDA 12.4. */
  readonly oldDriver: string;
  /** By major version. */
  readonly nvrtc: { readonly 11: string; readonly 12: string; readonly 13: string };
  readonly builtins: string;
  readonly cublasLt: string;
  /** A shared library that is none of these. */
  readonly other: string;
};

const STUB = "test/native/stub";

/** Compiles the stubs, once for each version of their text. */
export function stubLibraries(): Libraries {
  const texts = readdirSync(STUB).map((name) => readFileSync(join(STUB, name), "utf8"));
  const key = createHash("sha256").update(texts.join()).digest("hex").slice(0, 16);
  const folder = join(cache, `stub-${key}`);
  const at = (name: string) => join(folder, name);
  const libraries: Libraries = {
    driver: at("libcuda.so.1"),
    oldDriver: at("libcuda-old.so.1"),
    nvrtc: { 11: at("libnvrtc.so.11"), 12: at("libnvrtc.so.12"), 13: at("libnvrtc.so.13") },
    builtins: at("libnvrtc-builtins.so.13.4"),
    cublasLt: at("libcublasLt.so.13"),
    other: at("libother.so"),
  };
  if (existsSync(folder)) return libraries;
  mkdirSync(cache, { recursive: true });
  const making = mkdtempSync(join(cache, ".stub-"));
  const compile = (source: string, name: string, ...flags: readonly string[]) => {
    const args = `-std=gnu11 -Wall -Wextra -Werror -O1 -fPIC -shared -x c ${source} -o ${join(making, name)}`;
    const ran = spawnSync("cc", [...args.split(" "), ...flags, "-x", "none", "-lpthread", "-ldl", "-lm"], {
      encoding: "utf8",
    });
    if (ran.status !== 0) throw new Error(`the stub ${name} does not compile:\n${ran.stderr}`);
  };
  // A name that nobody looks for, by which the stub of cuBLASLt finds it.
  compile(`${STUB}/libcuda.c`, "libcuda.so.1", "-Wl,-soname,libcuda-heddle-stub.so");
  compile(`${STUB}/libcublaslt.c`, "libcublasLt.so.13");
  compile(`${STUB}/libcuda.c`, "libcuda-old.so.1", "-DOLD_DRIVER");
  for (const major of [11, 12, 13]) compile(`${STUB}/libnvrtc.c`, `libnvrtc.so.${major}`, `-DMAJOR=${major}`);
  compile("/dev/null", "libnvrtc-builtins.so.13.4");
  compile("/dev/null", "libother.so");
  try {
    renameSync(making, folder);
  } catch (error) {
    // Another test file was first.
    if (!existsSync(folder)) throw error;
  }
  return libraries;
}

export type Stub = {
  readonly folder: string;
  /** For a child process. */
  readonly env: { readonly HEDDLE_STUB: string };
  /** `fail NAME CODE` and others (stub.h), until the next orders. */
  readonly order: (...orders: readonly string[]) => void;
  /** Calls since the last `forget`, without what was given out and taken back. */
  readonly calls: () => readonly string[];
  /** What no correct caller does. */
  readonly wrongs: () => readonly string[];
  /** Objects by kind that were given out and not taken back, since the log began. */
  readonly alive: () => { readonly [kind: string]: number };
  readonly forget: () => void;
};

/** A folder for the stubs of this process. */
export function stub(): Stub {
  const folder = mkdtempSync(join(tmpdir(), "heddle-stub-"));
  const log = join(folder, "log");
  const orders = join(folder, "orders");
  writeFileSync(log, "");
  process.env["HEDDLE_STUB"] = folder;
  let from = 0;
  let serial = 0;
  const lines = () => readFileSync(log, "utf8").split("\n").filter((l) => l !== ""); // prettier-ignore
  return {
    folder,
    env: { HEDDLE_STUB: folder },
    order: (...given) =>
      writeFileSync(orders, [...given, `serial orders ${++serial}`].map((o) => `${o}\n`).join("")),
    calls: () => lines().slice(from).filter((l) => !/^[+\-!]/.test(l)), // prettier-ignore
    wrongs: () => lines().filter((l) => l.startsWith("!")),
    alive: () => {
      const counts: { [kind: string]: number } = {};
      for (const line of lines()) {
        const [, sign, kind = ""] = /^([+-])(.*)$/.exec(line) ?? [];
        if (sign !== undefined) counts[kind] = (counts[kind] ?? 0) + (sign === "+" ? 1 : -1);
      }
      return Object.fromEntries(Object.entries(counts).filter(([, n]) => n !== 0));
    },
    forget: () => void (from = lines().length),
  };
}

/** The same context, with all that is made in it kept, so that no collection disturbs counts of what is alive. */
export function keeping(context: CudaContext): CudaContext {
  const kept: unknown[] = [];
  const keep = <T>(made: T): T => {
    kept.push(made);
    return made;
  };
  return {
    ...context,
    allocate: async (bytes) => keep(await context.allocate(bytes)),
    allocatePinned: async (bytes) => keep(await context.allocatePinned(bytes)),
    load: async (image) => keep(await context.load(image)),
    stream: () => keep(context.stream()),
    event: () => keep(context.event()),
  };
}

/** Lets pending finalizers run: those of buffers run some turns after their memory was given up. */
export async function turns(count = 4): Promise<void> {
  for (let i = 0; i < count; i++) await nextTurn();
}
