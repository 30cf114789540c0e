/**
 * Threads for the WebAssembly device: workers that instantiate the same module over the same memory and take ranges of a
 * step's grid from an atomic counter. The calling thread takes part.
 *
 * A step is opened and closed by the caller. A worker that wakes while it is open joins; the caller, once the counter has
 * passed the grid, closes it and waits only for those that joined. A worker that sleeps through a short step therefore
 * costs it nothing. All orders below are those of sequentially consistent atomics: a worker announces itself (`ACTIVE`)
 * before it looks at `OPEN`, the caller clears `OPEN` before it looks at `ACTIVE`, so one of them sees the other.
 */
import {
  ACTIVE,
  ARGUMENTS,
  CALLS,
  CHUNK,
  CONTROL_BYTES,
  FAILED,
  GRID,
  KERNEL,
  MESSAGE,
} from "./wasm/control.ts";
import { MOST_ARGUMENTS, NEXT, NUMBERS, OPEN, SLEEPERS, STOP, workerSource } from "./wasm/control.ts";
import { startThread, turn } from "./wasm/engine.ts";
import type { KernelFunction, Thread, WasmMemory, WasmModule } from "./wasm/engine.ts";

/** Workers that wait for a program. They are kept when a program ends and serve the next one. */
export type Pool = {
  /** Takes idle workers and starts what is missing. */
  take(count: number): readonly Thread[];
  give(thread: Thread): void;
  dispose(): void;
};

export function poolOf(): Pool {
  const idle: Thread[] = [];
  const all = new Set<Thread>();
  return {
    take(count) {
      const taken = idle.splice(0, count);
      while (taken.length < count) {
        const thread = startThread(workerSource);
        all.add(thread);
        taken.push(thread);
      }
      return taken;
    },
    give(thread) {
      if (!all.has(thread)) return;
      thread.listen({
        message: () => {},
        dead: () => {
          all.delete(thread);
          const at = idle.indexOf(thread);
          if (at >= 0) idle.splice(at, 1);
        },
      });
      idle.push(thread);
    },
    dispose() {
      idle.length = 0;
      for (const thread of all) thread.terminate();
      all.clear();
    },
  };
}

/** One launch of a kernel. `args` begins with places for begin and end, then comes thread 0's scratch pointer. */
export type Launch = {
  readonly kernel: number;
  readonly title: string;
  readonly grid: number;
  /** Groups taken at once. */
  readonly chunk: number;
  readonly args: number[];
};

/** The threads of one program. */
export type Team = {
  /** Worker threads beside the caller's. */
  readonly workers: number;
  /**
   * Runs the groups of one launch on all threads; undefined where that was done at once, which is the rule.
   * @throws (or rejects with) Error when a kernel traps or a worker dies.
   */
  run(launch: Launch): Promise<void> | undefined;
  dispose(): Promise<void>;
};

const failure = (title: string, why: string) => new Error(`heddle: '${title}' failed: ${why}`);
const textOf = (error: unknown) => (error instanceof Error ? error.message : String(error));

function kernelOf(kernels: readonly KernelFunction[], launch: Launch): KernelFunction {
  const kernel = kernels[launch.kernel];
  if (kernel === undefined) throw new Error(`heddle: internal: no kernel ${launch.kernel}`);
  return kernel;
}

/** Runs the whole grid on this thread, in chunks: optimised code of a kernel is entered by a call, not inside a loop. */
function alone(kernel: KernelFunction, { args, grid, chunk }: Launch): void {
  for (let begin = 0; begin < grid; begin += chunk) {
    args[0] = begin;
    args[1] = Math.min(begin + chunk, grid);
    kernel(...args);
  }
}

/** The team of a single thread. */
export const single = (kernels: readonly KernelFunction[]): Team => ({
  workers: 0,
  run(launch) {
    try {
      alone(kernelOf(kernels, launch), launch);
    } catch (error) {
      throw failure(launch.title, textOf(error));
    }
    return undefined;
  },
  dispose: () => Promise.resolve(),
});

export type TeamInput = {
  readonly module: WasmModule;
  /** Shared. */
  readonly memory: WasmMemory;
  readonly entries: readonly string[];
  /** This thread's. */
  readonly kernels: readonly KernelFunction[];
  /** Bytes between the scratch memories of two threads. */
  readonly scratchStride: number;
};

/** How long a caller sleeps before it looks whether a worker has died. */
const SLICE_MS = 20;
/** How often the caller looks for the last workers before it sleeps, some 100 µs. */
const CALLER_SPINS = 20_000;
const START_MS = 20_000;
const END_MS = 5_000;

/** Starts `workers` threads on a program. @throws Error when one of them does not start; none is left behind then. */
export async function gather(pool: Pool, workers: number, input: TeamInput): Promise<Team> {
  const control = new SharedArrayBuffer(CONTROL_BYTES);
  const word = new Int32Array(control);
  const real = new Float64Array(control, NUMBERS, MOST_ARGUMENTS + 1);
  real[0] = input.scratchStride;
  const threads = pool.take(workers);
  let broken: string | undefined;
  let released = 0;
  let onReleased: (() => void) | undefined;
  const end = () => {
    Atomics.store(word, STOP, 1);
    Atomics.add(word, CALLS, 1);
    Atomics.notify(word, CALLS);
  };

  const start = (thread: Thread, number: number) =>
    new Promise<void>((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error("a worker did not start in time")), START_MS);
      const settle = (error?: Error) => {
        clearTimeout(timer);
        if (error === undefined) resolve();
        else reject(error);
      };
      thread.listen({
        message: (data) => {
          const { ready, failed } = data as { readonly ready?: boolean; readonly failed?: string };
          if (ready === true) settle();
          else if (failed !== undefined) settle(new Error(failed));
          else if (++released === workers) onReleased?.();
        },
        dead: (why) => {
          broken ??= `worker ${number} ended: ${why}`;
          settle(new Error(broken));
          onReleased?.();
        },
      });
      const { module, memory, entries } = input;
      thread.send({ module, memory, entries, control, number });
    });
  const results = await Promise.allSettled(threads.map((thread, i) => start(thread, i + 1)));
  const refused = results.find((r) => r.status === "rejected");
  if (refused !== undefined) {
    end();
    for (const thread of threads) thread.terminate();
    throw new Error(textOf(refused.reason));
  }

  /** Throws what a worker failed with. */
  const finish = (launch: Launch): void => {
    if (Atomics.load(word, FAILED) === 0) return;
    // 1 while the worker writes its message; one that is ended in between never finishes it.
    for (let i = 0; Atomics.load(word, FAILED) === 1 && i < 1e7; i++);
    const units = new Uint16Array(control, MESSAGE + 4, word[MESSAGE / 4] ?? 0);
    const text = String.fromCharCode(...units);
    Atomics.store(word, FAILED, 0);
    throw failure(launch.title, text);
  };
  const mayBlock = canBlock();
  /** For workers that take longer than a moment. The turns let the end of a worker be heard of. */
  const outlast = async (launch: Launch): Promise<void> => {
    for (let active = Atomics.load(word, ACTIVE); active !== 0; active = Atomics.load(word, ACTIVE)) {
      if (mayBlock) Atomics.wait(word, ACTIVE, active, SLICE_MS);
      if (Atomics.load(word, ACTIVE) === 0) break;
      await turn();
      if (broken !== undefined) throw failure(launch.title, broken);
    }
    finish(launch);
  };
  const open = ({ kernel, grid, chunk, args }: Launch): void => {
    if (args.length > MOST_ARGUMENTS) throw new Error(`heddle: internal: ${args.length} arguments`);
    for (let i = 0; i < args.length; i++) real[1 + i] = args[i] ?? 0;
    word[KERNEL] = kernel;
    word[GRID] = grid;
    word[CHUNK] = chunk;
    word[ARGUMENTS] = args.length;
    Atomics.store(word, NEXT, 0);
    const call = Atomics.add(word, CALLS, 1);
    Atomics.store(word, OPEN, (call << 1) | 1);
    if (Atomics.load(word, SLEEPERS) > 0) Atomics.notify(word, CALLS);
  };
  const takePart = (kernel: KernelFunction, { grid, chunk, args }: Launch): void => {
    for (;;) {
      const begin = Atomics.add(word, NEXT, chunk);
      if (begin >= grid) return;
      args[0] = begin;
      args[1] = Math.min(begin + chunk, grid);
      kernel(...args);
    }
  };

  return {
    workers,
    run(launch) {
      if (broken !== undefined) throw failure(launch.title, broken);
      const kernel = kernelOf(input.kernels, launch);
      const shared = launch.grid > launch.chunk;
      if (shared) open(launch);
      let own: Error | undefined;
      try {
        if (shared) takePart(kernel, launch);
        else alone(kernel, launch);
      } catch (error) {
        own = failure(launch.title, textOf(error));
        Atomics.store(word, NEXT, launch.grid);
      }
      if (shared) {
        Atomics.store(word, OPEN, 0);
        for (let i = 0; Atomics.load(word, ACTIVE) !== 0; i++)
          if (i >= CALLER_SPINS) {
            const others = outlast(launch);
            if (own === undefined) return others;
            const fail = () => Promise.reject(own);
            return others.then(fail, fail);
          }
        if (own === undefined) finish(launch);
        else Atomics.store(word, FAILED, 0);
      }
      if (own !== undefined) throw own;
      return undefined;
    },
    async dispose() {
      await new Promise<void>((resolve) => {
        // Workers do not keep a process alive; this timer does until they have let go of the program.
        const timer = setTimeout(() => onReleased?.(), END_MS);
        onReleased = () => {
          clearTimeout(timer);
          resolve();
        };
        end();
        if (broken !== undefined) onReleased();
      });
      for (const thread of threads)
        if (released === workers) pool.give(thread);
        else thread.terminate();
    },
  };
}

/** Not on the main thread of a page. */
function canBlock(): boolean {
  try {
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 0);
    return true;
  } catch {
    return false;
  }
}
