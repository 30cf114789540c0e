/** What goes wrong with WebGPU: the errors of every device. */
export { deviceError } from "../device-error.ts";
export type { DeviceError, DeviceErrorCode } from "../device-error.ts";
