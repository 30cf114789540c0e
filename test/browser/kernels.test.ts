/** heddle's built runtime in Chromium: golden files and random specs on WebGPU (Tint, SwiftShader) and on WebAssembly. */
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { wasmDevice } from "../../runtime/wasm.ts";
import { seal } from "../../src/spec.ts";
import type { FloatDtype } from "../../src/storage.ts";
import { randomSpec } from "../schedule/specs.ts";
import { missing } from "../webgpu/require.ts";
import { goldenAttention, goldenModels, here, randomAttention, verdictOf } from "../wgsl/cases.ts";
import type { Case, TargetName } from "../wgsl/cases.ts";
import { runTasks } from "../wgsl/run-task.ts";
import type { TaskResult } from "../wgsl/tasks.ts";
import { chromiumMissing, openChromium, taskPage, type Chromium } from "./chromium.ts";
import type { PageDevice, PageJob, PageResult } from "./page/run.ts";

/** Random cases are other ones in every run; this number, printed with a failure, brings them back. */
const seed = Number(process.env["HEDDLE_SEED"] ?? Date.now() % 1e9);
const absent = chromiumMissing();
if (absent !== null) missing("chromium", absent);

/** Tasks that go to the page at once. */
const BATCH = 25;
type Run = (job: PageJob) => Promise<PageResult>;

/** Runs cases in a page and holds each to its verdicts. */
async function judge(
  run: Run,
  device: PageDevice,
  cases: readonly Case[],
  options: Pick<PageJob, "shared" | "worker"> = {},
): Promise<{ readonly results: readonly TaskResult[]; readonly isolated: boolean }> {
  const start = performance.now();
  const results: TaskResult[] = [];
  let about: PageResult | undefined;
  for (let i = 0; i < cases.length; i += BATCH) {
    about = await run({ device, ...options, tasks: cases.slice(i, i + BATCH).map((c) => c.task) });
    results.push(...about.results);
    expect(about.bytesLeft).toBe(0);
  }
  const verdicts = cases.map((c, i) => verdictOf(c, results[i]));
  const worst = Math.max(...verdicts.map((v) => v.worst));
  const seconds = (performance.now() - start) / 1000;
  console.log(
    `${about?.device}: ${results.length} runs in ${seconds.toFixed(1)} s, worst ${worst.toExponential(1)} of scale`,
  );
  expect(verdicts.flatMap((v) => v.failures), `HEDDLE_SEED=${seed}`).toEqual([]); // prettier-ignore
  return { results, isolated: about?.isolated ?? false };
}

const outputsOf = (results: readonly TaskResult[]) =>
  results.map((r) => ("outputs" in r ? r.outputs : r.error));
const detailsOf = (results: readonly TaskResult[]) => [
  ...new Set(results.map((r) => ("detail" in r ? r.detail : r.error))),
];

const extents = fc.record({ N: fc.integer({ min: 1, max: 150 }), B: fc.integer({ min: 1, max: 2 }) });
const draw = (dtype: FloatDtype, count: number, skip: number, target: TargetName) =>
  here(
    fc
      .sample(fc.tuple(randomSpec({ headDims: dtype === "f32" ? [4, 6, 8, 16] : [4, 8, 12, 16] }), extents), {
        numRuns: count,
        seed: seed + skip,
      })
      .map(([spec, at], i) => randomAttention(seal({ ...spec, dtype }), at, i, target)),
  );

describe.skipIf(absent !== null)("in Chromium", { timeout: 300_000 }, () => {
  let browser: Chromium;
  beforeAll(async () => {
    console.log(`HEDDLE_SEED=${seed}`);
    browser = await openChromium();
  });
  afterAll(() => browser?.close());

  describe("on WebGPU", () => {
    const gpu: PageDevice = { name: "webgpu", options: { poison: true } };
    let run: Run;
    beforeAll(async () => {
      run = await taskPage(browser);
    });

    it("golden attention, every legal schedule", async () => {
      const cases = await goldenAttention();
      expect(cases.length).toBeGreaterThan(45);
      const { results } = await judge(run, gpu, cases);
      expect(detailsOf(results).join()).toMatch(/^WebGPU .*swiftshader/i);
    });
    it("golden models", async () => {
      const cases = await goldenModels();
      expect(cases).toHaveLength(5);
      await judge(run, gpu, cases);
    });
    it("random attention in f32, f16 and bf16, inputs in shared memory", async () => {
      const cases = [
        ...draw("f32", 6, 1, "wgsl"),
        ...draw("f16", 3, 2, "wgsl"),
        ...draw("bf16", 2, 3, "wgsl"),
      ];
      await judge(run, gpu, cases, { shared: true });
    });
  });

  describe("on WebAssembly", () => {
    let cases: readonly Case[];
    let threaded: readonly TaskResult[];
    beforeAll(async () => {
      cases = [
        ...(await goldenAttention("wasm")),
        ...(await goldenModels("wasm")),
        ...draw("f32", 15, 4, "wasm"),
      ];
    });

    it("with threads, in a page that is cross-origin isolated", async () => {
      const run = await taskPage(browser);
      const done = await judge(run, { name: "wasm", options: { threads: 3, poison: true } }, cases);
      expect(done.isolated).toBe(true);
      expect(detailsOf(done.results)).toEqual(["WebAssembly relaxed SIMD, 3 threads"]);
      threaded = done.results;
    });

    it("with one thread in a page that is not: the same bits", async () => {
      const run = await taskPage(browser, { isolated: false });
      const done = await judge(run, { name: "wasm", options: { threads: 3, poison: true } }, cases);
      expect(done.isolated).toBe(false);
      expect(detailsOf(done.results)).toEqual([
        "WebAssembly relaxed SIMD, 1 thread (no SharedArrayBuffer: the page is not cross-origin isolated)",
      ]);
      expect(outputsOf(done.results)).toEqual(outputsOf(threaded));
    });

    it("with threads, in a worker of the page", async () => {
      const device: PageDevice = { name: "wasm", options: { threads: 3, poison: true } };
      const some = cases.slice(-30);
      const { results } = await judge(await taskPage(browser), device, some, { worker: true });
      expect(detailsOf(results)).toEqual(["WebAssembly relaxed SIMD, 3 threads"]);
      expect(outputsOf(results)).toEqual(outputsOf(threaded.slice(-30)));
    });

    it("with a checkpoint and inputs in shared memory", async () => {
      const shared = cases.filter(({ task }) => task.weights.length > 0);
      expect(shared).toHaveLength(5);
      const device: PageDevice = { name: "wasm", options: { threads: 2, poison: true } };
      await judge(await taskPage(browser), device, shared, { shared: true });
    });

    it("with one thread in a page whose policy forbids workers", async () => {
      // Of a blob's address, which is the only one that heddle has.
      const run = await taskPage(browser, { policy: "worker-src 'self'" });
      const { results } = await judge(run, { name: "wasm", options: { threads: 3 } }, cases.slice(0, 2));
      expect(detailsOf(results).join()).toMatch(
        /^WebAssembly relaxed SIMD, 1 thread \(threads did not start: /,
      );
    });

    it("without relaxed SIMD: the bits of Node", async () => {
      const options = { threads: 2, relaxed: false, poison: true };
      const done = await judge(await taskPage(browser), { name: "wasm", options }, cases);
      const device = wasmDevice({ ...options, threads: 1 });
      const own = await runTasks(device, cases.map((c) => c.task)); // prettier-ignore
      await device.dispose();
      expect(outputsOf(done.results)).toEqual(outputsOf(own));
    });
  });
});
