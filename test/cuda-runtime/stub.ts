/**
 * A CUDA that computes without a GPU: the stub of the driver runs, block after block, what the stub of NVRTC makes of the kernels' CUDA
 * C++ with the machine's own compiler. Everything between (shim, runtime, plans, cache) is what runs on a GPU.
 */
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, renameSync } from "node:fs";
import { join, resolve } from "node:path";
import type { CudaDeviceOptions } from "../../runtime/cuda.ts";
import { compiler, COMPILER_MISSING } from "../cuda/host/build.ts";
import { cache, haveCompiler } from "../native/stub.ts";
import { missing } from "../webgpu/require.ts";

const OWN = resolve("test/cuda-runtime/stub");
const DRIVER = resolve("test/native/stub");
const HOST = resolve("test/cuda/host");
/** As test/cuda/host compiles kernels. -O1 makes them wait for the compiler, and runs them four times faster. */
const FLAGS =
  "-O1 -std=c++17 -ffp-contract=off -fno-strict-aliasing -march=native -ftrivial-auto-var-init=pattern";

export type Executing = {
  /** Holds libcuda.so.1, libnvrtc.so.13 with its builtins, and libcublasLt.so.13. */
  readonly folder: string;
  readonly driver: string;
  readonly nvrtc: string;
  readonly cublasLt: string;
  /** For `cudaDevice`. */
  readonly options: CudaDeviceOptions;
};

/** Null, said in one line, where there is no compiler for C or none for C++. */
export async function executing(): Promise<Executing | null> {
  if (!(await haveCompiler())) return null;
  const c = compiler();
  if (c === null) {
    missing("c++", COMPILER_MISSING);
    return null;
  }
  const hash = createHash("sha256").update(c.version).update(FLAGS);
  for (const folder of [OWN, DRIVER, HOST])
    for (const name of readdirSync(folder).sort())
      if (!name.endsWith(".ts")) hash.update(`${name}\0`).update(readFileSync(join(folder, name)));
  const folder = join(cache, `cuda-${hash.digest("hex").slice(0, 16)}`);
  if (!existsSync(folder)) build(c.command, folder);
  const [driver, nvrtc, cublasLt] = ["libcuda.so.1", "libnvrtc.so.13", "libcublasLt.so.13"].map((name) =>
    join(folder, name),
  ) as [string, string, string];
  // The version and size of a stub of NVRTC do not tell one from another, as a cache of kernels assumes of NVRTC's.
  const kernels = { folder: join(folder, "kernels") };
  const options = { driver, nvrtc, cublasLt, kernels, build: { cache, flags: ["-Werror"] } };
  return { folder, driver, nvrtc, cublasLt, options };
}

function build(cxx: string, folder: string): void {
  mkdirSync(cache, { recursive: true });
  const making = mkdtempSync(join(cache, ".cuda-"));
  const run = (command: string, args: readonly string[]) => {
    const ran = spawnSync(command, args, { encoding: "utf8" });
    if (ran.status !== 0) throw new Error(`the executing stub does not compile:\n${ran.stderr}`);
  };
  const at = (name: string) => join(making, name);
  const text = (name: string, value: string) => `-D${name}="${value}"`;
  const C = ["-std=gnu11", "-Wall", "-Wextra", "-Werror", "-O1", "-g", "-fPIC", "-DEXECUTE", "-I", OWN];
  const engine = `${FLAGS.replace("-O1", "-O2")} -w -fPIC -D_GNU_SOURCE -I ${HOST} -I ${OWN}`.split(" ");
  run("cc", [...C, "-c", join(DRIVER, "libcuda.c"), "-o", at("driver.o")]);
  for (const source of [join(OWN, "execute.cpp"), join(HOST, "memory.cpp")])
    run(cxx, [...engine, "-c", source, "-o", at(`${source.split("/").at(-1)}.o`)]);
  const objects = ["driver.o", "execute.cpp.o", "memory.cpp.o"].map(at);
  const soname = "-Wl,-soname,libcuda-heddle-stub.so";
  run(cxx, ["-shared", soname, ...objects, "-o", at("libcuda.so.1"), "-ldl", "-lpthread"]);
  const lt = at("libcublasLt.so.13");
  run("cc", [...C, "-shared", join(DRIVER, "libcublaslt.c"), "-o", lt, "-ldl", "-lm", "-lpthread"]);
  const told = [
    text("CXX", cxx),
    text("FLAGS", FLAGS),
    text("HOST", join(HOST, "heddle_host.h")),
    text("TRAILER", join(OWN, "trailer.h")),
  ];
  run("cc", [
    ...C,
    ...told,
    "-DMAJOR=13",
    "-shared",
    join(DRIVER, "libnvrtc.c"),
    "-o",
    at("libnvrtc.so.13"),
    "-lpthread",
  ]);
  run("cc", ["-shared", "-x", "c", "/dev/null", "-o", at("libnvrtc-builtins.so.13.4")]);
  try {
    renameSync(making, folder);
  } catch (error) {
    // Another test file was first.
    if (!existsSync(folder)) throw error;
  }
}
