/** NVRTC: CUDA C++ text to code for one architecture, and what the code takes of the device. Needs no GPU and no driver. */
import type { CudaError } from "./errors.ts";
import { missingError, openNvrtc, versionText } from "./libraries.ts";
import type { NvrtcWish, OpenNvrtc } from "./libraries.ts";
import type { Shim } from "./shim.ts";

/** What a kernel takes, as ptxas says. */
export type KernelUsage = {
  readonly kernel: string;
  /** For each thread. */
  readonly registers: number;
  /** Bytes for each thread: what did not fit its registers, and arrays that cannot lie in them. */
  readonly stackBytes: number;
  readonly spillStoreBytes: number;
  readonly spillLoadBytes: number;
  /** Static shared memory of a block. */
  readonly sharedBytes: number;
  readonly barriers: number;
};

export type Compiled = {
  /** Code for one architecture; null where the architecture was a virtual one (`compute_90`). */
  readonly cubin: Uint8Array<ArrayBuffer> | null;
  /** Text, UTF-8. */
  readonly ptx: Uint8Array<ArrayBuffer> | null;
  /** Warnings; empty where there were none. */
  readonly log: string;
  /** For each kernel of the source; empty where there is no cubin. */
  readonly usage: readonly KernelUsage[];
};

export type CompileOptions = {
  /** `sm_80`, `sm_90a` …; `compute_…` for PTX alone. */
  readonly arch: string;
  /** Of the source, for messages. */
  readonly name?: string;
  readonly options?: readonly string[];
};

export type Nvrtc = Pick<OpenNvrtc, "path" | "builtins" | "version" | "archs" | "identity"> & {
  /** Rejects with a CudaError NVRTC_ERROR_COMPILATION whose message has the first error and whose `log` has all. */
  readonly compile: (source: string, options: CompileOptions) => Promise<Compiled>;
  readonly dispose: () => CudaError | undefined;
};

/** @throws CudaError NO_LIBRARY with what is missing and the repair. */
export async function nvrtcOf(shim: Shim, wish: NvrtcWish = {}): Promise<Nvrtc> {
  const opened = await openNvrtc(shim, wish);
  if (!opened.found) throw missingError(opened);
  const { handle, path, builtins, version, archs, identity } = opened;
  return {
    path,
    builtins,
    version,
    archs,
    identity,
    compile: async (source, options) => {
      const { name = "kernel.cu" } = options;
      const {
        cubin = null,
        ptx = null,
        log,
      } = await shim.compile(handle, name, source, optionsOf(options)).catch((error: CudaError) => {
        throw explained(error, name, `NVRTC ${versionText(version)}`);
      });
      return { cubin, ptx, ...readLog(log) };
    },
    dispose: () => shim.dispose(handle),
  };
}

/** Every option that NVRTC gets; the cache's key holds the same. */
export const optionsOf = ({ arch, options = [] }: CompileOptions): readonly string[] => [
  `--gpu-architecture=${arch}`,
  // Says what each kernel takes; PTX alone is not assembled.
  ...(arch.startsWith("compute_") ? [] : ["--ptxas-options=-v"]),
  ...options,
];

/** Puts the first error of the log into the message. */
function explained(error: CudaError, name: string, compiler: string): CudaError {
  const [line] = (error.log ?? "").split("\n").filter((l) => /\b(error|fatal)\b/.test(l));
  if (line !== undefined)
    error.message += ` by ${compiler}: ${line.startsWith(name) ? line : `${name}: ${line}`}`;
  return error;
}

/** Takes what ptxas says of kernels out of the log. */
export function readLog(text: string): Pick<Compiled, "log" | "usage"> {
  const usage: KernelUsage[] = [];
  const rest: string[] = [];
  let kernel = "";
  let stack = { stackBytes: 0, spillStoreBytes: 0, spillLoadBytes: 0 };
  for (const line of text.split("\n")) {
    const said = /^(?:ptxas (?:info\s*|\s*\.\s*):?|\s+(?=\d+ bytes stack frame))\s*(.*)$/.exec(line)?.[1];
    if (said === undefined) {
      rest.push(line);
      continue;
    }
    const entry = /^Compiling entry function '([^']+)'/.exec(said);
    const frame = /(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads/.exec(said);
    const number = (pattern: RegExp) => Number(pattern.exec(said)?.[1] ?? 0);
    if (entry !== null) {
      kernel = entry[1] ?? "";
      stack = { stackBytes: 0, spillStoreBytes: 0, spillLoadBytes: 0 };
    } else if (frame !== null) {
      const [, stackBytes = 0, spillStoreBytes = 0, spillLoadBytes = 0] = frame.map(Number);
      stack = { stackBytes, spillStoreBytes, spillLoadBytes };
    } else if (said.startsWith("Used ") && kernel !== "") {
      usage.push({
        kernel,
        registers: number(/Used (\d+) registers/),
        barriers: number(/used (\d+) barriers/),
        sharedBytes: number(/(\d+) bytes smem/),
        ...stack,
      });
      kernel = "";
    }
  }
  return { log: rest.join("\n").trim(), usage };
}
