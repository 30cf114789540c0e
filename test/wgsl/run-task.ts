/** Tasks on a device, by heddle's own runtime. Deno and a web page run this file; it imports nothing of theirs. */
import type { Device } from "../../runtime/device.ts";
import { memorySource, writeSafetensors } from "../../runtime/safetensors.ts";
import { loadWeights } from "../../runtime/weights.ts";
import { decode, decodeAll, encodeAll, programOf, type Task, type TaskResult } from "./tasks.ts";

async function runTask(device: Pick<Device, "compile">, task: Task): Promise<TaskResult> {
  const { name, weights, inputs, at } = task;
  const start = performance.now();
  const took = () => Math.round(performance.now() - start);
  const checkpoint = writeSafetensors(
    weights.map(({ name, shape, data }) => {
      const values = decode(data);
      if (!(values instanceof Float32Array)) throw new Error(`weight '${name}' is not f32`);
      return { name, shape, dtype: "F32", data: values };
    }),
  );
  try {
    const program = programOf(task.program);
    const executable = await device.compile(program, {
      weights: (set) =>
        loadWeights(program.plan, memorySource(checkpoint), (index, data) => set(index, data)),
    });
    const outputs = encodeAll(await executable.run(decodeAll(inputs), at));
    await executable.dispose();
    return { name, ms: took(), detail: executable.detail, outputs };
  } catch (error) {
    const why = error instanceof Error ? (error.stack ?? error.message) : String(error);
    return { name, ms: took(), error: why };
  }
}

/** One task after another. */
export async function runTasks(
  device: Pick<Device, "compile">,
  tasks: readonly Task[],
): Promise<readonly TaskResult[]> {
  const results: TaskResult[] = [];
  for (const task of tasks) results.push(await runTask(device, task));
  return results;
}
