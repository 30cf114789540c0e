/** Linear layers by cuBLASLt, on its stub: their numbers, who computes which, what is kept and given back, and every way to fail. */
import { copyFileSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { cudaDevice } from "../../runtime/cuda.ts";
import type { CudaDeviceOptions, OpenCudaDevice } from "../../runtime/cuda.ts";
import { linearsOf, rowsOfPanels } from "../../runtime/cuda/linears.ts";
import { packPanels } from "../../runtime/panels.ts";
import type { Plan, PlanKernel, Program, Step } from "../../runtime/plan.ts";
import type { Tensors } from "../../runtime/tensors.ts";
import { modelGraph } from "../../src/model.ts";
import { runReference } from "../../src/reference.ts";
import { seal } from "../../src/spec.ts";
import type { ModelSpec } from "../../src/spec.ts";
import { NARROW, rounding, type FloatDtype } from "../../src/storage.ts";
import { compare } from "../../src/tolerance.ts";
import { tinyModel } from "../cli/session.ts";
import { noise } from "../lower/run.ts";
import { stub, turns } from "../native/stub.ts";
import { noiseWeights, specOf } from "../webgpu/programs.ts";
import { modelProgram } from "./programs.ts";
import { executing } from "./stub.ts";

const driver = stub();
const parts = await executing();
const open = (options: CudaDeviceOptions = {}): Promise<OpenCudaDevice> =>
  cudaDevice({ ...parts?.options, poison: true, linear: "cublaslt", ...options });

const model = (dtype: FloatDtype, activation: "gelu" | "relu" = "gelu"): ModelSpec => {
  const [found] = specOf(tinyModel).models;
  if (found === undefined) throw new Error("a model");
  const attention = seal({ ...found.attention, dtype });
  return seal({ ...found, attention, ffn: { ...found.ffn, activation } });
};
const at = { N: 21, B: 2 };
const tokens = Int32Array.from({ length: at.N * at.B }, (_, i) => (i * 37) % 256);
const multiplied = () => driver.calls().filter((c) => c.startsWith("multiply "));

describe.skipIf(parts === null)("linear layers by cuBLASLt", () => {
  afterAll(async () => {
    await turns();
    expect(driver.alive()).toEqual({});
    expect(driver.wrongs()).toEqual([]);
  });
  const onDevice = async <T>(
    program: Program,
    options: CudaDeviceOptions,
    use: (executable: Awaited<ReturnType<OpenCudaDevice["compile"]>>, device: OpenCudaDevice) => Promise<T>,
  ): Promise<T> => {
    const device = await open(options);
    try {
      return await use(await device.compile(program, { weights: noiseWeights(program).source }), device);
    } finally {
      await device.dispose();
    }
  };

  it.each(["f32", "f16", "bf16"] as const)(
    "give a model in %s its numbers, captured or not",
    async (dtype) => {
      const spec = model(dtype);
      const program = modelProgram(spec);
      const plan = program.cuda?.[0]?.plan;
      if (plan === undefined) throw new Error("compiled for CUDA");
      const outputs: Tensors[] = [];
      const counts: number[] = [];
      for (const graph of [false, true]) {
        driver.forget();
        await onDevice(program, { graph }, async (executable) => {
          outputs.push(await executable.run({ tokens }, at));
          // A second length is a second set of products; the workspace is the same.
          const one = await executable.run({ tokens: tokens.slice(0, 9) }, { N: 9, B: 1 });
          expect(one["logits"]?.every(Number.isFinite)).toBe(true);
          const uses = executable.linears();
          expect(uses.filter((u) => u.by === "cublaslt").length).toBeGreaterThan(1);
          for (const { entry, by, why } of uses) {
            expect(by === "own", entry).toBe(why !== undefined);
            if (entry.includes("gelu")) expect(why).toMatch(/exact one \(erf\)/);
            // Of 16 bits to 16 bits there is no bias of f32.
            if (dtype !== "f32" && why !== undefined && !entry.includes("gelu"))
              expect(why).toMatch(/its bias is f32, and cuBLASLt adds one of b?f16's type/);
          }
          expect(executable.memory().scratch).toBeGreaterThanOrEqual(32 * 2 ** 20);
        });
        const steps = multiplied();
        expect(steps.length).toBeGreaterThan(3);
        expect(driver.calls().filter((c) => c === "cublasLtCreate")).toHaveLength(1);
        counts.push(steps.length);
        // A residual of alpha is added by the product itself, its bias too.
        expect(steps.some((s) => /epilogue 4, beta (?!0)/.test(s))).toBe(true);
        expect(steps.some((s) => s.endsWith("epilogue 1, beta 0"))).toBe(true);
      }
      const wide = modelGraph(spec, NARROW);
      // As noiseWeights has them, which goes by the program's plan.
      const numbers = new Map(
        program.plan.weights.map(({ name, shape }, i) => {
          const size = shape.reduce((n, d) => n * d, 1);
          const narrowed = rounding[plan.weights.find((w) => w.name === name)?.dtype ?? "f32"];
          return [name, noise(size, i + 1).map((x) => narrowed(Math.fround(x * 0.3)))];
        }),
      );
      const meant = runReference(wide, { tokens }, numbers, at).outputs["logits"] ?? [];
      for (const got of outputs)
        expect(
          compare(got["logits"] ?? [], meant, { dtype, terms: 600, of: "model", atLeast: 0.1 }),
        ).toMatchObject({ ok: true });
      expect(outputs[1]).toEqual(outputs[0]);
      // Before it is captured, each runs once.
      expect(counts[1]).toBe(2 * (counts[0] ?? NaN));
    },
  );

  it("leave layers to heddle's kernels where cuBLASLt refuses their shape, and say so", async () => {
    const program = modelProgram(model("f32", "relu"));
    const linears = program.cuda?.[0]?.plan.kernels.flatMap((k) => (k.linear === undefined ? [] : [k])) ?? [];
    const outs = linears.find((k) => k.linear?.activation === "relu")?.linear?.outs ?? 0;
    driver.forget();
    const whole = await onDevice(program, {}, (e) => e.run({ tokens }, at));
    // 6: RELU and BIAS.
    expect(multiplied().some((c) => c.includes("epilogue 6, beta 0"))).toBe(true);
    driver.order(`refuse outs ${outs}`);
    const partly = await onDevice(program, {}, async (e) => {
      const told = e.linears().filter((u) => u.by === "own");
      expect(told.map((u) => u.why).join()).toMatch(
        new RegExp(`cuBLASLt has no algorithm for \\d+ × ${outs} at 1 rows`),
      );
      return e.run({ tokens }, at);
    });
    driver.order();
    const own = await onDevice(program, { linear: "own" }, async (e, device) => {
      expect(e.linears()).toEqual([]);
      expect(device.detail).not.toMatch(/cuBLASLt/);
      return e.run({ tokens }, at);
    });
    for (const got of [whole, partly])
      expect(
        compare(got["logits"] ?? [], Float64Array.from(own["logits"] ?? []), {
          dtype: "f32",
          terms: 600,
          of: "model",
        }),
      ).toMatchObject({ ok: true });
    // A number of rows that has none, where others had, cannot fall back: the weights lie in rows.
    driver.order("refuse rows 42");
    await expect(onDevice(program, {}, (e) => e.run({ tokens }, at))).rejects.toThrow(
      /cuBLASLt has no algorithm for 'linear_\w+' at 42 rows: open the device with linear 'own'/,
    );
    driver.order();
  });

  it("fail with one clear error, whichever call fails, and leave nothing behind", async () => {
    const program = modelProgram(model("f32"));
    const calls = [
      "cublasLtCreate",
      "cublasLtMatmulDescCreate",
      "cublasLtMatmulDescSetAttribute",
      "cublasLtMatrixLayoutCreate",
      "cublasLtMatmulPreferenceCreate",
      "cublasLtMatmulPreferenceSetAttribute",
      "cublasLtMatmulAlgoGetHeuristic",
      "cublasLtMatmul",
    ];
    for (const call of calls) {
      // The n-th, so that some of what must be given back is there.
      driver.order(`nth ${call} 13 ${call === "cublasLtCreate" ? 1 : 2}`);
      await expect(
        onDevice(program, {}, (e) => e.run({ tokens }, at)),
        call,
      ).rejects.toMatchObject({
        name: "DeviceError",
        code: "FAILED",
        message: `CUDA refuses: ${call}: CUBLAS_STATUS_EXECUTION_FAILED: the program failed to execute (status 13)`,
      });
      driver.order();
      await turns();
      expect(driver.alive(), call).toEqual({});
    }
    // Captured work that fails ends the capture.
    driver.order("nth cublasLtMatmul 13 12");
    await expect(onDevice(program, { graph: true }, (e) => e.run({ tokens }, at))).rejects.toThrow(
      /cublasLtMatmul: CUBLAS_STATUS_EXECUTION_FAILED/,
    );
    driver.order();
  });

  it("need the library, a whole one of a version that the driver runs", async () => {
    const none = await open({ cublasLt: "/nowhere/libcublasLt.so.13" }).catch((e: unknown) => e);
    expect(none).toMatchObject({
      name: "DeviceError",
      code: "NO_CUDA",
      message: expect.stringMatching(
        /^NVIDIA's library libcublasLt was not found at \/nowhere\/libcublasLt\.so\.13: pip install nvidia-cublas, /,
      ),
    });
    await expect(open({ cublasLt: parts?.nvrtc ?? "" })).rejects.toThrow(
      /libcublasLt cannot be used: .* has no function cublasLtGetVersion: it is too old, or another library/,
    );
    // Found beside NVRTC, as in a toolkit.
    const folder = join(driver.folder, "toolkit", "lib64");
    mkdirSync(folder, { recursive: true });
    copyFileSync(parts?.cublasLt ?? "", join(folder, "libcublasLt.so.13"));
    const device = await open({ cublasLt: join(driver.folder, "toolkit") });
    expect(device.detail).toMatch(/NVRTC 13\.4, cuBLASLt 13\.1\)$/);
    await device.dispose();
  });
});

it("leaves a weight in panels that one of heddle's kernels reads too, and says so", () => {
  const kernel = (entry: string, activation?: "gelu"): PlanKernel => ({
    entry,
    title: entry,
    buffers: ["x", "weight", "out"].map((name) => ({ name, dtype: "f16", access: "read" })),
    scalars: [{ name: "M", type: "i32" }],
    sharedBytes: 0,
    workgroup: 256,
    linear: { ins: 16, outs: 16, ...(activation === undefined ? {} : { activation }) },
  });
  const step = (k: number, weight: number): Step => ({
    kernel: k,
    title: `step ${k} ${weight}`,
    buffers: [
      { in: "input", index: 0 },
      { in: "weight", index: weight },
      { in: "slot", index: 0 },
    ],
    scalars: ["N"],
    grid: 1,
  });
  const entry = (...steps: readonly Step[]) => ({
    inputs: [],
    outputs: [],
    tables: [],
    variants: [{ upTo: null, schedule: "", steps, slots: [] }],
  });
  const weight = (name: string) => ({ name, shape: [16, 16], layout: "panels" as const });
  const plan: Plan = {
    format: 1,
    name: "two",
    weights: [weight("a"), weight("b")],
    accepts: [],
    kernels: [kernel("plain"), kernel("gelu", "gelu")],
    ...entry(step(0, 0), step(0, 1)),
    decoding: {
      states: [],
      // One reads b by a kernel of heddle's.
      entries: { prefill: entry(step(1, 1)), step: entry(step(0, 0)) },
      rows: [],
      moves: [],
      reach: null,
      grows: false,
      spec: "",
    },
  };
  const product = { handle: null as never, workspaceBytes: 0, dispose: () => undefined };
  const products = { handle: null as never, product: () => product, dispose: () => undefined };
  const { rows, uses } = linearsOf(plan, products);
  expect([...rows]).toEqual([0]);
  const why = "its GELU is the exact one (erf), cuBLASLt's the tanh form";
  expect(uses).toEqual([
    { entry: "plain", title: "plain", by: "own", why: "step 1 1 reads the same weight" },
    { entry: "gelu", title: "gelu", by: "own", why },
  ]);
});

it("takes panels apart into the rows they were", () => {
  for (const [outs, ins] of [
    [1, 1],
    [8, 3],
    [13, 5],
  ] as const) {
    const rows = Float32Array.from({ length: outs * ins }, (_, i) => i + 1);
    const weight = { name: "w", shape: [outs, ins], layout: "panels" as const };
    expect(rowsOfPanels(packPanels(rows, outs, ins), weight)).toEqual(rows);
  }
});
