/** The functions of the shim (team.c), as it has them. They throw a ShimError where an argument does not fit, and never crash. */

declare const kind: unique symbol;
type Handle<K extends string> = { readonly [kind]: K };
/** Bytes that kernels read and write; JavaScript sees them by copies. */
export type Memory = Handle<"memory">;
/** Kernels, loaded. */
export type Library = Handle<"library">;
/** Threads that run jobs, one after another. */
export type Team = Handle<"team">;
/** Launches with all their arguments, checked. */
export type Job = Handle<"job">;
type Array = Float32Array | Int32Array | Uint8Array;

export type Shim = {
  readonly allocate: (bytes: number) => Memory;
  /** Copies an array to an offset in bytes, or from it; with a team's threads where it is large and they are free. */
  readonly write: (memory: Memory, offset: number, from: Array, team?: Team) => void;
  readonly read: (memory: Memory, offset: number, into: Array, team?: Team) => void;
  readonly fill: (memory: Memory, offset: number, bytes: number, byte: number) => void;
  readonly open: (path: string) => Library;
  /** As many threads as the system gave, the one that runs a job included: see `threads`. */
  readonly team: (threads: number) => Team;
  readonly threads: (team: Team) => number;
  /** `numbers`: see `make_job` in team.c. Keeps the library and the memories. */
  readonly job: (
    library: Library,
    entries: readonly string[],
    memories: readonly Memory[],
    numbers: Float64Array,
  ) => Job;
  /** Runs on other threads than JavaScript's. */
  readonly run: (team: Team, job: Job) => Promise<void>;
  /** Harmless when repeated; what a job or a run uses goes when that ends. */
  readonly dispose: (object: Memory | Library | Team | Job) => void;
};

export type ShimError = Error & {
  readonly code:
    "INVALID_ARGUMENT" | "DISPOSED" | "OUT_OF_MEMORY" | "LOAD_FAILED" | "NO_SYMBOL" | "CANCELLED";
};

/** Loads a built shim. @throws what the loader of the system says. */
export function loadShim(path: string): Shim {
  const module: { exports: unknown } = { exports: {} };
  process.dlopen(module, path);
  return module.exports as Shim;
}
