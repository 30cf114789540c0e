/** The WebGPU device: in browsers, in Deno, and in Node by the optional package `webgpu`. */
import { ownedExecutables } from "./owned.ts";
import type { Device } from "./device.ts";
import { BUDGET_MS } from "./webgpu/budget.ts";
import { deviceError } from "./webgpu/errors.ts";
import { executableOf } from "./webgpu/executable.ts";
import type { WebgpuExecutable } from "./webgpu/executable.ts";
import { findAdapter, wishes } from "./webgpu/gpu.ts";
import { sessionOf } from "./webgpu/session.ts";
import type { SessionLimits, WebgpuOptions } from "./webgpu/options.ts";
import type { Session } from "./webgpu/session.ts";
import type { Program } from "./plan.ts";
import type { LoadOptions } from "./device.ts";

export type { WebgpuOptions } from "./webgpu/options.ts";
export type WebgpuDevice = Omit<Device, "compile"> & {
  /** Whether it computes on the processor. */
  readonly software: boolean;
  /** What programs may use, and what the device has. */
  readonly features: readonly string[];
  readonly offers: readonly string[];
  readonly limits: SessionLimits;
  /** Bytes of all buffers that are alive. */
  readonly bytes: () => number;
  readonly compile: (program: Program, options?: LoadOptions) => Promise<WebgpuExecutable>;
};

/** Opens WebGPU. @throws DeviceError: NO_WEBGPU, NO_ADAPTER. */
export async function webgpuDevice(options: WebgpuOptions = {}): Promise<WebgpuDevice> {
  const { budgetMs = BUDGET_MS, poison = false, profile = false, device: given } = options;
  let software = false;
  let closed = false;

  const acquire = async (): Promise<Session> => {
    if (given !== undefined) {
      const device = (
        typeof given === "function" ? await (given as () => Promise<object>)() : given
      ) as GPUDevice;
      return sessionOf(device, { text: "the caller's device" }, options);
    }
    const found = await findAdapter(options);
    software = found.software;
    const device = await found.adapter.requestDevice(wishes(found.adapter));
    return sessionOf(device, found, options);
  };

  let latest: Session = await acquire();
  let current: Promise<Session> = Promise.resolve(latest);
  const first = latest;
  /** The device of now. A lost one is replaced, once for all who ask. */
  const session = async (): Promise<Session> => {
    for (;;) {
      if (closed) throw deviceError("FAILED", "the WebGPU device was disposed");
      const asked = current;
      const now = await asked;
      if (!now.isLost()) return now;
      if (given !== undefined && typeof given !== "function") return now.lost;
      // Another call may have begun to replace it meanwhile.
      if (current !== asked) continue;
      const next = acquire();
      current = next;
      next.then(
        (made) => (latest = made),
        // A failed attempt is not the last word: the next call tries again.
        () => (current = asked),
      );
      return next;
    }
  };
  const executables = ownedExecutables<WebgpuExecutable>();
  return {
    name: "webgpu",
    detail: `WebGPU ${first.text}${software ? " (software)" : ""}`,
    software,
    features: [...first.features],
    offers: [...first.device.features],
    limits: first.limits,
    bytes: () => latest.bytes(),
    compile: async (program, load = {}) => {
      const made = await executableOf(program, { session, budgetMs, poison, profile }, load);
      return executables.own(made);
    },
    dispose: async () => {
      await executables.dispose();
      closed = true;
      const now = await current;
      now.close();
      if (given === undefined) now.device.destroy();
    },
  };
}
