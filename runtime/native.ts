/**
 * The processor through a C compiler, on Node for Linux: `create({ device: "native", native: nativeDevice })`. The kernels of a program
 * are compiled where they run, for the vectors that are there, and kept on disk; threads of the system run them, so that JavaScript is
 * never blocked. Nothing of this reaches a web page.
 */
import { availableParallelism } from "node:os";
import { buildKernels, buildTeam } from "./cpu/build.ts";
import { executableOf } from "./cpu/executable.ts";
import { inspectHost, lanesOf, usable } from "./cpu/host.ts";
import type { Host, HostOptions } from "./cpu/host.ts";
import { loadShim } from "./cpu/shim.ts";
import { cacheFolder } from "./cuda/folder.ts";
import { deviceError } from "./device-error.ts";
import type { Device, Executable } from "./device.ts";
import { ownedExecutables } from "./owned.ts";
import type { NativeVectors } from "./plan.ts";

export { inspectHost } from "./cpu/host.ts";
export type { Host } from "./cpu/host.ts";

export type NativeDeviceOptions = HostOptions & {
  /** Threads, as many as the host has processors unless given. */
  readonly threads?: number;
  /** For tests: outputs, scratch memory and values between steps begin as NaN. */
  readonly poison?: boolean;
  /** Where compiled things are kept; `cacheFolder()` unless given. */
  readonly cache?: string;
  /** Narrower vectors than the host has. */
  readonly vectors?: NativeVectors;
};

export type NativeDevice = Device & {
  readonly host: Host;
  readonly vectors: NativeVectors;
  readonly threads: number;
};

/** @throws DeviceError NO_NATIVE with what is missing and the repair, in one line. */
export async function nativeDevice(options: NativeDeviceOptions = {}): Promise<NativeDevice> {
  const {
    threads: asked = availableParallelism(),
    poison = false,
    cache = cacheFolder(),
    flags = [],
  } = options;
  if (!(Number.isInteger(asked) && asked >= 1 && asked <= 1024))
    throw new Error(`heddle: threads must be an integer from 1 to 1024, found ${asked}`);
  const host = await inspectHost(options);
  const vectors = options.vectors ?? host.vectors;
  if (!usable[host.vectors].includes(vectors))
    throw deviceError(
      "NO_NATIVE",
      `no native code: this processor has no ${vectors}, it has ${host.vectors}`,
    );
  const shim = loadShim((await buildTeam(cache, host)).path);
  const team = shim.team(asked);
  const threads = shim.threads(team);
  const detail = `native code for ${vectors}, ${lanesOf[vectors]} lanes, ${threads} thread${threads === 1 ? "" : "s"} (${host.compiler.version})`;
  const executables = ownedExecutables<Executable>();
  let closed = false;
  return {
    name: "native",
    detail,
    host,
    vectors,
    threads,
    async compile(program, { weights, warmup } = {}) {
      if (closed) throw new Error("heddle: the native device was disposed");
      const fits = usable[vectors].flatMap((v) => program.native?.filter((n) => n.vectors === v) ?? []);
      const [native] = fits;
      if (native === undefined)
        throw deviceError(
          "LIMITS",
          `'${program.plan.name}' was not compiled for ${vectors}: compile it with --kernels native`,
        );
      const { path } = await buildKernels(cache, host, native.code, flags);
      warmup?.(1, 1);
      const library = shim.open(path);
      const executable = executableOf(native, { shim, team, library, poison, detail });
      return executables.own(executable, weights);
    },
    async dispose() {
      await executables.dispose();
      closed = true;
      shim.dispose(team);
    },
  };
}
