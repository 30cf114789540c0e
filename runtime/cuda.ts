/**
 * The CUDA device, on Node for Linux: `create({ device: "cuda", cuda: cudaDevice })`, or `device: "auto"` with the same, which takes it
 * where it is there. Kernels are compiled by NVRTC where they run and kept on disk. Nothing of this reaches a web page.
 */
import { ownedExecutables } from "./owned.ts";
import { join } from "node:path";
import { kernelCache } from "./cuda/cache.ts";
import type { KernelCacheOptions } from "./cuda/cache.ts";
import { openCuda } from "./cuda/cuda.ts";
import type { CudaOptions } from "./cuda/cuda.ts";
import type { CudaDevice } from "./cuda/devices.ts";
import { executableOf } from "./cuda/executable.ts";
import type { CudaExecutable } from "./cuda/executable.ts";
import { versionText } from "./cuda/libraries.ts";
import type { CudaVersion } from "./cuda/libraries.ts";
import type { CudaLimits } from "./cuda/kernels.ts";
import { absent } from "./cuda/refused.ts";
import { sessionOf } from "./cuda/session.ts";
import type { Session } from "./cuda/session.ts";
import { STAGING_BYTES } from "./cuda/staging.ts";
import { deviceError } from "./device-error.ts";
import type { Device, LoadOptions } from "./device.ts";
import type { Program } from "./plan.ts";

export type { CudaOptions } from "./cuda/cuda.ts";
export type { CudaDevice } from "./cuda/devices.ts";
export type { CudaExecutable } from "./cuda/executable.ts";
export type { LinearUse } from "./cuda/linears.ts";
export type { StepTime } from "./cuda/profile.ts";
export { inspectCuda } from "./cuda/report.ts";
export type { CudaReport } from "./cuda/report.ts";

export type CudaDeviceOptions = CudaOptions & {
  /** Which device (0); CUDA_VISIBLE_DEVICES says which there are. */
  readonly ordinal?: number;
  /**
   * Who multiplies in linear layers: heddle's kernels, or cuBLASLt where it is there and computes the very layer (`executable.linears()`
   * tells); opening fails where it is not there. `own` unless given, for neither was timed on a GPU yet: `bench/gpu.sh` times both.
   */
  readonly linear?: "own" | "cublaslt";
  /** Runs the steps of a length as one CUDA graph, captured by its first run. */
  readonly graph?: boolean;
  /** Overwrites outputs and values between steps with NaN before every run. */
  readonly poison?: boolean;
  /** Measures every step, which are then launched one by one. */
  readonly profile?: boolean;
  /** Where compiled kernels are kept. */
  readonly kernels?: KernelCacheOptions;
  /** Pinned memory for inputs and outputs at most (64 MiB); what fits into it is copied without waiting. */
  readonly stagingBytes?: number;
  /** Uses less than the device has. */
  readonly limits?: Partial<CudaLimits>;
};

export type OpenCudaDevice = Omit<Device, "compile"> & {
  readonly facts: CudaDevice;
  readonly driver: CudaVersion;
  readonly nvrtc: CudaVersion;
  /** Bytes that are alive: on the device, and pinned on the host. */
  readonly bytes: () => { readonly device: number; readonly pinned: number };
  readonly compile: (program: Program, options?: LoadOptions) => Promise<CudaExecutable>;
};

/** Opens CUDA. @throws DeviceError NO_CUDA with what is missing and the repair, in one line. */
export async function cudaDevice(options: CudaDeviceOptions = {}): Promise<OpenCudaDevice> {
  const {
    ordinal = 0,
    graph = false,
    poison = false,
    profile = false,
    stagingBytes = STAGING_BYTES,
  } = options;
  const orAbsent = (error: unknown): never => {
    throw absent(error);
  };
  const cuda = await openCuda(options).catch(orAbsent);
  const facts = cuda.devices[ordinal];
  if (facts === undefined) {
    cuda.dispose();
    const there = cuda.devices.map((d) => `${d.ordinal} ${d.name}`).join(", ");
    throw deviceError(
      "NO_CUDA",
      `there is no CUDA device ${ordinal}; ${there === "" ? "there are none" : `there are: ${there}`}`,
    );
  }
  const acquire = async (): Promise<Session> => sessionOf(await cuda.open(ordinal));
  // Both end before a failure is told: what opens later would stay, and call CUDA behind the caller's back.
  const [compiling, acquired, library] = await Promise.allSettled([
    cuda.nvrtc(),
    acquire(),
    options.linear === "cublaslt" ? cuda.cublasLt() : null,
  ]);
  if (compiling.status === "rejected" || acquired.status === "rejected" || library.status === "rejected") {
    if (compiling.status === "fulfilled") compiling.value.dispose();
    if (acquired.status === "fulfilled") {
      acquired.value.close();
      await acquired.value.ended();
    }
    cuda.dispose();
    const failed = [acquired, compiling, library].find((tried) => tried.status === "rejected") ?? acquired;
    throw absent(failed.status === "rejected" ? failed.reason : undefined);
  }
  const nvrtc = compiling.value;
  const cublasLt = library.value;
  const cache = options.build?.cache;
  const compiler = {
    nvrtc,
    cache: kernelCache({
      ...(cache === undefined ? {} : { folder: join(cache, "kernels") }),
      ...options.kernels,
    }),
  };
  const limits: CudaLimits = {
    sharedBytesOptIn: facts.sharedBytesOptIn,
    maxThreads: facts.maxThreads,
    maxGridX: facts.maxGridX,
    ...options.limits,
  };
  const detail =
    `CUDA ${facts.name} (sm_${facts.capability}, driver for CUDA ${versionText(cuda.driver.version)}, ` +
    `NVRTC ${versionText(nvrtc.version)}${cublasLt === null ? "" : `, cuBLASLt ${versionText(cublasLt.version)}`})`;

  let latest = acquired.value;
  let current = Promise.resolve(latest);
  let closed = false;
  /** The context of now. A lost one is replaced, once for all who ask. */
  const session = async (): Promise<Session> => {
    for (;;) {
      if (closed) throw deviceError("FAILED", "the CUDA device was disposed");
      const asked = current;
      const now = await asked;
      if (!now.isLost()) return now;
      // Another call may have begun to replace it meanwhile.
      if (current !== asked) continue;
      // While anything holds the lost context, the driver gives it again.
      const next = now.ended().then(acquire).catch(noContext);
      current = next;
      next.then(
        (made) => (latest = made),
        // A failed attempt is not the last word: the next call tries again.
        () => (current = asked),
      );
      return next;
    }
  };
  const executables = ownedExecutables<CudaExecutable>();
  return {
    name: "cuda",
    detail,
    facts,
    driver: cuda.driver.version,
    nvrtc: nvrtc.version,
    bytes: () => latest.bytes(),
    compile: async (program, load = {}) => {
      const wish = {
        session,
        compiler,
        limits,
        poison,
        profile,
        detail,
        stagingBytes,
        graph,
        cublasLt: cublasLt?.handle ?? null,
      };
      const made = await executableOf(program, wish, load);
      return executables.own(made);
    },
    dispose: async () => {
      await executables.dispose();
      if (closed) return;
      closed = true;
      const now = await current.catch(() => latest);
      now.close();
      await now.ended();
      nvrtc.dispose();
      cuda.dispose();
    },
  };
}

const noContext = (error: unknown): never => {
  const why = error instanceof Error ? error.message : String(error);
  throw deviceError(
    "DEVICE_LOST",
    `CUDA gives this process no new context after the lost one: ${why}. Start a new process`,
    error,
  );
};
