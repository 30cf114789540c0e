/** CUDA's errors as those of a device. */
import { deviceError } from "../device-error.ts";
import type { DeviceError } from "../device-error.ts";
import { isCudaError } from "./errors.ts";
import type { CudaError } from "./errors.ts";

/**
 * After these a context is of no more use: every call in it fails, and what it holds is gone. Of what a driver has no name for, the
 * worst is assumed.
 */
const FATAL = new Set(
  `DEINITIALIZED DEVICE_UNAVAILABLE INVALID_CONTEXT ECC_UNCORRECTABLE NVLINK_UNCORRECTABLE HARDWARE_STACK_ERROR ILLEGAL_ADDRESS
  LAUNCH_TIMEOUT CONTEXT_IS_DESTROYED ASSERT ILLEGAL_INSTRUCTION MISALIGNED_ADDRESS INVALID_ADDRESS_SPACE INVALID_PC LAUNCH_FAILED
  TENSOR_MEMORY_LEAK EXTERNAL_DEVICE CONTAINED MPS_CONNECTION_FAILED MPS_RPC_FAILURE MPS_SERVER_NOT_READY MPS_CLIENT_TERMINATED
  UNKNOWN`
    .split(/\s+/)
    .map((name) => `CUDA_ERROR_${name}`),
);

export const endsContext = ({ code }: CudaError): boolean => FATAL.has(code);

/** What CUDA refused, in its own words. */
export const refused = (error: CudaError): DeviceError =>
  error.code.endsWith("OUT_OF_MEMORY")
    ? deviceError("OUT_OF_MEMORY", `CUDA has no memory left: ${error.message}`, error)
    : deviceError("FAILED", `CUDA refuses: ${error.message}`, error);

/** Opening CUDA failed: the message says what is missing and the repair. */
export const absent = (error: unknown): unknown =>
  isCudaError(error) ? deviceError("NO_CUDA", error.message.replace(/^\w+: /, ""), error) : error;
