/**
 * CUDA on Node, for Linux: the driver and NVRTC through the shim. Nothing of it is needed to install heddle, and nothing here may
 * be imported by what a web page ships.
 */
import type { BuildOptions, Built } from "./build.ts";
import { contextOf } from "./context.ts";
import type { CudaContext } from "./context.ts";
import { deviceList } from "./devices.ts";
import type { CudaDevice } from "./devices.ts";
import { cudaError } from "./errors.ts";
import type { CudaError } from "./errors.ts";
import { missingError, openCublasLt, openDriver } from "./libraries.ts";
import type { CudaVersion, OpenCublasLt } from "./libraries.ts";
import { loadShim } from "./load.ts";
import { nvrtcOf } from "./nvrtc.ts";
import type { Nvrtc } from "./nvrtc.ts";

export type CudaOptions = {
  readonly build?: BuildOptions;
  /** File or folder of libcuda, instead of searching. */
  readonly driver?: string;
  /** File or folder of libnvrtc, or of a toolkit, instead of searching. */
  readonly nvrtc?: string;
  /** File or folder of libcublasLt, or of a toolkit, instead of searching. */
  readonly cublasLt?: string;
};

export type Cuda = {
  readonly built: Built;
  readonly driver: { readonly path: string; readonly version: CudaVersion };
  readonly devices: readonly CudaDevice[];
  /** The device's primary context. */
  readonly open: (ordinal?: number) => Promise<CudaContext>;
  /** NVRTC that suits the driver; opened by the first call. */
  readonly nvrtc: () => Promise<Nvrtc>;
  /** libcublasLt that suits the driver; opened by the first call. @throws CudaError NO_LIBRARY with the repair. */
  readonly cublasLt: () => Promise<OpenCublasLt>;
  /** Ends every context. */
  readonly dispose: () => CudaError | undefined;
};

/** @throws CudaError that says what is missing and the repair, in one line. */
export async function openCuda(options: CudaOptions = {}): Promise<Cuda> {
  const { shim, built } = await loadShim(options.build);
  const driver = await openDriver(shim, options.driver);
  if (!driver.found) throw missingError(driver);
  const { handle, path, version } = driver;
  const devices = deviceList(shim, handle);
  let nvrtc: Promise<Nvrtc> | null = null;
  let cublasLt: Promise<OpenCublasLt> | null = null;
  return {
    built,
    driver: { path, version },
    devices,
    open: async (ordinal = 0) => {
      const device = devices[ordinal];
      if (device === undefined)
        throw cudaError(
          "INVALID_ARGUMENT",
          "open",
          `there is no device ${ordinal}, only ${devices.length} of them`,
        );
      return contextOf(shim, handle, device);
    },
    nvrtc: () =>
      (nvrtc ??= nvrtcOf(shim, {
        driver: version,
        ...(options.nvrtc === undefined ? {} : { path: options.nvrtc }),
      })),
    cublasLt: () =>
      (cublasLt ??= openCublasLt(shim, {
        driver: version,
        ...(options.cublasLt === undefined ? {} : { path: options.cublasLt }),
      }).then((opened) => {
        if (!opened.found) throw missingError(opened);
        return opened;
      })),
    dispose: () => shim.dispose(handle),
  };
}

/** NVRTC alone, for compiling where there is no GPU. @throws CudaError that says what is missing and the repair. */
export async function openCompiler(options: Pick<CudaOptions, "build" | "nvrtc"> = {}): Promise<Nvrtc> {
  const { shim } = await loadShim(options.build);
  return nvrtcOf(shim, options.nvrtc === undefined ? {} : { path: options.nvrtc });
}
