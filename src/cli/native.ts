/** Target `native` on the command line: for which vectors it is compiled, and how it is opened. */
import type { NativeDevice, NativeDeviceOptions } from "../../runtime/native.ts";
import type { NativeVectors } from "../../runtime/plan.ts";
import type { Io } from "./io.ts";

/** Loaded when it is wanted: running a C compiler takes a library that other commands need not wait for. */
const native = () => import("../../runtime/native.ts");

/** @throws DeviceError NO_NATIVE */
export async function openNativeDevice(
  env: Io["env"],
  options: NativeDeviceOptions = {},
): Promise<NativeDevice> {
  const { cacheFolder } = await import("../../runtime/cuda/folder.ts");
  return (await native()).nativeDevice({ cache: cacheFolder(env), ...options });
}

/** The vectors of this machine, for `compileSpec`; nothing for other devices. @throws DeviceError NO_NATIVE */
export async function vectorsFor(device: string): Promise<{ readonly vectors?: readonly NativeVectors[] }> {
  return device === "native" ? { vectors: [(await (await native()).inspectHost()).vectors] } : {};
}
