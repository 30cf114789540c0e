/** Run by a web page: heddle's own runtime, as `npm run build` made it, on tasks one after another on one device. */
import { wasmDevice, type WasmOptions } from "../../../runtime/wasm.ts";
import { webgpuDevice, type WebgpuDevice, type WebgpuOptions } from "../../../runtime/webgpu.ts";
import { runTasks } from "../../wgsl/run-task.ts";
import type { Task, TaskResult } from "../../wgsl/tasks.ts";

export type PageDevice =
  | { readonly name: "webgpu"; readonly options: Pick<WebgpuOptions, "features" | "limits" | "poison"> }
  | { readonly name: "wasm"; readonly options: WasmOptions };
export type PageJob = {
  readonly device: PageDevice;
  readonly tasks: readonly Task[];
  /** Hands inputs and checkpoints over in shared memory. */
  readonly shared?: boolean;
  /** In a worker of the page instead of the page itself. */
  readonly worker?: boolean;
};
export type PageResult = {
  readonly device: string;
  readonly isolated: boolean;
  readonly results: readonly TaskResult[];
  /** Bytes of GPU buffers that are left when all programs are disposed of. */
  readonly bytesLeft: number;
};

const gpus = new Map<string, Promise<WebgpuDevice>>();
/** One GPU device for all jobs with the same options: its programs share their compiled pipelines. */
function gpuWith(options: WebgpuOptions): Promise<WebgpuDevice> {
  const key = JSON.stringify(options);
  const made = gpus.get(key) ?? webgpuDevice(options);
  gpus.set(key, made);
  return made;
}

async function run({ device, tasks, shared = false }: PageJob): Promise<PageResult> {
  const { crossOriginIsolated: isolated = false } = globalThis as { readonly crossOriginIsolated?: boolean };
  if (device.name === "webgpu") {
    const gpu = await gpuWith(device.options);
    // SwiftShader compiles a kernel on one core.
    const results = await runTasks(gpu, tasks, { atOnce: 2, shared });
    return { device: gpu.detail, isolated, results, bytesLeft: gpu.bytes() };
  }
  const wasm = wasmDevice(device.options);
  const results = await runTasks(wasm, tasks, { shared });
  await wasm.dispose();
  return { device: wasm.detail, isolated, results, bytesLeft: 0 };
}

/** The parts of a page and of a worker that are used here; the sources are checked without the DOM library. */
type Scope = {
  readonly document?: object;
  onmessage: ((event: { readonly data: PageJob }) => void) | null;
  readonly postMessage: (result: PageResult) => void;
  readonly Worker: new (
    url: string,
    options: { type: "module" },
  ) => {
    onmessage: ((event: { readonly data: PageResult }) => void) | null;
    onerror: ((event: { readonly message: string }) => void) | null;
    postMessage(job: PageJob): void;
  };
};
const scope = globalThis as unknown as Scope;

/** Runs a job in a worker of the page, which loads this same file. */
const runInWorker = (job: PageJob): Promise<PageResult> =>
  new Promise((resolve, reject) => {
    const worker = new scope.Worker("tasks.js", { type: "module" });
    worker.onmessage = ({ data }) => resolve(data);
    worker.onerror = ({ message }) => reject(new Error(message));
    worker.postMessage(job);
  });

export type Runner = { heddleRun: (job: PageJob) => Promise<PageResult> };
if (scope.document === undefined)
  scope.onmessage = ({ data }) => void run({ ...data, worker: false }).then(scope.postMessage);
else
  (globalThis as unknown as Runner).heddleRun = (job) => (job.worker === true ? runInWorker(job) : run(job));
