/** How the CUDA runtime works: what it asks of the driver, graphs, small limits, exact bytes. On the executing stub. */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { cudaDevice } from "../../runtime/cuda.ts";
import type { CudaDeviceOptions, CudaExecutable, OpenCudaDevice } from "../../runtime/cuda.ts";
import { memoryOf } from "../../runtime/memory.ts";
import { variantFor } from "../../runtime/plan.ts";
import type { Program } from "../../runtime/plan.ts";
import type { Tensors } from "../../runtime/tensors.ts";
import { attention } from "../../src/reference.ts";
import { seal } from "../../src/spec.ts";
import type { AttentionSpec, ModelSpec } from "../../src/spec.ts";
import { rounding } from "../../src/storage.ts";
import { compare } from "../../src/tolerance.ts";
import { randomInputs } from "../attention/run.ts";
import { tinyModel } from "../cli/session.ts";
import { modelCases } from "../golden.ts";
import type { ModelCase } from "../golden.ts";
import { stub, turns } from "../native/stub.ts";
import { noiseWeights, sameBits, specOf, weightsOf } from "../webgpu/programs.ts";
import { attentionProgram, modelProgram } from "./programs.ts";
import { executing } from "./stub.ts";

const driver = stub();
const parts = await executing();
const open = (options: CudaDeviceOptions = {}): Promise<OpenCudaDevice> =>
  cudaDevice({ ...parts?.options, poison: true, ...options });

const tiny = modelProgram(specOf(tinyModel).models[0] as ModelSpec);
const golden = (await modelCases())[0] as ModelCase;
const program = modelProgram(golden.spec);
const at = { N: golden.N, B: golden.B };
const tokensOf = (N: number) => ({ tokens: Int32Array.from({ length: N }, (_, i) => (i * 37) % 256) });
const launches = () => driver.calls().filter((c) => c.startsWith("launch "));

describe.skipIf(parts === null)("the CUDA runtime", () => {
  let device: OpenCudaDevice;
  let model: CudaExecutable;
  let expected: Tensors;
  beforeAll(async () => {
    device = await open();
    model = await device.compile(program, { weights: weightsOf(program, golden).source });
    expected = await model.run({ tokens: golden.tokens }, at);
  });
  afterAll(async () => {
    await device.dispose();
    await turns();
    expect(driver.alive()).toEqual({});
    expect(driver.wrongs()).toEqual([]);
  });
  const goldenOn = async (options: CudaDeviceOptions): Promise<Tensors> => {
    const other = await open(options);
    try {
      const executable = await other.compile(program, { weights: weightsOf(program, golden).source });
      await executable.run({ tokens: golden.tokens }, at);
      return await executable.run({ tokens: golden.tokens }, at);
    } finally {
      await other.dispose();
    }
  };

  it("says what it runs on", () => {
    expect(device.detail).toBe("CUDA Stub GPU 0 (sm_90, driver for CUDA 13.0, NVRTC 13.4)");
    expect(model.detail).toBe(device.detail);
    expect(device).toMatchObject({ name: "cuda", driver: { major: 13 }, facts: { capability: 90 } });
  });

  it("enqueues a whole pass, waits for it once, and allocates nothing for a length that it knows", async () => {
    driver.forget();
    expect(sameBits(await model.run({ tokens: golden.tokens }, at), expected)).toBe(true);
    const calls = driver.calls().filter((c) => !c.startsWith("launch "));
    const steps = variantFor(program.plan, at.N).steps.length;
    expect(calls.at(-1)).toBe("cuStreamSynchronize");
    expect(calls.filter((c) => /Synchronize/.test(c))).toHaveLength(1);
    expect(calls.filter((c) => c === "cuLaunchKernel")).toHaveLength(steps);
    expect(new Set(calls)).toEqual(
      new Set([
        "cuMemsetD32Async",
        "cuMemcpyHtoDAsync_v2",
        "cuLaunchKernel",
        "cuMemcpyDtoHAsync_v2",
        "cuStreamSynchronize",
      ]),
    );
  });

  it("gives the same bits by a graph, which is captured once for a length", async () => {
    const graphs = await open({ graph: true });
    const executable = await graphs.compile(program, { weights: weightsOf(program, golden).source });
    driver.forget();
    for (let i = 0; i < 3; i++)
      expect(sameBits(await executable.run({ tokens: golden.tokens }, at), expected)).toBe(true);
    const count = (name: string) => driver.calls().filter((c) => c === name).length;
    expect(count("cuStreamBeginCapture_v2")).toBe(1);
    expect(count("cuGraphLaunch")).toBe(3);
    expect(count("cuLaunchKernel")).toBe(variantFor(program.plan, at.N).steps.length);
    // Another length is another graph; the first is given back.
    const half = { N: at.N / 2, B: 1 };
    const tokens = golden.tokens.slice(0, half.N);
    expect(sameBits(await executable.run({ tokens }, half), await model.run({ tokens }, half))).toBe(true);
    expect(count("cuStreamBeginCapture_v2")).toBe(2);
    expect(driver.alive()["graph"]).toBe(1);
    await graphs.dispose();
    expect(driver.alive()["graph"]).toBeUndefined();
  });

  it.each([
    ["launches of at most three blocks", { limits: { maxGridX: 3 } }],
    ["them in a graph", { limits: { maxGridX: 3 }, graph: true }],
    ["pinned memory of two KiB", { stagingBytes: 2048 }],
  ] as const)("gives the same bits with %s", async (_, options) => {
    driver.forget();
    expect(sameBits(await goldenOn(options), expected)).toBe(true);
    const widest = Math.max(...launches().map((l) => Number(l.split(" ")[2])));
    if ("limits" in options) expect(widest).toBe(3);
    else expect(driver.calls().filter((c) => c === "cuEventSynchronize").length).toBeGreaterThan(10);
  });

  it("runs programs side by side", async () => {
    const others = await Promise.all(
      [1, 2, 3].map(() => device.compile(program, { weights: weightsOf(program, golden).source })),
    );
    const all = await Promise.all([...others, ...others].map((e) => e.run({ tokens: golden.tokens }, at)));
    for (const got of all) expect(sameBits(got, expected)).toBe(true);
    for (const e of others) await e.dispose();
  });

  it("measures every step", async () => {
    const profiled = await open({ profile: true, graph: true });
    const executable = await profiled.compile(program, { weights: weightsOf(program, golden).source });
    expect(executable.profile()).toEqual([]);
    expect(sameBits(await executable.run({ tokens: golden.tokens }, at), expected)).toBe(true);
    const times = executable.profile();
    expect(times.map((t) => t.title)).toEqual(variantFor(program.plan, at.N).steps.map((s) => s.title));
    expect(times.every((t) => t.ms === 1.5)).toBe(true);
    await profiled.dispose();
  });

  it("takes the bytes that were planned, and gives all of them back", async () => {
    const planned = memoryOf(model.plan, at);
    await model.run({ tokens: golden.tokens }, at);
    const used = model.memory();
    expect(used).toMatchObject({
      weights: planned.weights,
      inputs: planned.inputs,
      outputs: planned.outputs,
      arena: planned.activations,
      tables: planned.tables,
    });
    expect(used.total).toBe(planned.total + used.scratch);
    expect(device.bytes()).toEqual({ device: planned.total, pinned: used.scratch });
    const before = driver.alive();
    for (let i = 0; i < 10; i++) {
      const executable = await device.compile(program, { weights: weightsOf(program, golden).source });
      for (const N of [at.N, 5, 17])
        await executable.run(
          { tokens: golden.tokens.slice(0, N * (N === at.N ? at.B : 1)) },
          { N, B: N === at.N ? at.B : 1 },
        );
      await executable.dispose();
      expect(device.bytes()).toEqual({ device: planned.total, pinned: used.scratch });
    }
    await turns();
    expect(driver.alive()).toEqual(before);
  });

  it("stores 16 bits where a spec asks for them", async () => {
    const [spec] = specOf(
      `attention half { heads 2 head_dim 16 branch segment 32 dilation 1 branch segment 64 dilation 2 }`,
    ).attentions as [AttentionSpec];
    for (const dtype of ["f16", "bf16"] as const) {
      const narrow = seal({ ...spec, dtype });
      const half = attentionProgram(narrow) as Program;
      const executable = await device.compile(half);
      const N = 77;
      const given = randomInputs(narrow, N, 1, 5);
      const rounded = (x: Float32Array) => x.map(rounding[dtype]);
      const [q, k, v] = [rounded(given.q), rounded(given.k), rounded(given.v)];
      const got = await executable.run({ q, k, v }, { N, B: 1 });
      const wide = (x: Float32Array) => Float64Array.from(x);
      const meant = attention(narrow, { q: wide(q), k: wide(k), v: wide(v), N, B: 1 });
      expect(compare(got["out"] ?? [], meant.out, { dtype, terms: 2 * N })).toMatchObject({ ok: true });
      expect(executable.memory().inputs).toBe(3 * 2 * N * 32);
      await executable.dispose();
    }
  });

  it("copies only the outputs that are asked for", async () => {
    const [spec] = specOf("attention a { heads 2 head_dim 8 branch segment 8 dilation 1 }").attentions as [
      AttentionSpec,
    ];
    const executable = await device.compile(attentionProgram(spec) as Program);
    const { q, k, v } = randomInputs(spec, 20, 1, 1);
    const { lse } = await executable.run({ q, k, v }, { N: 20, B: 1 });
    const into = { lse: new Float32Array(40) };
    driver.forget();
    await executable.runInto({ q, k, v }, { N: 20, B: 1 }, into);
    expect(driver.calls().filter((c) => c === "cuMemcpyDtoHAsync_v2")).toHaveLength(1);
    expect(into.lse).toEqual(lse);
    await expect(executable.run({ q, k }, { N: 20, B: 1 })).rejects.toThrow("input 'v' is missing");
    await executable.dispose();
    await expect(executable.run({ q, k, v }, { N: 20, B: 1 })).rejects.toThrow("was disposed");
  });

  it("allows a kernel more shared memory where it needs it", async () => {
    const more: Program = {
      ...tiny,
      cuda: (tiny.cuda ?? []).map((v) => ({
        ...v,
        plan: {
          ...v.plan,
          kernels: v.plan.kernels.map((k, i) => (i === 1 ? { ...k, sharedBytes: 60_000 } : k)),
        },
      })),
    };
    driver.forget();
    const executable = await device.compile(more, { weights: noiseWeights(more).source });
    expect(driver.calls().filter((c) => c === "cuFuncSetAttribute")).toHaveLength(1);
    await executable.run(tokensOf(9), { N: 9, B: 1 });
    expect(launches().some((l) => l.includes(" 60000,"))).toBe(true);
    await executable.dispose();
  });

  it("says which weight is missing, and takes weights one by one", async () => {
    const executable = await device.compile(tiny);
    await expect(executable.run(tokensOf(9), { N: 9, B: 1 })).rejects.toThrow(
      /has no weights yet: '.*' was not set/,
    );
    await expect(executable.setWeight(0, new Float32Array(3))).rejects.toThrow(
      /takes \d+ numbers .* found 3/,
    );
    await noiseWeights(tiny).source?.((index, data) => executable.setWeight(index, data));
    const whole = await device.compile(tiny, { weights: noiseWeights(tiny).source });
    const run = (e: CudaExecutable) => e.run(tokensOf(9), { N: 9, B: 1 });
    expect(sameBits(await run(executable), await run(whole))).toBe(true);
    await Promise.all([executable, whole].map((e) => e.dispose()));
  });

  it.each([
    [
      { sharedBytesOptIn: 100 },
      /needs \d+ bytes of shared memory \(it has 100\): more than Stub GPU 0 offers/,
    ],
    [{ maxThreads: 32 }, /needs \d+ threads in a block \(it has 32\)/],
  ])("says with numbers what does not fit: %j", async (limits, message) => {
    const small = await open({ limits });
    await expect(small.compile(tiny)).rejects.toMatchObject({
      code: "LIMITS",
      message: expect.stringMatching(message),
    });
    await small.dispose();
  });

  it("says which lengths its kernels cannot count", async () => {
    const executable = await device.compile(tiny, { weights: noiseWeights(tiny).source });
    const before = device.bytes();
    // Refused before anything of that size is made, so the array need not be there.
    const N = 2 ** 31;
    const tokens = Object.defineProperty(new Int32Array(0), "length", { value: N });
    await expect(executable.run({ tokens }, { N, B: 1 })).rejects.toMatchObject({
      code: "LIMITS",
      message: expect.stringMatching(/would count to 2147483648 in .*kernels count to 2147418111/),
    });
    expect(device.bytes()).toEqual(before);
    await executable.dispose();
  });

  it("says that a program is not for it, and which devices there are", async () => {
    const { cuda: _, ...rest } = tiny;
    await expect(device.compile(rest)).rejects.toThrow(
      /was not compiled for CUDA: compile it with --kernels cuda/,
    );
    await expect(open({ ordinal: 7 })).rejects.toMatchObject({
      code: "NO_CUDA",
      message: "there is no CUDA device 7; there are: 0 Stub GPU 0, 1 Stub GPU 1",
    });
  });
});
