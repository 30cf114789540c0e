/** What the driver says of a device. */
import type { Handle, Shim } from "./shim.ts";

/** CUDA's numbers of the attributes (CU_DEVICE_ATTRIBUTE_…), by our names for them. */
const attributes = {
  major: 75,
  minor: 76,
  multiprocessors: 16,
  warpSize: 10,
  /** Of a block. */
  maxThreads: 1,
  maxThreadsPerMultiprocessor: 39,
  maxBlocksPerMultiprocessor: 106,
  maxGridX: 5,
  maxGridY: 6,
  registersPerBlock: 12,
  registersPerMultiprocessor: 82,
  /** Bytes of a block without, and with, the wish for more. */
  sharedBytes: 8,
  sharedBytesOptIn: 97,
  sharedBytesPerMultiprocessor: 81,
  /** Bytes of each block that the driver takes for itself. */
  sharedBytesReserved: 111,
  l2Bytes: 38,
} as const;

type Attribute = keyof typeof attributes;

export type CudaDevice = { readonly [A in Attribute]: number } & {
  readonly ordinal: number;
  readonly name: string;
  readonly memoryBytes: number;
  /** 90 for compute capability 9.0, as in sm_90. */
  readonly capability: number;
};

/** @throws CudaError. */
export function deviceList(shim: Shim, driver: Handle<"driver">): readonly CudaDevice[] {
  const keys = Object.keys(attributes) as readonly Attribute[];
  const numbers = Int32Array.from(keys, (k) => attributes[k]);
  return Array.from({ length: shim.deviceCount(driver) }, (_, ordinal) => {
    const { name, bytes, values } = shim.deviceInfo(driver, ordinal, numbers);
    const known = Object.fromEntries(keys.map((k, i) => [k, values[i] ?? 0])) as { [A in Attribute]: number };
    return { ordinal, name, memoryBytes: bytes, capability: 10 * known.major + known.minor, ...known };
  });
}
