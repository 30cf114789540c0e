/** One program on the processor: its memory, and its launches at the length of now. */
import { turnsOf } from "../chunks.ts";
import { deviceError } from "../device-error.ts";
import type { Executable, MemoryUse, States } from "../device.ts";
import { weightLength } from "../memory.ts";
import { sizeOf, variantFor } from "../plan.ts";
import type { BufferRef, NativeProgram, Plan, PlanVariant, TensorSpec } from "../plan.ts";
import { tableValues } from "../tables.ts";
import { checkExtent, checkTensors, elementsAt } from "../tensors.ts";
import type { Extent, HostArray, Tensors } from "../tensors.ts";
import { inUnits, movingLayout } from "../wasm/layout.ts";
import type { Fixed, Moving } from "../wasm/layout.ts";
import { widePanels, widePanelsLength } from "./panels.ts";
import type { Job, Library, Memory, Shim, ShimError, Team } from "./shim.ts";

export type Loading = {
  readonly shim: Shim;
  readonly team: Team;
  readonly library: Library;
  /** Outputs, scratch and values between steps begin as NaN. */
  readonly poison: boolean;
  readonly detail: string;
};

/** A cache line; also the widest vector. */
const ALIGN = 64;
const align = (bytes: number) => Math.ceil(bytes / ALIGN) * ALIGN;
/** Chunks of a grid for each thread: enough for an even end. */
const CHUNKS = 32;
/** Four of them are a NaN. */
const NAN_BYTE = 0xff;
/** Kernels count elements in 32 bits. */
const MOST_ELEMENTS = 2 ** 31 - 1;

const say = (why: string) => new Error(`heddle: ${why}`);

/** A plan at one N and B, ready to run: nothing below is allocated again while these stay the same. */
type Prepared = {
  readonly plan: Plan;
  readonly at: Extent;
  readonly moving: Moving;
  readonly job: Job;
};

const NOTHING: Fixed = {
  weights: [],
  states: [],
  sizes: [],
  scratch: 0,
  scratchStride: 0,
  end: 0,
  bytes: { weights: 0, scratch: 0 },
};

/** @throws DeviceError OUT_OF_MEMORY */
export function executableOf(program: NativeProgram, loading: Loading): Executable {
  const { plan, panel, scratchBytes } = program;
  const { shim, team, library, poison, detail } = loading;
  const threads = shim.threads(team);

  const allocate = (bytes: number, what: string): Memory => {
    try {
      // A read of a whole vector may begin at the last element.
      return shim.allocate(bytes + ALIGN);
    } catch (error) {
      if ((error as ShimError).code !== "OUT_OF_MEMORY") throw error;
      throw deviceError(
        "OUT_OF_MEMORY",
        `the system refuses ${inUnits(bytes)} of memory for '${plan.name}' at ${what}`,
        error,
      );
    }
  };

  // Weights, then each thread's scratch, apart by a line more than needed: tiles of neighbours do not fall on the same cache sets.
  const stride = align(scratchBytes) + ALIGN;
  let end = 0;
  const weights = plan.weights.map(({ shape, layout }) => {
    const at = end;
    end += align(
      4 * (layout === "panels" ? widePanelsLength(shape, panel) : weightLength({ shape, layout })),
    );
    return at;
  });
  const scratch = end;
  const fixed = allocate(scratch + stride * threads, "its weights");
  const fixedBytes = { weights: scratch, scratch: stride * threads };

  let states: {
    readonly memory: Memory;
    readonly at: readonly number[];
    readonly sizes: readonly number[];
  } | null = null;
  let statesBytes = 0;
  let room: { readonly memory: Memory; readonly bytes: number } | null = null;
  const missing = new Set(plan.weights.keys());
  let prepared: Prepared | undefined;
  let tables: { readonly plan: Plan; readonly rows: number } | null = null;
  let disposed = false;
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
  const forget = () => {
    if (prepared !== undefined) shim.dispose(prepared.job);
    prepared = undefined;
  };

  /** Memory for what depends on N and B, kept while it is large enough. */
  const reserve = (bytes: number, what: string): Memory => {
    if (room !== null && room.bytes >= bytes) return room.memory;
    forget();
    if (room !== null) shim.dispose(room.memory);
    room = null;
    tables = null;
    room = { memory: allocate(bytes, what), bytes };
    return room.memory;
  };

  const prepare = (plan: Plan, at: Extent): Prepared => {
    if (prepared?.plan === plan && prepared.at.N === at.N && prepared.at.B === at.B) return prepared;
    checkExtent(at);
    const variant = variantFor(plan, at.N);
    countable(plan, variant, at);
    // The entries of a plan take turns in the same memory. Rows of a table are the same at every length, so a longer one serves.
    const known = tables?.plan === plan ? tables.rows : 0;
    const rows = Math.max(known, at.N);
    const moving = movingLayout(plan, variant, NOTHING, rows, at);
    const memory = reserve(moving.end, `N=${at.N}, B=${at.B}`);
    forget();
    // `reserve` may have taken other memory, where no table is.
    if (tables === null || tables.plan !== plan || rows > tables.rows)
      plan.tables.forEach((table, i) => shim.write(memory, moving.tables[i] ?? 0, tableValues(table, rows)));
    tables = { plan, rows };

    const memories = [fixed, memory, ...(states === null ? [] : [states.memory])];
    const placeOf = (ref: BufferRef): readonly [memory: number, offset: number] => {
      const list = {
        input: moving.inputs,
        output: moving.outputs,
        weight: weights,
        table: moving.tables,
        slot: moving.slots,
        state: states?.at ?? [],
      }[ref.in];
      const offset = list[ref.index];
      if (offset === undefined) throw say(`internal: the plan has no ${ref.in} ${ref.index}`);
      return [ref.in === "weight" ? 0 : ref.in === "state" ? 2 : 1, offset];
    };
    const numbers = [threads, 0, scratch, stride];
    for (const { step, at: extent, skip } of turnsOf(plan, variant, at)) {
      const grid = sizeOf(step.grid, extent);
      const kernel = plan.kernels[step.kernel];
      if (kernel === undefined) throw say(`internal: the plan has no kernel ${step.kernel}`);
      if (grid === 0) continue;
      numbers.push(step.kernel, grid, Math.ceil(grid / (CHUNKS * threads)), step.buffers.length);
      for (const ref of step.buffers) {
        const [memory, offset] = placeOf(ref);
        numbers.push(memory, offset + 4 * skip(ref), 4);
      }
      numbers.push(step.scalars.length);
      step.scalars.forEach((size, i) =>
        numbers.push(kernel.scalars[i]?.type === "f32" ? 1 : 0, sizeOf(size, extent)),
      );
    }
    const entries = plan.kernels.map((k) => k.entry);
    const job = shim.job(library, entries, memories, Float64Array.from(numbers));
    prepared = { plan, at: { N: at.N, B: at.B }, moving, job };
    return prepared;
  };

  const forward = async (plan: Plan, inputs: Tensors, at: Extent, into: Tensors): Promise<void> => {
    for (const index of missing)
      throw say(`'${plan.name}' has no weights yet: '${plan.weights[index]?.name ?? index}' was not set`);
    const { moving, job } = prepare(plan, at);
    const memory = room?.memory;
    if (memory === undefined) throw say("internal: nothing was reserved");
    plan.inputs.forEach((t, i) => {
      const given = inputs[t.name];
      if (given !== undefined) shim.write(memory, moving.inputs[i] ?? 0, given, team);
    });
    if (poison) {
      const { outputs, arena } = moving.bytes;
      shim.fill(memory, moving.end - outputs - arena, outputs + arena, NAN_BYTE);
      shim.fill(fixed, scratch, stride * threads, NAN_BYTE);
    }
    await shim.run(team, job);
    plan.outputs.forEach((t, i) => {
      const given = into[t.name];
      if (given !== undefined) shim.read(memory, moving.outputs[i] ?? 0, given, team);
    });
  };
  const fresh = (t: TensorSpec, at: Extent): HostArray => {
    const count = elementsAt(t.shape, at);
    return t.dtype === "i32" ? new Int32Array(count) : new Float32Array(count);
  };
  const run = async (plan: Plan, inputs: Tensors, at: Extent) => {
    checkExtent(at);
    checkTensors("input", plan.inputs, inputs, at);
    countable(plan, variantFor(plan, at.N), at);
    const outputs = Object.fromEntries(plan.outputs.map((t) => [t.name, fresh(t, at)]));
    await forward(plan, inputs, at, outputs);
    return outputs;
  };
  const stateAt = (index: number) => {
    const [offset, bytes] = [states?.at[index], states?.sizes[index]];
    if (states === null || offset === undefined || bytes === undefined)
      throw say(`'${plan.name}' has no state ${index}`);
    return { memory: states.memory, offset, bytes };
  };
  const sized = (array: Uint8Array, index: number, bytes: number): void => {
    if (array.length !== bytes) throw say(`state ${index} has ${bytes} bytes, found ${array.length}`);
  };
  const kept: States = {
    run: (entry, inputs, at) => inTurn(() => run(entry(plan, states?.at.length ?? 0), inputs, at)),
    held: () => inTurn(async () => states?.at.length ?? 0),
    allocate: (wanted) =>
      inTurn(async () => {
        forget();
        if (states !== null) shim.dispose(states.memory);
        states = null;
        statesBytes = 0;
        let bytes = 0;
        const sizes = wanted.map((w) => w.bytes);
        const at = sizes.map((size) => {
          const here = bytes;
          bytes += align(size);
          return here;
        });
        states = { memory: allocate(bytes, "its cache"), at, sizes };
        statesBytes = bytes;
        if (poison) shim.fill(states.memory, 0, bytes, NAN_BYTE);
      }),
    read: (index, into) =>
      inTurn(async () => {
        const { memory, offset, bytes } = stateAt(index);
        sized(into, index, bytes);
        shim.read(memory, offset, into);
      }),
    write: (index, from) =>
      inTurn(async () => {
        const { memory, offset, bytes } = stateAt(index);
        sized(from, index, bytes);
        shim.write(memory, offset, from);
      }),
  };

  return {
    plan,
    detail,
    setWeight: (index, data) =>
      inTurn(async () => {
        const weight = plan.weights[index];
        const offset = weights[index];
        if (weight === undefined || offset === undefined) throw say(`'${plan.name}' has no weight ${index}`);
        const elements = weightLength(weight);
        if (data.length !== elements)
          throw say(
            `weight '${weight.name}' takes ${elements} numbers (${weight.layout}), found ${data.length}`,
          );
        const [out = 1, ...rest] = weight.shape;
        const inputs = rest.reduce((product, d) => product * d, 1);
        const wide = weight.layout === "panels" && panel !== 8;
        shim.write(fixed, offset, wide ? widePanels(data, out, inputs, panel) : data);
        missing.delete(index);
      }),
    run: (inputs, at) => inTurn(() => run(plan, inputs, at)),
    runInto: (inputs, at, into) =>
      inTurn(async () => {
        checkExtent(at);
        checkTensors("input", plan.inputs, inputs, at);
        checkTensors("output", plan.outputs, into, at);
        await forward(plan, inputs, at, into);
      }),
    memory: (): MemoryUse => ({
      ...fixedBytes,
      ...(prepared?.moving.bytes ?? { tables: 0, inputs: 0, outputs: 0, arena: 0 }),
      states: statesBytes,
      total: fixedBytes.weights + fixedBytes.scratch + statesBytes + (room?.bytes ?? 0),
    }),
    states: kept,
    dispose: async () => {
      await last;
      if (disposed) return;
      disposed = true;
      forget();
      for (const object of [fixed, room?.memory, states?.memory, library])
        if (object !== undefined) shim.dispose(object);
    },
  };
}

/** @throws DeviceError LIMITS where a tensor has more elements than kernels can count. */
function countable(plan: Plan, variant: PlanVariant, at: Extent): void {
  const sizes = [
    ...[...plan.inputs, ...plan.outputs].map((t) => [t.name, elementsAt(t.shape, at)] as const),
    ...variant.slots.map((size) => ["a value between steps", sizeOf(size, at)] as const),
  ];
  for (const [name, elements] of sizes)
    if (elements > MOST_ELEMENTS)
      throw deviceError(
        "LIMITS",
        `'${plan.name}' at N=${at.N}, B=${at.B}: ${name} has ${elements} elements, native kernels count up to ${MOST_ELEMENTS}: run shorter or fewer sequences at once`,
      );
}
