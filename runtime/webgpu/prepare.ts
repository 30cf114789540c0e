/** The tensors and the bound steps of a program at one length: made once, used by every run until the length changes. */
import { turnsOf } from "../chunks.ts";
import { sizeOf, variantFor } from "../plan.ts";
import type { BufferRef, Plan, WgslProgram } from "../plan.ts";
import { roomOf } from "../room.ts";
import type { Room, RoomFor } from "../room.ts";
import { tableValues } from "../tables.ts";
import type { Extent } from "../tensors.ts";
import { deviceError } from "./errors.ts";
import type { Pipelines } from "./pipelines.ts";
import type { ReadyStep, Runner } from "./run.ts";
import type { Session } from "./session.ts";
import type { BoundTables } from "./shader-tables.ts";
import { allocate, release, upload } from "./tensor.ts";
import type { DeviceTensor } from "./tensor.ts";

/** What lives as long as a device: pipelines and weights. */
export type Built = {
  readonly session: Session;
  readonly chosen: WgslProgram;
  readonly pipelines: Pipelines;
  readonly weights: readonly DeviceTensor[];
  /** Of a program that generates, once they were reserved. */
  readonly states: DeviceTensor[];
  readonly missing: Set<number>;
  readonly runner: Runner;
  readonly tables: BoundTables;
};
/** What lives as long as N and B stay the same. */
export type Prepared = {
  /** The program's own, or one of its entries. */
  readonly plan: Plan;
  readonly at: Extent;
  readonly steps: readonly ReadyStep[];
  readonly room: Room<DeviceTensor>;
};

/** Kernels count elements in an i32. */
const MOST_ELEMENTS = 2 ** 31 - 1;

/**
 * Makes and binds everything that a run at N and B needs; on a failure nothing stays behind.
 * @throws DeviceError LIMITS, OUT_OF_MEMORY
 */
export async function prepare(b: Built, plan: Plan, at: Extent): Promise<Prepared> {
  const { session } = b;
  const wanted = roomOf(plan, at);
  for (const { label, elements, formula } of Object.values(wanted).flat())
    if (elements > MOST_ELEMENTS)
      throw deviceError(
        "LIMITS",
        `'${plan.name}' would hold ${elements} elements in ${label} (${formula}); its kernels count to 2^31 - 1. ` +
          "Use shorter sequences or smaller batches",
      );
  const made: DeviceTensor[] = [];
  const roomFor = async (list: readonly RoomFor[]): Promise<readonly DeviceTensor[]> => {
    const tensors: DeviceTensor[] = [];
    for (const wish of list) {
      const tensor = await allocate(session, wish);
      tensors.push(tensor);
      made.push(tensor);
    }
    return tensors;
  };
  try {
    const room = {
      input: await roomFor(wanted.input),
      output: await roomFor(wanted.output),
      table: await roomFor(wanted.table),
      slot: await roomFor(wanted.slot),
    };
    plan.tables.forEach((table, i) => {
      const to = room.table[i];
      if (to !== undefined) upload(session, to, "f32", tableValues(table, at.N));
    });
    const steps = await stepsOf(b, plan, room, at);
    return { plan, at: { N: at.N, B: at.B }, steps, room };
  } catch (error) {
    release(session, made);
    throw error;
  }
}

/** Steps with pipelines that fit how their tensors are split, and everything bound. */
async function stepsOf(
  b: Built,
  plan: Plan,
  room: Prepared["room"],
  extent: Extent,
): Promise<readonly ReadyStep[]> {
  const tensorOf = (ref: BufferRef): DeviceTensor => {
    const found =
      ref.in === "weight"
        ? b.weights[ref.index]
        : ref.in === "state"
          ? b.states[ref.index]
          : room[ref.in][ref.index];
    if (found === undefined)
      throw deviceError("FAILED", `internal: '${plan.name}' has no ${ref.in} ${ref.index}`);
    return found;
  };
  const steps: ReadyStep[] = [];
  for (const { step, at, row, skip } of turnsOf(plan, variantFor(plan, extent.N), extent)) {
    const grid = sizeOf(step.grid, at);
    const kernel = plan.kernels[step.kernel];
    if (grid === 0) continue;
    if (kernel === undefined)
      throw deviceError("FAILED", `internal: '${plan.name}' has no kernel ${step.kernel}`);
    const tensors = step.buffers.map(tensorOf);
    const { pipeline, layout, tables } = await b.pipelines(
      step.kernel,
      tensors.map((t) => t.buffers.length),
      step.buffers.map((ref, i) => {
        if (tensors[i]?.buffers.length === 1) return 0;
        const dtype = kernel.buffers[i]?.dtype;
        return skip(ref, 2) / (dtype === "f32" || dtype === "i32" ? 2 : 1);
      }),
    );
    const values = step.scalars.map((size) => sizeOf(size, at));
    const scalars = new Uint32Array(values.length);
    kernel.scalars.forEach(({ type }, i) => {
      const value = values[i] ?? 0;
      if (type === "i32") scalars[i] = value;
      else new Float32Array(scalars.buffer)[i] = value;
    });
    const buffers = [
      { buffer: b.runner.params, size: 16 + 4 * values.length },
      ...tensors.flatMap(({ buffers }, i) => {
        const ref = step.buffers[i];
        const offset = ref === undefined || buffers.length > 1 ? 0 : 4 * skip(ref);
        return buffers.map((buffer) => ({ buffer, offset }));
      }),
    ];
    const group = b.session.device.createBindGroup({
      label: step.title,
      layout,
      entries: buffers.map((resource, binding) => ({ binding, resource })),
    });
    const resource = b.tables.of(step.kernel);
    const looked =
      tables === undefined || resource === undefined
        ? undefined
        : b.session.device.createBindGroup({ layout: tables, entries: [{ binding: 0, resource }] });
    const key = `${step.kernel} ${values.join()}`;
    const { title } = step;
    const { entry } = kernel;
    steps.push({ title, entry, key, pipeline, layout, tables, group, looked, grid, row, scalars });
  }
  return steps;
}
