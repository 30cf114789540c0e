/** Tasks on a device, by heddle's own runtime. Deno and a web page run this file; it imports nothing of theirs. */
import type { Device } from "../../runtime/device.ts";
import type { HostArray } from "../../runtime/tensors.ts";
import { memorySource, writeSafetensors } from "../../runtime/safetensors.ts";
import { loadWeights } from "../../runtime/weights.ts";
import { decode, decodeAll, encodeAll, programOf, type Task, type TaskResult } from "./tasks.ts";

export type RunOptions = {
  /** How many tasks are under way at a time (1): each compiles while another runs. */
  readonly atOnce?: number;
  /** Hands inputs and checkpoints over in shared memory. */
  readonly shared?: boolean;
};

const inShared = <T extends Uint8Array | HostArray>(array: T, make: new (b: SharedArrayBuffer) => T): T => {
  const copy = new make(new SharedArrayBuffer(array.byteLength));
  copy.set(array);
  return copy;
};

async function runTask(
  device: Pick<Device, "compile">,
  task: Task,
  { shared = false }: RunOptions,
): Promise<TaskResult> {
  const { name, weights, inputs, at } = task;
  const start = performance.now();
  const took = () => Math.round(performance.now() - start);
  const file = writeSafetensors(
    weights.map(({ name, shape, data }) => {
      const values = decode(data);
      if (!(values instanceof Float32Array)) throw new Error(`weight '${name}' is not f32`);
      return { name, shape, dtype: "F32", data: values };
    }),
  );
  const checkpoint = shared ? inShared(file, Uint8Array) : file;
  const given = Object.entries(decodeAll(inputs)).map(([name, array]) => {
    if (!shared) return [name, array] as const;
    return [
      name,
      array instanceof Int32Array ? inShared(array, Int32Array) : inShared(array, Float32Array),
    ] as const;
  });
  try {
    const program = programOf(task.program);
    const executable = await device.compile(program, {
      weights: (set) =>
        loadWeights(program.plan, memorySource(checkpoint), (index, data) => set(index, data)),
    });
    const outputs = encodeAll(await executable.run(Object.fromEntries(given), at));
    await executable.dispose();
    return { name, ms: took(), detail: executable.detail, outputs };
  } catch (error) {
    const why = error instanceof Error ? (error.stack ?? error.message) : String(error);
    return { name, ms: took(), error: why };
  }
}

/** Results in the order of the tasks. */
export async function runTasks(
  device: Pick<Device, "compile">,
  tasks: readonly Task[],
  options: RunOptions = {},
): Promise<readonly TaskResult[]> {
  const results: TaskResult[] = [];
  const left = tasks.entries();
  const work = async () => {
    for (const [i, task] of left) results[i] = await runTask(device, task, options);
  };
  await Promise.all(Array.from({ length: options.atOnce ?? 1 }, work));
  return results;
}
