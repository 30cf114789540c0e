/** A real GPU and the real NVRTC through the shim, where a machine has both. Everything else here runs on stubs. */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { launchOf } from "../../runtime/cuda/arguments.ts";
import type { CudaContext, CudaFunction } from "../../runtime/cuda/context.ts";
import { openCuda } from "../../runtime/cuda/cuda.ts";
import type { Cuda } from "../../runtime/cuda/cuda.ts";
import { missing } from "../webgpu/require.ts";
import { cache, haveCompiler } from "./stub.ts";

const source = `
extern "C" __global__ void axpy(const float *x, float *y, float a, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) y[i] += a * x[i];
}
extern "C" __global__ void none() {}
extern "C" __global__ void stray(float *x) { x[1ll << 40] = 1; }
`;

const ok = await haveCompiler();
let cuda: Cuda | null = null;
let context: CudaContext;
let axpy: CudaFunction;
let image = new Uint8Array();
beforeAll(async () => {
  if (!ok) return;
  try {
    cuda = await openCuda({ build: { cache, flags: ["-Werror"] } });
    const nvrtc = await cuda.nvrtc();
    context = await cuda.open();
    const { capability, name } = context.device;
    const { cubin } = await nvrtc.compile(source, { arch: `sm_${capability}` });
    image = cubin ?? image;
    axpy = (await context.load(image)).function("axpy");
    console.log(`${name}, driver for CUDA ${cuda.driver.version.major}.${cuda.driver.version.minor}`);
  } catch (error) {
    cuda = null;
    missing("cuda", (error as Error).message);
  }
});
afterAll(() => void cuda?.dispose());

describe.skipIf(!ok)("a GPU", () => {
  it("computes, by launches, a graph, pinned memory and events", async ({ skip }) => {
    if (cuda === null) return skip();
    const n = 100_000;
    const [x, y] = [await context.allocate(4 * n), await context.allocate(4 * n)];
    const pinned = await context.allocatePinned(4 * n);
    const stream = context.stream();
    const values = new Float32Array(pinned.buffer);
    values.forEach((_, i) => (values[i] = i));
    stream.upload(x, { memory: pinned });
    stream.fillWords(y, 0x3f800000);
    const launch = launchOf({ grid: [Math.ceil(n / 256)], block: [256] }, [
      { memory: x },
      { memory: y },
      { f32: 2 },
      { i32: n },
    ]);
    const graph = stream.capture(() => {
      stream.launch(axpy, launch);
      stream.launch(axpy, launch);
    });
    expect(graph.nodes).toBe(2);
    const [start, end] = [context.event(), context.event()];
    stream.record(start);
    stream.launch(axpy, launch);
    stream.replay(graph);
    stream.record(end);
    await end.synchronize();
    expect(end.since(start)).toBeGreaterThan(0);
    const result = new Float32Array(n);
    await stream.read(y, result);
    expect(result.every((v, i) => v === 1 + 6 * i)).toBe(true);
    stream.download(y, { memory: pinned });
    await stream.synchronize();
    expect(values[n - 1]).toBe(1 + 6 * (n - 1));
    for (const o of [x, y, pinned, stream, graph, start, end]) expect(o.dispose()).toBeUndefined();
  });

  it("says what the function takes, and minds parameters that do not fit", async ({ skip }) => {
    if (cuda === null) return skip();
    const usage = axpy.usage();
    expect(usage.registers).toBeGreaterThan(0);
    expect(usage.localBytes).toBe(0);
    expect([-1, 24]).toContain(usage.parameterBytes);
    expect(axpy.occupancy(256)).toBeGreaterThan(0);
    const { free, total } = context.memory();
    expect(free).toBeLessThanOrEqual(total);
    const stream = context.stream();
    const none = (await context.load(image)).function("none");
    stream.launch(none, launchOf({ grid: [1], block: [32] }, []));
    await stream.synchronize();
    if (usage.parameterBytes === 24)
      expect(() => stream.launch(axpy, launchOf({ grid: [1], block: [32] }, [{ i32: 1 }]))).toThrow(
        /the kernel takes 24/,
      );
    await expect(context.allocate(2 ** 50)).rejects.toMatchObject({ code: "CUDA_ERROR_OUT_OF_MEMORY" });
    await expect(context.load(new TextEncoder().encode(".version 1.0\nnonsense\n"))).rejects.toMatchObject({
      name: "CudaError",
    });
  });

  // The last: a device that has failed serves this process no more.
  it("says which call told that a kernel went astray, and ends cleanly", async ({ skip }) => {
    if (cuda === null) return skip();
    const memory = await context.allocate(16);
    const stream = context.stream();
    const stray = (await context.load(image)).function("stray");
    stream.launch(stray, launchOf({ grid: [1], block: [1] }, [{ memory }]));
    await expect(stream.synchronize()).rejects.toMatchObject({
      code: "CUDA_ERROR_ILLEGAL_ADDRESS",
      call: "cuStreamSynchronize",
    });
    memory.dispose();
    context.dispose();
    expect(() => context.stream()).toThrow(expect.objectContaining({ code: "DISPOSED" }));
  });
});
