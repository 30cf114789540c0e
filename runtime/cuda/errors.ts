/** What goes wrong with CUDA, whoever says it: the driver, NVRTC, the shim, or what builds and finds them. */

/**
 * CUDA's, NVRTC's and cuBLASLt's own names, and ours:
 * - INVALID_ARGUMENT, INVALID_HANDLE, DISPOSED: the shim's answer to a wrong call; nothing was done.
 * - OUT_OF_MEMORY: of the host.
 * - CANCELLED: the environment of Node is closing.
 * - NO_LIBRARY, NO_SYMBOL: a library cannot be opened, or lacks a function; the message says where was looked and the repair.
 * - NO_COMPILER, BUILD_FAILED, NO_CACHE, LOAD_FAILED, UNSUPPORTED_HOST: there is no shim; the message says the repair.
 */
export type CudaCode =
  | `CUDA_ERROR_${string}`
  | `NVRTC_ERROR_${string}`
  | `CUBLAS_STATUS_${string}`
  | "INVALID_ARGUMENT"
  | "INVALID_HANDLE"
  | "DISPOSED"
  | "OUT_OF_MEMORY"
  | "CANCELLED"
  | "NO_LIBRARY"
  | "NO_SYMBOL"
  | "NO_COMPILER"
  | "BUILD_FAILED"
  | "NO_CACHE"
  | "LOAD_FAILED"
  | "UNSUPPORTED_HOST";

/** name "CudaError". The shim throws the same. */
export type CudaError = Error & {
  readonly name: "CudaError";
  readonly code: CudaCode;
  /** What failed: a function of the driver, of NVRTC or of the shim. */
  readonly call: string;
  /** What a compiler printed. */
  readonly log?: string;
};

export const cudaError = (code: CudaCode, call: string, sentence: string, log?: string): CudaError =>
  Object.assign(new Error(`${call}: ${sentence}`), {
    name: "CudaError" as const,
    code,
    call,
    ...(log === undefined ? {} : { log }),
  });

export const isCudaError = (error: unknown): error is CudaError =>
  error instanceof Error && error.name === "CudaError";
