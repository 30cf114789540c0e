/** Run by Deno: heddle's own runtime on lavapipe, tasks one after another on one device. */
import { readFileSync, writeFileSync } from "node:fs";
import { webgpuDevice, type WebgpuOptions } from "../../../runtime/webgpu.ts";
import { runTasks } from "../run-task.ts";
import type { Task, TaskResult } from "../tasks.ts";

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

const [given = "", made = ""] = process.argv.slice(2);
const { options, tasks } = JSON.parse(readFileSync(given, "utf8")) as RunJob;
const device = await webgpuDevice(options);
const results = await runTasks(device, tasks);
const result: RunResult = { device: device.detail, results, bytesLeft: device.bytes() };
await device.dispose();
writeFileSync(made, JSON.stringify(result));
