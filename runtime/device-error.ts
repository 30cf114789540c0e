/** What a device says when it cannot do what it is asked to. */

/**
 * name "DeviceError". Codes:
 * - NO_WEBGPU: this host has no WebGPU; the message says how to get it.
 * - NO_ADAPTER: there is WebGPU but nothing to run it on; the message says what was looked for.
 * - NO_CUDA: a part of CUDA is missing, or there is no such device; the message says what and how to get it.
 * - NO_NATIVE: native code cannot be made or run here; the message says what is missing and how to get it.
 * - LIMITS: the program does not fit the device; the message has the numbers.
 * - OUT_OF_MEMORY: the device refused memory; the message has the bytes and their formula.
 * - DEVICE_LOST: the device was lost while this call ran. The next call makes a new one, unless the caller gave it.
 * - FAILED: the driver refused something it should not have; the message is the driver's.
 */
export type DeviceErrorCode =
  | "NO_WEBGPU"
  | "NO_ADAPTER"
  | "NO_CUDA"
  | "NO_NATIVE"
  | "LIMITS"
  | "OUT_OF_MEMORY"
  | "DEVICE_LOST"
  | "FAILED";
export type DeviceError = Error & { readonly name: "DeviceError"; readonly code: DeviceErrorCode };

export const deviceError = (code: DeviceErrorCode, message: string, cause?: unknown): DeviceError =>
  Object.assign(new Error(message, cause === undefined ? undefined : { cause }), {
    name: "DeviceError" as const,
    code,
  });
