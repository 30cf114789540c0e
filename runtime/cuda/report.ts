/** What of CUDA is here and what is missing, as data: for `heddle cuda info` and `heddle devices`. */
import type { Built } from "./build.ts";
import { findCompiler } from "./compiler.ts";
import type { Compiler } from "./compiler.ts";
import type { CudaOptions } from "./cuda.ts";
import { deviceList } from "./devices.ts";
import type { CudaDevice } from "./devices.ts";
import { isCudaError } from "./errors.ts";
import type { CudaError } from "./errors.ts";
import { cacheFolder } from "./folder.ts";
import { openCublasLt, openDriver, openNvrtc } from "./libraries.ts";
import type { Missing, OpenCublasLt, OpenDriver, OpenNvrtc } from "./libraries.ts";
import { loadShim } from "./load.ts";

export type CudaReport = {
  readonly cache: string;
  readonly compiler: Compiler | null;
  readonly shim: Built | CudaError;
  /** Null where it cannot be told, for want of the shim. */
  readonly driver: Omit<OpenDriver, "handle"> | Missing | null;
  readonly nvrtc: Omit<OpenNvrtc, "handle"> | Missing | null;
  /** For `linear: "cublaslt"`; nothing else needs it, so its absence is no problem. */
  readonly cublasLt: Omit<OpenCublasLt, "handle"> | Missing | null;
  readonly devices: readonly CudaDevice[];
  /** One line for each thing that is missing, with the repair; empty where kernels can be compiled and run. */
  readonly problems: readonly string[];
};

const unopened = <T extends { readonly found: true; readonly handle: unknown }>(opened: T | Missing) => {
  if (!opened.found) return opened;
  const { handle: _, ...rest } = opened;
  return rest;
};

/** Opens everything, looks, and closes it again. */
export async function inspectCuda(options: CudaOptions = {}): Promise<CudaReport> {
  const { build = {} } = options;
  const [cache, compiler] = [build.cache ?? cacheFolder(), await findCompiler(build.compiler)];
  const loaded = await loadShim(build).catch((error: unknown) => {
    if (isCudaError(error)) return error;
    throw error;
  });
  if (loaded instanceof Error)
    return {
      cache,
      compiler,
      shim: loaded,
      driver: null,
      nvrtc: null,
      cublasLt: null,
      devices: [],
      problems: [loaded.message.replace(/^\w+: /, "")],
    };
  const { shim, built } = loaded;
  const driver = await openDriver(shim, options.driver);
  const nvrtc = await openNvrtc(shim, {
    ...(options.nvrtc === undefined ? {} : { path: options.nvrtc }),
    ...(driver.found ? { driver: driver.version } : {}),
  });
  const cublasLt = await openCublasLt(shim, {
    ...(options.cublasLt === undefined ? {} : { path: options.cublasLt }),
    ...(driver.found ? { driver: driver.version } : {}),
  });
  try {
    const devices = driver.found ? deviceList(shim, driver.handle) : [];
    return {
      cache,
      compiler,
      shim: built,
      driver: unopened(driver),
      nvrtc: unopened(nvrtc),
      cublasLt: unopened(cublasLt),
      devices,
      problems: [driver, nvrtc].flatMap((o) => (o.found ? [] : [`${o.why}: ${o.repair}`])),
    };
  } finally {
    for (const opened of [driver, nvrtc, cublasLt]) if (opened.found) shim.dispose(opened.handle);
  }
}
