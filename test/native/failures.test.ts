/** Every call of the driver and of NVRTC fails in its turn: a CudaError says so, nothing is left behind, and work goes on. */
import { beforeAll, describe, expect, it } from "vitest";
import { launchOf } from "../../runtime/cuda/arguments.ts";
import type { CudaContext } from "../../runtime/cuda/context.ts";
import { openCuda } from "../../runtime/cuda/cuda.ts";
import type { Cuda } from "../../runtime/cuda/cuda.ts";
import type { Shim } from "../../runtime/cuda/shim.ts";
import { haveCompiler, keeping, stub, stubLibraries, cache, testShim, turns } from "./stub.ts";
import type { Libraries } from "./stub.ts";

const ok = await haveCompiler();
const driver = stub();
const kept: unknown[] = [];
const ptx = new TextEncoder().encode(".version 8.0\n");

describe.skipIf(!ok)("each call of the driver", () => {
  let libraries: Libraries;
  let shim: Shim;
  let cuda: Cuda;
  let context: CudaContext;
  let objects: Awaited<ReturnType<typeof makeObjects>>;
  beforeAll(async () => {
    libraries = stubLibraries();
    ({ shim } = await testShim());
    cuda = await openCuda({
      driver: libraries.driver,
      nvrtc: libraries.nvrtc[13],
      build: { cache, flags: ["-Werror"] },
    });
    context = keeping(await cuda.open());
    objects = await makeObjects(context);
    await cuda.nvrtc();
  });

  async function makeObjects(c: CudaContext) {
    const module = await c.load(ptx);
    const memory = await c.allocate(64);
    const [start, end] = [c.event(), c.event()];
    const stream = c.stream();
    for (const e of [start, end]) stream.record(e);
    const fn = module.function("axpy");
    const args = [{ memory }, { memory }, { f32: 1 }, { i32: 4 }];
    const launch = launchOf({ grid: [1], block: [32] }, args);
    const graph = stream.capture(() => stream.fill(memory, 0));
    const pinned = await c.allocatePinned(64);
    return { module, fn, launch, memory, start, end, stream, graph, pinned, other: await c.allocate(64) };
  }

  const capture = () => void objects.stream.capture(() => objects.stream.fill(objects.memory, 1)).dispose();
  const compile = async () => (await cuda.nvrtc()).compile("source", { arch: "sm_90" });
  const actions: { readonly [symbol: string]: () => unknown } = {
    cuDriverGetVersion: () => shim.openDriver(libraries.driver),
    cuInit: () => shim.openDriver(libraries.driver),
    cuDeviceGetCount: () => openCuda({ driver: libraries.driver, build: { cache, flags: ["-Werror"] } }),
    cuDeviceGet: () => cuda.open(1),
    cuDeviceGetName: () => openCuda({ driver: libraries.driver, build: { cache, flags: ["-Werror"] } }),
    cuDeviceTotalMem_v2: () => openCuda({ driver: libraries.driver, build: { cache, flags: ["-Werror"] } }),
    cuDeviceGetAttribute: () => openCuda({ driver: libraries.driver, build: { cache, flags: ["-Werror"] } }),
    cuDevicePrimaryCtxRetain: () => cuda.open(1),
    cuCtxPushCurrent_v2: () => context.memory(),
    cuCtxSynchronize: () => context.synchronize(),
    cuMemGetInfo_v2: () => context.memory(),
    cuMemAlloc_v2: () => context.allocate(64),
    cuMemHostAlloc: () => context.allocatePinned(64),
    cuMemcpyHtoDAsync_v2: () => objects.stream.write(objects.memory, new Uint8Array(8)),
    cuMemcpyDtoHAsync_v2: () => objects.stream.read(objects.memory, new Uint8Array(8)),
    cuMemcpyDtoDAsync_v2: () => objects.stream.copy(objects.memory, objects.other, { bytes: 4 }),
    cuMemsetD8Async: () => objects.stream.fill(objects.memory, 1),
    cuMemsetD32Async: () => objects.stream.fillWords(objects.memory, 1),
    cuModuleLoadDataEx: () => context.load(ptx),
    cuModuleGetFunction: () => objects.module.function("axpy"),
    cuFuncGetAttribute: () => objects.fn.usage(),
    cuFuncSetAttribute: () => objects.fn.setSharedLimit(1000),
    cuOccupancyMaxActiveBlocksPerMultiprocessor: () => objects.fn.occupancy(32),
    cuLaunchKernel: () => objects.stream.launch(objects.fn, objects.launch),
    cuStreamCreate: () => context.stream(),
    cuStreamSynchronize: () => objects.stream.synchronize(),
    cuStreamWaitEvent: () => objects.stream.wait(objects.start),
    cuEventCreate: () => context.event(),
    cuEventRecord: () => objects.stream.record(objects.start),
    cuEventSynchronize: () => objects.start.synchronize(),
    cuEventElapsedTime: () => objects.end.since(objects.start),
    cuStreamBeginCapture_v2: capture,
    cuStreamEndCapture: capture,
    cuGraphGetNodes: capture,
    cuGraphInstantiateWithFlags: capture,
    cuGraphLaunch: () => objects.stream.replay(objects.graph),
    nvrtcVersion: () => shim.openNvrtc(libraries.nvrtc[13], null),
    nvrtcGetNumSupportedArchs: () => shim.openNvrtc(libraries.nvrtc[13], null),
    nvrtcGetSupportedArchs: () => shim.openNvrtc(libraries.nvrtc[13], null),
    nvrtcCreateProgram: compile,
    nvrtcCompileProgram: compile,
    nvrtcGetProgramLogSize: compile,
    nvrtcGetProgramLog: compile,
    nvrtcGetPTXSize: compile,
    nvrtcGetPTX: compile,
    nvrtcGetCUBINSize: compile,
    nvrtcGetCUBIN: compile,
  };

  it.each(Object.keys(actions))("%s fails", async (symbol) => {
    const nvrtc = symbol.startsWith("nvrtc");
    const run = async () => actions[symbol]?.();
    const alive = driver.alive();
    const opening = /^(cuInit|cuD|nvrtc(Version|GetNum|GetSup))/.test(symbol);
    driver.order(`fail ${symbol} ${nvrtc ? 1 : 719}`);
    await expect(run()).rejects.toMatchObject({
      name: "CudaError",
      code: nvrtc ? "NVRTC_ERROR_OUT_OF_MEMORY" : "CUDA_ERROR_LAUNCH_FAILED",
      // Where a whole library does not open, the message tells which of its calls it was.
      message: expect.stringMatching(
        nvrtc
          ? `${symbol}: NVRTC_ERROR_OUT_OF_MEMORY: out of memory`
          : `${symbol}: CUDA_ERROR_LAUNCH_FAILED: unspecified launch failure`,
      ),
      call: symbol,
    });
    driver.order();
    await turns();
    expect(driver.alive()).toEqual(alive);
    // Kept, so that no finalizer disturbs the counts of the next.
    if (!opening) kept.push(await run());
  });

  const releases: readonly (readonly [symbol: string, make: () => Promise<{ dispose: () => unknown }>])[] = [
    ["cuMemFree_v2", () => context.allocate(8)],
    ["cuModuleUnload", () => context.load(ptx)],
    ["cuStreamDestroy_v2", async () => context.stream()],
    ["cuEventDestroy_v2", async () => context.event()],
    ["cuGraphExecDestroy", async () => objects.stream.capture(() => objects.stream.fill(objects.memory, 1))],
    ["cuDevicePrimaryCtxRelease_v2", () => cuda.open(1)],
  ];
  it.each(releases)("%s fails: dispose gives the error and does not throw", async (symbol, make) => {
    const object = await make();
    driver.order(`fail ${symbol} 700`);
    expect(object.dispose()).toMatchObject({
      name: "CudaError",
      code: "CUDA_ERROR_ILLEGAL_ADDRESS",
      call: symbol,
      message: `${symbol}: CUDA_ERROR_ILLEGAL_ADDRESS: an illegal memory access was encountered`,
    });
    driver.order();
    expect(object.dispose()).toBeUndefined();
  });

  it("cuGraphDestroy fails: the graph is not kept either", async () => {
    driver.order("fail cuGraphDestroy 719");
    expect(capture).toThrow(/cuGraphDestroy: CUDA_ERROR_LAUNCH_FAILED/);
    driver.order();
    capture();
  });

  it("cuMemFreeHost fails where nobody hears it", async () => {
    const pinned = await context.allocatePinned(8);
    driver.order("fail cuMemFreeHost 719");
    expect(pinned.dispose()).toBeUndefined();
    await turns();
    driver.order();
    expect(pinned.dispose()).toBeUndefined();
  });

  it("a device that has failed ends cleanly: every dispose says so, and everything is let go", async () => {
    const { context: before } = driver.alive();
    const broken = await cuda.open(1);
    const inside = await makeObjects(broken);
    driver.order(...["cuCtxPushCurrent_v2", "cuMemFree_v2"].map((s) => `fail ${s} 700`));
    expect(inside.graph.dispose()).toMatchObject({ code: "CUDA_ERROR_ILLEGAL_ADDRESS" });
    expect(broken.dispose()).toMatchObject({ code: "CUDA_ERROR_ILLEGAL_ADDRESS" });
    await turns();
    driver.order();
    driver.forget();
    expect(inside.stream.dispose()).toBeUndefined();
    expect(() => inside.stream.launch(inside.fn, inside.launch)).toThrow(/was disposed, or what it lay in/);
    expect(driver.calls()).toEqual([]);
    expect(driver.alive()["context"]).toBe(before);
  });

  it("a status that the driver has no name for keeps its number", () => {
    driver.order("fail cuMemGetInfo_v2 12345");
    expect(() => context.memory()).toThrow(
      /cuMemGetInfo_v2: CUDA_ERROR_UNKNOWN: status 12345, which this driver has no name for/,
    );
    driver.order();
  });

  it("PTX that the driver does not compile comes with the driver's log", async () => {
    await expect(
      context.load(new TextEncoder().encode(".version 8.0\nsyntax error\n")),
    ).rejects.toMatchObject({
      code: "CUDA_ERROR_INVALID_PTX",
      log: "ptxas error   : Parsing error near 'syntax'",
    });
  });

  it("says how much memory was asked for, and which function", async () => {
    await expect(context.allocate(2 ** 40)).rejects.toThrow(
      "cuMemAlloc_v2: CUDA_ERROR_OUT_OF_MEMORY: out of memory (1099511627776 bytes)",
    );
    expect(() => objects.module.function("missing")).toThrow(
      "cuModuleGetFunction: CUDA_ERROR_NOT_FOUND: named symbol not found (function 'missing')",
    );
    expect(() => objects.stream.launch(objects.fn, launchOf({ grid: [1, 70_000], block: [32] }, []))).toThrow(
      /parameters: 0 bytes, the kernel takes 24/,
    );
    const shape = { grid: [1, 70_000] as const, block: [32] as const };
    const args = [{ memory: objects.memory }, { memory: objects.memory }, { f32: 0 }, { i32: 0 }];
    expect(() => objects.stream.launch(objects.fn, launchOf(shape, args))).toThrow(
      "CUDA_ERROR_INVALID_VALUE: invalid argument (grid 1 × 70000 × 1, block 32 × 1 × 1, 0 bytes of shared memory)",
    );
  });

  it("breaks a capture by what a capture does not allow, and says so", async () => {
    const old = objects.stream;
    expect(() =>
      old.capture(() => {
        driver.order("fail cuStreamEndCapture 901");
      }),
    ).toThrow(/CUDA_ERROR_STREAM_CAPTURE_INVALIDATED/);
    driver.order();
    await old.synchronize();
  });
});
