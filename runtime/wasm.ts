/** The WebAssembly device: one module and one memory for each program, threads where the host allows them. */
import type { Device, Executable, States } from "./device.ts";
import { weightLength } from "./memory.ts";
import { notCompiled } from "./compiled.ts";
import { turnsOf } from "./chunks.ts";
import { ownedExecutables } from "./owned.ts";
import { sizeOf, variantFor } from "./plan.ts";
import type { Plan, Program, TensorSpec, WasmModules } from "./plan.ts";
import { tableValues } from "./tables.ts";
import { checkExtent, checkTensors, elementsAt } from "./tensors.ts";
import type { Extent, HostArray, Tensors } from "./tensors.ts";
import { engine, processors, turn } from "./wasm/engine.ts";
import type { KernelFunction, WasmMemory } from "./wasm/engine.ts";
import {
  addressOf,
  fixedLayout,
  inUnits,
  MOST_BYTES,
  movingLayout,
  PAGE,
  withStates,
} from "./wasm/layout.ts";
import type { Fixed, Moving } from "./wasm/layout.ts";
import { gather, poolOf, single } from "./worker.ts";
import type { Launch, Pool, Team } from "./worker.ts";

export type WasmOptions = {
  /** Threads, this one included. Default: as many as the host has processors, at most 16. */
  readonly threads?: number;
  /** Relaxed SIMD where the host has it (default), or never: results then are the same bits on every host. */
  readonly relaxed?: boolean;
  /** For tests: outputs and values between steps begin as NaN, so that what a kernel forgets is seen. */
  readonly poison?: boolean;
};

/** Relaxed SIMD: () → v128, f32x4.relaxed_madd of three zeros. */
const RELAXED_PROBE = [
  0, 0x61, 0x73, 0x6d, 1, 0, 0, 0, 1, 5, 1, 0x60, 0, 1, 0x7b, 3, 2, 1, 0, 10, 19, 1, 17, 0,
  0x41, 0, 0xfd, 17, 0x41, 0, 0xfd, 17, 0x41, 0, 0xfd, 17, 0xfd, 0x85, 2, 0x0b,
]; // prettier-ignore

const MOST_THREADS = 16;
const say = (why: string) => new Error(`heddle: ${why}`);

/** @throws Error where the host has no WebAssembly. */
export function wasmDevice(options: WasmOptions = {}): Device {
  const { threads: asked, poison = false } = options;
  if (asked !== undefined && !(Number.isInteger(asked) && asked >= 1))
    throw say(`threads must be a positive integer, found ${asked}`);
  const relaxed = (options.relaxed ?? true) && engine().validate(new Uint8Array(RELAXED_PROBE));
  const wanted = asked ?? Math.min(processors(), MOST_THREADS);
  const alone = wanted === 1 ? undefined : whyAlone();
  const threads = alone === undefined ? wanted : 1;
  const pool = poolOf();
  const executables = ownedExecutables<Executable>();
  const variant = relaxed ? "relaxed SIMD" : "SIMD128";
  const detailOf = (count: number, why: string | undefined) =>
    `WebAssembly ${variant}, ${count} thread${count === 1 ? "" : "s"}${why === undefined ? "" : ` (${why})`}`;

  return {
    name: "wasm",
    detail: detailOf(threads, alone),
    async compile(program, { weights } = {}) {
      const executable = await load(program, { relaxed, threads, alone, poison, pool, detailOf });
      return executables.own(executable, weights);
    },
    async dispose() {
      await executables.dispose();
      pool.dispose();
    },
  };
}

/** The reason why this host cannot share memory between threads, if there is one. */
function whyAlone(): string | undefined {
  if (typeof SharedArrayBuffer === "undefined")
    return "no SharedArrayBuffer: the page is not cross-origin isolated";
  return undefined;
}

type Loading = {
  readonly relaxed: boolean;
  readonly threads: number;
  readonly alone: string | undefined;
  readonly poison: boolean;
  readonly pool: Pool;
  readonly detailOf: (threads: number, why: string | undefined) => string;
};

/** The module's bytes for shared or own memory. */
function bytesOf(modules: WasmModules, relaxed: boolean, shared: boolean): Uint8Array {
  const which = relaxed ? "relaxed" : "base";
  const bytes = modules[which].slice();
  const flag = modules.memoryFlag[which];
  if (bytes[flag] !== 0x01) throw say(`internal: byte ${flag} of the module is not its memory flag`);
  if (shared) bytes[flag] = 0x03;
  return bytes;
}

async function load(program: Program, options: Loading): Promise<Executable> {
  const { plan, wasm } = program;
  if (wasm === undefined) throw say(notCompiled(program, "wasm"));
  const { relaxed, pool } = options;
  const entries = plan.kernels.map((k) => k.entry);

  const start = async (threads: number) => {
    const shared = threads > 1;
    const fixed = fixedLayout(plan, wasm, threads);
    if (fixed.end > MOST_BYTES) throw tooLarge(plan, fixed.end, "weights");
    const memory = newMemory(plan, fixed.end, shared);
    const module = await engine().compile(bytesOf(wasm, relaxed, shared));
    const { exports } = new (engine().Instance)(module, { env: { memory } });
    const kernels = entries.map((entry): KernelFunction => {
      const kernel = exports[entry];
      if (typeof kernel !== "function") throw say(`internal: the module has no kernel '${entry}'`);
      return kernel as KernelFunction;
    });
    const { scratchStride } = fixed;
    const team = shared
      ? await gather(pool, threads - 1, { module, memory, entries, kernels, scratchStride })
      : single(kernels);
    return { memory, fixed, team };
  };

  let why = options.alone;
  let started: Awaited<ReturnType<typeof start>> | undefined;
  if (options.threads > 1)
    try {
      started = await start(options.threads);
    } catch (error) {
      const text = error instanceof Error ? error.message : String(error);
      if (text.startsWith("heddle: ")) throw error;
      why = `threads did not start: ${text}`;
    }
  started ??= await start(1);
  const { memory, fixed, team } = started;
  return executableOf(plan, memory, fixed, team, options.poison, options.detailOf(team.workers + 1, why));
}

const tooLarge = (plan: Plan, bytes: number, what: string) =>
  say(
    `'${plan.name}' needs ${inUnits(bytes)} for ${what}; a WebAssembly memory has at most ${inUnits(MOST_BYTES)}`,
  );

function newMemory(plan: Plan, bytes: number, shared: boolean): WasmMemory {
  const initial = Math.ceil(bytes / PAGE);
  try {
    return new (engine().Memory)({ initial, maximum: MOST_BYTES / PAGE, ...(shared ? { shared } : {}) });
  } catch (error) {
    if (shared) throw new Error("no shared memory of 4 GiB can be reserved", { cause: error });
    throw say(`the host refuses ${inUnits(initial * PAGE)} of memory for '${plan.name}'`);
  }
}

/** A plan at one N and B, ready to run: nothing below is allocated again while these stay the same. */
type Prepared = {
  readonly plan: Plan;
  readonly at: Extent;
  readonly moving: Moving;
  readonly launches: readonly Launch[];
  readonly inputs: readonly HostArray[];
  readonly outputs: readonly HostArray[];
  /** What `poison` overwrites. */
  readonly poisoned: Int32Array;
};

/** Chunks of a grid for each thread: enough for an even end and for early use of optimised code. */
const CHUNKS = 16;
/** Milliseconds after which a run lets other tasks of its thread have a turn: what a page may take without being felt. */
const BREATH_MS = 40;
/** The bits of a quiet NaN. */
const NAN_BITS = 0x7fc00000;
/** Four of them are a NaN. */
const NAN_BYTE = 0xff;

function executableOf(
  plan: Plan,
  memory: WasmMemory,
  fixedOnly: Fixed,
  team: Team,
  poison: boolean,
  detail: string,
): Executable {
  let fixed = fixedOnly;
  const threads = team.workers + 1;
  const missing = new Set(plan.weights.keys());
  let prepared: Prepared | undefined;
  let tableRows = 0;
  let disposed = false;
  let breath = performance.now();
  let last: Promise<unknown> = Promise.resolve();
  /** One task after another: they share one memory. */
  const inTurn = <T>(task: () => Promise<T>): Promise<T> => {
    const next = last.then(() => {
      if (disposed) throw say(`'${plan.name}' was disposed`);
      return task();
    });
    last = next.catch(() => undefined);
    return next;
  };

  const viewOf = (dtype: TensorSpec["dtype"], address: number, elements: number): HostArray =>
    dtype === "i32"
      ? new Int32Array(memory.buffer, address, elements)
      : new Float32Array(memory.buffer, address, elements);

  const reserve = (bytes: number, what: string) => {
    if (bytes > MOST_BYTES) throw tooLarge(plan, bytes, what);
    const pages = Math.ceil((bytes - memory.buffer.byteLength) / PAGE);
    if (pages <= 0) return;
    try {
      memory.grow(pages);
    } catch {
      throw say(`the host refuses ${inUnits(bytes)} of memory for '${plan.name}' at ${what}`);
    }
  };

  const prepare = (plan: Plan, at: Extent): Prepared => {
    if (prepared?.plan === plan && prepared.at.N === at.N && prepared.at.B === at.B) return prepared;
    checkExtent(at);
    // The entries of a plan take turns in the same memory.
    if (prepared?.plan !== plan) tableRows = 0;
    const variant = variantFor(plan, at.N);
    // Rows of a table are the same at every length, so a longer one serves shorter runs.
    const rows = Math.max(tableRows, at.N);
    const moving = movingLayout(plan, variant, fixed, rows, at);
    reserve(moving.end, `N=${at.N}, B=${at.B}`);
    if (rows > tableRows)
      plan.tables.forEach((table, i) => {
        const values = tableValues(table, rows);
        new Float32Array(memory.buffer, moving.tables[i], values.length).set(values);
      });
    tableRows = rows;

    const launches = turnsOf(plan, variant, at).flatMap(({ step, at, skip }): readonly Launch[] => {
      const kernel = plan.kernels[step.kernel];
      if (kernel === undefined) throw say(`internal: the plan has no kernel ${step.kernel}`);
      const grid = sizeOf(step.grid, at);
      if (grid === 0) return [];
      const args = [
        0,
        0,
        fixed.scratch,
        ...step.buffers.map((ref) => addressOf(ref, fixed, moving) + 4 * skip(ref)),
        ...step.scalars.map((size) => sizeOf(size, at)),
      ];
      const chunk = Math.ceil(grid / (CHUNKS * threads));
      return [{ kernel: step.kernel, title: step.title, grid, chunk, args }];
    });
    const views = (tensors: readonly TensorSpec[], addresses: readonly number[]) =>
      tensors.map((t, i) => viewOf(t.dtype, addresses[i] ?? 0, elementsAt(t.shape, at)));
    const from = moving.end - moving.bytes.outputs - moving.bytes.arena;
    prepared = {
      plan,
      at: { N: at.N, B: at.B },
      moving,
      launches,
      inputs: views(plan.inputs, moving.inputs),
      outputs: views(plan.outputs, moving.outputs),
      poisoned: new Int32Array(memory.buffer, from, (moving.end - from) / 4),
    };
    return prepared;
  };

  const forward = async (plan: Plan, inputs: Tensors, at: Extent): Promise<Prepared> => {
    for (const index of missing)
      throw say(`'${plan.name}' has no weights yet: '${plan.weights[index]?.name ?? index}' was not set`);
    const ready = prepare(plan, at);
    plan.inputs.forEach((t, i) => {
      const given = inputs[t.name];
      if (given !== undefined) ready.inputs[i]?.set(given);
    });
    if (poison) {
      ready.poisoned.fill(NAN_BITS);
      new Int32Array(memory.buffer, fixed.scratch, fixed.bytes.scratch / 4).fill(NAN_BITS);
    }
    for (const launch of ready.launches) {
      const rest = team.run(launch);
      if (rest !== undefined) await rest;
      if (performance.now() - breath > BREATH_MS) {
        await turn();
        breath = performance.now();
      }
    }
    return ready;
  };
  const fresh = (t: TensorSpec, view: HostArray | undefined): HostArray => {
    const made = t.dtype === "i32" ? new Int32Array(view?.length ?? 0) : new Float32Array(view?.length ?? 0);
    if (view !== undefined) made.set(view);
    return made;
  };
  const checked = (plan: Plan, inputs: Tensors, at: Extent) => {
    checkExtent(at);
    checkTensors("input", plan.inputs, inputs, at);
  };
  const run = async (plan: Plan, inputs: Tensors, at: Extent) => {
    checked(plan, inputs, at);
    const { outputs } = await forward(plan, inputs, at);
    return Object.fromEntries(plan.outputs.map((t, i) => [t.name, fresh(t, outputs[i])]));
  };
  /** A state's bytes. Made anew for each use: memory that grows takes its views away. */
  const stateAt = (index: number): Uint8Array => {
    const [address, size] = [fixed.states[index], fixed.sizes[index]];
    if (address === undefined) throw say(`'${plan.name}' has no state ${index}`);
    return new Uint8Array(memory.buffer, address, size);
  };
  const states: States = {
    run: (entry, inputs, at) => inTurn(() => run(entry(plan, fixed.states.length), inputs, at)),
    held: () => inTurn(async () => fixed.states.length),
    allocate: (wanted) =>
      inTurn(async () => {
        const made = withStates(
          fixedOnly,
          wanted.map((w) => w.bytes),
        );
        prepared = undefined;
        reserve(made.end, "its cache");
        fixed = made;
        if (poison) fixed.sizes.forEach((_, i) => stateAt(i).fill(NAN_BYTE));
      }),
    read: (index, into) => inTurn(async () => into.set(stateAt(index))),
    write: (index, from) => inTurn(async () => stateAt(index).set(from)),
  };

  return {
    plan,
    detail,
    setWeight: (index, data) =>
      inTurn(async () => {
        const weight = plan.weights[index];
        const address = fixed.weights[index];
        if (weight === undefined || address === undefined) throw say(`'${plan.name}' has no weight ${index}`);
        const elements = weightLength(weight);
        if (data.length !== elements)
          throw say(
            `weight '${weight.name}' takes ${elements} numbers (${weight.layout}), found ${data.length}`,
          );
        new Float32Array(memory.buffer, address, elements).set(data);
        missing.delete(index);
      }),
    run: (inputs, at) => inTurn(() => run(plan, inputs, at)),
    runInto: (inputs, at, into) =>
      inTurn(async () => {
        checked(plan, inputs, at);
        checkTensors("output", plan.outputs, into, at);
        const { outputs } = await forward(plan, inputs, at);
        plan.outputs.forEach((t, i) => {
          const view = outputs[i];
          if (view !== undefined) into[t.name]?.set(view);
        });
      }),
    memory: () => ({
      ...fixed.bytes,
      ...(prepared?.moving.bytes ?? { tables: 0, inputs: 0, outputs: 0, arena: 0 }),
      states: fixed.end - fixedOnly.end,
      total: memory.buffer.byteLength,
    }),
    states,
    dispose: async () => {
      await last;
      if (disposed) return;
      disposed = true;
      prepared = undefined;
      await team.dispose();
    },
  };
}
