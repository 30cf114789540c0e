/** What goes wrong with CUDA: any call of the driver or of NVRTC, memory, contexts. No call ends in invented numbers or in a crash. */
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { cudaDevice } from "../../runtime/cuda.ts";
import type { CudaDeviceOptions, OpenCudaDevice } from "../../runtime/cuda.ts";
import type { LoadOptions } from "../../runtime/device.ts";
import type { Program } from "../../runtime/plan.ts";
import type { Tensors } from "../../runtime/tensors.ts";
import type { ModelSpec } from "../../src/spec.ts";
import { folder, tinyModel } from "../cli/session.ts";
import { stub, turns } from "../native/stub.ts";
import { noiseWeights, sameBits, specOf } from "../webgpu/programs.ts";
import { modelProgram } from "./programs.ts";
import { executing } from "./stub.ts";

const driver = stub();
const parts = await executing();
const here = folder();
afterAll(here.remove);
const open = (options: CudaDeviceOptions = {}): Promise<OpenCudaDevice> =>
  cudaDevice({ ...parts?.options, poison: true, ...options });

const program = modelProgram(specOf(tinyModel).models[0] as ModelSpec);
const at = { N: 9, B: 1 };
const run = { tokens: Int32Array.from({ length: 9 }, (_, i) => (i * 37) % 256) };
const weights = (): LoadOptions => ({ weights: noiseWeights(program).source });
const ILLEGAL = 700;
const retaining = () => driver.calls().filter((c) => c === "cuDevicePrimaryCtxRetain").length;

let expected: Tensors;
const same = (got: Tensors) => expect(sameBits(got, expected)).toBe(true);
beforeAll(async () => {
  if (parts === null) return;
  const device = await open();
  expected = await (await device.compile(program, weights())).run(run, at);
  await device.dispose();
});

describe.skipIf(parts === null)("a call that fails", () => {
  it("of NVRTC names the call, and heddle where the source is at fault", async () => {
    const device = await open({ kernels: { folder: here.at("none") } });
    driver.order("fail nvrtcCompileProgram 1");
    await expect(device.compile(program, weights())).rejects.toMatchObject({
      name: "DeviceError",
      code: "OUT_OF_MEMORY",
      message: expect.stringContaining("nvrtcCompileProgram: NVRTC_ERROR_OUT_OF_MEMORY"),
    });
    driver.order();
    const bad: Program = {
      ...program,
      cuda: (program.cuda ?? []).map((v) => ({
        ...v,
        sources: v.sources.map((s, k) => (k === 2 ? { ...s, code: `#error no\n${s.code}` } : s)),
      })),
    };
    await expect(device.compile(bad, weights())).rejects.toMatchObject({
      code: "FAILED",
      message: expect.stringMatching(
        /NVRTC refuses a kernel of 'model': .*error: #error directive.*fault of heddle/,
      ),
    });
    expect(device.bytes()).toEqual({ device: 0, pinned: 0 });
    same(await (await device.compile(program, weights())).run(run, at));
    await device.dispose();
  });

  it.each([
    ["NVRTC", "fail nvrtcVersion 1", "slow cuDevicePrimaryCtxRetain 150"],
    ["the driver", "fail cuDevicePrimaryCtxRetain 2", "slow nvrtcVersion 150"],
  ])("of %s in opening waits for the other, and leaves nothing behind", async (_, failing, slow) => {
    const before = driver.alive();
    driver.order(failing, slow);
    driver.forget();
    await expect(open()).rejects.toMatchObject({ name: "DeviceError" });
    const told = driver.calls();
    expect(told).toEqual(expect.arrayContaining(["nvrtcVersion", "cuDevicePrimaryCtxRetain"]));
    driver.order();
    await new Promise((done) => setTimeout(done, 300));
    expect(driver.calls()).toEqual(told);
    expect(driver.alive()).toEqual(before);
  });

  it("for want of memory says how much for what, and a shorter length still runs", async () => {
    const device = await open();
    const executable = await device.compile(program, weights());
    same(await executable.run(run, at));
    const before = device.bytes();
    const N = 2 ** 21;
    await expect(executable.run({ tokens: new Int32Array(N) }, { N, B: 1 })).rejects.toMatchObject({
      code: "OUT_OF_MEMORY",
      message: expect.stringMatching(
        /Stub GPU 0 has no 2147483648 bytes for output 'logits' \(1 \* 2097152|B \* N \* 256 of f32 at N = 2097152, B = 1\); \d+ bytes are in use here.*CUDA_ERROR_OUT_OF_MEMORY/,
      ),
    });
    same(await executable.run(run, at));
    expect(device.bytes()).toEqual(before);
    await device.dispose();
  });

  it("to write the cache does not matter, and a torn entry is made anew", async () => {
    const kernels = { folder: here.at("kernels") };
    const load = async () => {
      const device = await open({ kernels });
      driver.forget();
      same(await (await device.compile(program, weights())).run(run, at));
      const compiled = driver.calls().filter((c) => c === "nvrtcCompileProgram").length;
      await device.dispose();
      return compiled;
    };
    const count = program.cuda?.[0]?.sources.length ?? 0;
    expect([await load(), await load()]).toEqual([count, 0]);
    const [first = "", second = ""] = readdirSync(kernels.folder).map((f) => join(kernels.folder, f));
    writeFileSync(first, readFileSync(first).subarray(0, 1000));
    writeFileSync(second, "");
    expect([await load(), await load()]).toEqual([2, 0]);
    writeFileSync(here.at("file"), "");
    const problems: unknown[] = [];
    const device = await open({ kernels: { folder: here.at("file"), problem: (e) => problems.push(e) } });
    same(await (await device.compile(program, weights())).run(run, at));
    expect(problems).toHaveLength(count);
    await device.dispose();
  });
});

describe.skipIf(parts === null)("a lost context", () => {
  it.each(["cuLaunchKernel", "cuStreamSynchronize", "cuMemcpyHtoDAsync_v2", "cuMemAlloc_v2"])(
    "rejects what runs in it, and the next call has another with the weights in it: %s",
    async (call) => {
      for (const graph of [false, true]) {
        if (graph && call === "cuLaunchKernel") continue;
        const device = await open({ graph });
        const { source, asked } = noiseWeights(program);
        const executable = await device.compile(program, { weights: source });
        same(await executable.run(run, at));
        driver.order(`break ${call} ${ILLEGAL} 1`);
        const other = call === "cuMemAlloc_v2" ? 8 : 9;
        const flight = executable.run({ tokens: run.tokens.slice(0, other) }, { N: other, B: 1 });
        await expect(flight).rejects.toMatchObject({
          name: "DeviceError",
          code: "DEVICE_LOST",
          message: expect.stringContaining(`${call}: CUDA_ERROR_ILLEGAL_ADDRESS: an illegal memory access`),
        });
        driver.order();
        expect(executable.memory().total).toBe(0);
        same(await executable.run(run, at));
        expect(asked.times).toBe(2);
        await device.dispose();
        await turns();
        expect(driver.alive()).toEqual({});
      }
    },
  );

  it("is given back before another is made", async () => {
    const device = await open();
    const executable = await device.compile(program, weights());
    driver.forget();
    driver.order(`break cuStreamSynchronize ${ILLEGAL} 1`);
    await expect(executable.run(run, at)).rejects.toMatchObject({ code: "DEVICE_LOST" });
    driver.order();
    same(await executable.run(run, at));
    const order = driver.calls().filter((c) => c.startsWith("cuDevicePrimaryCtx"));
    expect(order).toEqual(["cuDevicePrimaryCtxRelease_v2", "cuDevicePrimaryCtxRetain"]);
    await device.dispose();
  });

  it("takes several programs with it, and is replaced once for all", async () => {
    const device = await open();
    const sources = [1, 2, 3].map(() => noiseWeights(program));
    const programs = await Promise.all(
      sources.map(({ source }) => device.compile(program, { weights: source })),
    );
    for (let i = 0; i < 3; i++) {
      driver.forget();
      driver.order(`break cuLaunchKernel ${ILLEGAL} 7`);
      const flights = await Promise.allSettled(programs.map((p) => p.run(run, at)));
      driver.order();
      for (const f of flights)
        if (f.status === "rejected") expect(f.reason).toMatchObject({ code: "DEVICE_LOST" });
        else same(f.value);
      expect(flights.some((f) => f.status === "rejected")).toBe(true);
      for (const got of await Promise.all(programs.map((p) => p.run(run, at)))) same(got);
      expect(retaining()).toBe(1);
    }
    await device.dispose();
    await turns();
    expect(driver.alive()).toEqual({});
  });

  it("without a source of weights says that they are gone", async () => {
    const device = await open();
    const executable = await device.compile(program);
    await noiseWeights(program).source?.((index, data) => executable.setWeight(index, data));
    same(await executable.run(run, at));
    driver.order(`break cuStreamSynchronize ${ILLEGAL} 1`);
    await expect(executable.run(run, at)).rejects.toMatchObject({ code: "DEVICE_LOST" });
    driver.order();
    await expect(executable.run(run, at)).rejects.toMatchObject({
      code: "DEVICE_LOST",
      message: expect.stringContaining("nobody said where they come from"),
    });
    await device.dispose();
  });

  it("that cannot be replaced at once is tried again by the next call", async () => {
    const device = await open();
    const executable = await device.compile(program, weights());
    driver.order(`break cuStreamSynchronize 719 1`);
    await expect(executable.run(run, at)).rejects.toMatchObject({ code: "DEVICE_LOST" });
    driver.order("fail cuDevicePrimaryCtxRetain 719");
    for (let i = 0; i < 2; i++)
      await expect(executable.run(run, at)).rejects.toMatchObject({
        code: "DEVICE_LOST",
        message: expect.stringMatching(
          /no new context after the lost one: .*LAUNCH_FAILED.*Start a new process/,
        ),
      });
    driver.order();
    same(await executable.run(run, at));
    await device.dispose();
  });

  it("comes of a kernel that goes astray", async () => {
    const device = await open();
    const stray: Program = {
      ...program,
      cuda: (program.cuda ?? []).map((v) => ({
        ...v,
        sources: v.sources.map((s) => ({
          ...s,
          code: s.code.replace(/put4\((out|y|o), /, "put4($1, 1000000 + "),
        })),
      })),
    };
    expect(stray.cuda).not.toEqual(program.cuda);
    const executable = await device.compile(stray, weights());
    const before = driver.wrongs().length;
    await expect(executable.run(run, at)).rejects.toMatchObject({
      code: "DEVICE_LOST",
      message: expect.stringContaining("CUDA_ERROR_ILLEGAL_ADDRESS"),
    });
    expect(driver.wrongs().slice(before)).toEqual([
      expect.stringMatching(/line \d+, group 0, lane \d+: element 10000/),
    ]);
    await executable.dispose();
    same(await (await device.compile(program, weights())).run(run, at));
    await device.dispose();
  });
});
