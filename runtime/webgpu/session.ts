/** One GPUDevice with what this runtime must know of it: effective limits, live bytes, and whether it is lost. */
import { deviceError } from "./errors.ts";
import type { Found } from "./gpu.ts";
import type { SessionLimits } from "./options.ts";

// Numbers of WebGPU's flag namespaces, which not every host has as globals.
export const USAGE = {
  mapRead: 1,
  copySrc: 4,
  copyDst: 8,
  uniform: 0x40,
  storage: 0x80,
  queryResolve: 0x200,
} as const;
export const MAP_READ = 1;
export const COMPUTE = 4;

const names = [
  "maxStorageBufferBindingSize",
  "maxBufferSize",
  "maxStorageBuffersPerShaderStage",
  "maxComputeWorkgroupStorageSize",
  "maxComputeInvocationsPerWorkgroup",
  "maxComputeWorkgroupsPerDimension",
] as const satisfies readonly (keyof SessionLimits)[];

export type Session = {
  readonly device: GPUDevice;
  /** Kept alive with the device. */
  readonly found: Pick<Found, "text"> & Partial<Found>;
  readonly text: string;
  readonly limits: SessionLimits;
  readonly features: ReadonlySet<string>;
  /** Rejects once the device is lost. */
  readonly lost: Promise<never>;
  readonly isLost: () => boolean;
  /** A buffer, counted until `free`. @throws DeviceError OUT_OF_MEMORY */
  readonly buffer: (what: Wanted, usage: number) => Promise<GPUBuffer>;
  readonly free: (buffer: GPUBuffer) => void;
  /** Bytes of all live buffers. */
  readonly bytes: () => number;
  readonly close: () => void;
};

/** What memory is for, so that a refusal can be explained. */
export type Wanted = { readonly label: string; readonly bytes: number; readonly formula?: string };

export function sessionOf(
  device: GPUDevice,
  found: Pick<Found, "text"> & Partial<Found>,
  wish: { readonly limits?: Partial<SessionLimits>; readonly features?: readonly string[] },
): Session {
  const limits = Object.fromEntries(
    names.map((name) => [name, Math.min(device.limits[name], wish.limits?.[name] ?? Infinity)]),
  ) as SessionLimits;
  const features = new Set([...device.features].filter((f) => wish.features?.includes(f) ?? true));
  const live = new Map<GPUBuffer, number>();
  let bytes = 0;
  let lost = false;
  const loss = device.lost.then((info): never => {
    lost = true;
    live.clear();
    bytes = 0;
    throw deviceError(
      "DEVICE_LOST",
      `the WebGPU device was lost (${info.reason}${info.message === "" ? "" : `: ${info.message}`}); what ran on it has no result`,
    );
  });
  // Whoever waits for it sees the rejection; nobody else needs to.
  loss.catch(() => undefined);
  return {
    device,
    found,
    text: found.text,
    limits,
    features,
    lost: loss,
    isLost: () => lost,
    buffer: async ({ label, bytes: wanted, formula }, usage) => {
      const size = Math.max(16, Math.ceil(wanted / 16) * 16);
      device.pushErrorScope("out-of-memory");
      let made: GPUBuffer | undefined;
      let thrown: unknown;
      try {
        made = device.createBuffer({ label, size, usage });
      } catch (error) {
        thrown = error;
      }
      const refused = (await Promise.race([device.popErrorScope(), loss])) ?? thrown;
      if (refused !== undefined && refused !== null) {
        made?.destroy();
        const why = (refused as { message?: string }).message ?? String(refused);
        throw deviceError(
          "OUT_OF_MEMORY",
          `the GPU has no ${size} bytes for ${label}${formula === undefined ? "" : ` (${formula})`}; ${bytes} bytes are in use. ` +
            `Shorter sequences, smaller batches or 16-bit storage (dtype f16) need less. The driver says: ${why.split("\n")[0]}`,
        );
      }
      if (made === undefined) throw deviceError("FAILED", `no buffer was made for ${label}`);
      live.set(made, size);
      bytes += size;
      return made;
    },
    free: (buffer) => {
      bytes -= live.get(buffer) ?? 0;
      live.delete(buffer);
      buffer.destroy();
    },
    bytes: () => bytes,
    close: () => {
      for (const buffer of live.keys()) buffer.destroy();
      live.clear();
      bytes = 0;
    },
  };
}
