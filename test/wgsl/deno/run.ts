/** Run by Deno: heddle's own runtime on lavapipe, tasks one after another on one device. */
import { readFileSync, writeFileSync } from "node:fs";
import { memorySource, writeSafetensors } from "../../../runtime/safetensors.ts";
import { webgpuDevice, type WebgpuDevice, type WebgpuOptions } from "../../../runtime/webgpu.ts";
import { loadWeights } from "../../../runtime/weights.ts";
import { decode, decodeAll, encodeAll, type Task, type TaskResult } from "../tasks.ts";

export type RunJob = {
  readonly options: Pick<WebgpuOptions, "features" | "limits" | "budgetMs" | "poison">;
  readonly tasks: readonly Task[];
};
export type RunResult = {
  readonly device: string;
  readonly results: readonly TaskResult[];
  /** Bytes of buffers that are left when all programs are disposed of. */
  readonly bytesLeft: number;
};

async function run(device: WebgpuDevice, task: Task): Promise<TaskResult> {
  const { name, program, weights, inputs, at } = task;
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

const [given = "", made = ""] = process.argv.slice(2);
const { options, tasks } = JSON.parse(readFileSync(given, "utf8")) as RunJob;
const device = await webgpuDevice(options);
const results: TaskResult[] = [];
for (const task of tasks) results.push(await run(device, task));
const result: RunResult = { device: device.detail, results, bytesLeft: device.bytes() };
await device.dispose();
writeFileSync(made, JSON.stringify(result));
