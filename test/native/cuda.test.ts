/** CUDA through the shim, on stub libraries: what is asked of the driver, and what comes back. */
import { beforeAll, describe, expect, it } from "vitest";
import { launchOf } from "../../runtime/cuda/arguments.ts";
import type { CudaContext } from "../../runtime/cuda/context.ts";
import { openCuda } from "../../runtime/cuda/cuda.ts";
import type { Cuda } from "../../runtime/cuda/cuda.ts";
import type { CudaStream } from "../../runtime/cuda/stream.ts";
import { cache, haveCompiler, keeping, stub, stubLibraries, turns } from "./stub.ts";

const ok = await haveCompiler();
const driver = stub();
const ptx = new TextEncoder().encode(".version 8.0\n.target sm_90\n");

describe.skipIf(!ok)("CUDA on a stub", () => {
  let cuda: Cuda;
  let context: CudaContext;
  let stream: CudaStream;
  beforeAll(async () => {
    const libraries = stubLibraries();
    cuda = await openCuda({
      driver: libraries.driver,
      nvrtc: libraries.nvrtc[13],
      build: { cache, flags: ["-Werror"] },
    });
    context = keeping(await cuda.open());
    stream = context.stream();
  });

  it("tells the driver, its devices and their memory", () => {
    expect(cuda.driver.version).toEqual({ major: 13, minor: 0 });
    expect(cuda.devices.map((d) => [d.ordinal, d.name, d.capability, d.multiprocessors])).toEqual([
      [0, "Stub GPU 0", 90, 132],
      [1, "Stub GPU 1", 90, 132],
    ]);
    expect(cuda.devices[0]).toMatchObject({ sharedBytesOptIn: 232448, memoryBytes: 2 ** 36 });
    expect(context.memory()).toEqual({ free: 1000, total: 2000 });
  });

  it("launches a kernel between copies", async () => {
    const module = await context.load(ptx);
    const axpy = module.function("axpy");
    const x = await context.allocate(1024);
    const y = await context.allocate(1024);
    driver.forget();
    await stream.write(
      x,
      Float32Array.from({ length: 256 }, (_, i) => i),
    );
    stream.fillWords(y, 0x3f800000);
    const args = [{ memory: x, offset: 16 }, { memory: y, offset: 32 }, { f32: 0.5 }, { i32: 8 }];
    stream.launch(axpy, launchOf({ grid: [3, 2], block: [64], sharedBytes: 96 }, args));
    const result = new Float32Array(24);
    await stream.read(y, result);
    expect([...result]).toEqual([
      ...Array<number>(8).fill(1),
      3,
      3.5,
      4,
      4.5,
      5,
      5.5,
      6,
      6.5,
      ...Array<number>(8).fill(1),
    ]);
    expect(driver.calls()).toEqual([
      "cuMemcpyHtoDAsync_v2",
      "cuStreamSynchronize",
      "cuMemsetD32Async",
      "cuLaunchKernel",
      "launch axpy 3 2 1 64 1 1 96, 24 bytes",
      "cuMemcpyDtoHAsync_v2",
      "cuStreamSynchronize",
    ]);
  });

  it("launches a kernel without parameters", async () => {
    const none = (await context.load(ptx)).function("none");
    driver.forget();
    stream.launch(none, launchOf({ grid: [2], block: [8] }, []));
    expect(driver.calls()).toEqual(["cuLaunchKernel", "launch none 2 1 1 8 1 1 0, 0 bytes"]);
  });

  it("says what a function takes and sets its shared memory", async () => {
    const fn = (await context.load(ptx)).function("axpy");
    expect(fn.usage()).toEqual({
      maxThreads: 100,
      sharedBytes: 101,
      constantBytes: 102,
      localBytes: 103,
      registers: 104,
      ptxVersion: 105,
      binaryVersion: 106,
      maxDynamicShared: 49152,
      parameterBytes: 24,
    });
    fn.setSharedLimit(200_000);
    expect(fn.usage().maxDynamicShared).toBe(200_000);
    expect(fn.occupancy(256)).toBe(8);
    expect(fn.occupancy(256, 150_000)).toBe(7);
    expect(() => fn.setSharedLimit(300_000)).toThrow(
      /CUDA_ERROR_INVALID_VALUE.*\(300000 bytes of shared memory\)/,
    );
  });

  it("copies by pinned memory without waiting", async () => {
    const pinned = await context.allocatePinned(64);
    const memory = await context.allocate(64);
    const other = await context.allocate(64);
    expect(pinned.buffer.byteLength).toBe(64);
    new Uint8Array(pinned.buffer).set([1, 2, 3, 4]);
    driver.forget();
    stream.upload(memory, { memory: pinned }, { offset: 8, bytes: 4 });
    stream.copy(other, memory, { offset: 0, fromOffset: 8, bytes: 4 });
    stream.fill(other, 9, { offset: 3, bytes: 1 });
    stream.download(other, { memory: pinned, offset: 60 }, { bytes: 4 });
    expect(driver.calls()).not.toContain("cuStreamSynchronize");
    await stream.synchronize();
    expect([...new Uint8Array(pinned.buffer, 60)]).toEqual([1, 2, 3, 9]);
    for (const m of [pinned, memory, other]) expect(m.dispose()).toBeUndefined();
    expect(pinned.buffer.byteLength).toBe(0);
  });

  it("measures time by events, and waits for them", async () => {
    const [start, end] = [context.event(), context.event()];
    expect(() => end.since(start)).toThrow(/CUDA_ERROR_INVALID_HANDLE/);
    stream.record(start);
    stream.record(end);
    stream.wait(end);
    await end.synchronize();
    expect(end.since(start)).toBe(1.5);
  });

  it("captures a graph and launches it again and again", async () => {
    const axpy = (await context.load(ptx)).function("axpy");
    const [x, y] = [await context.allocate(16), await context.allocate(16)];
    await stream.write(x, Float32Array.of(1, 2, 3, 4));
    const launch = launchOf({ grid: [1], block: [4] }, [
      { memory: x },
      { memory: y },
      { f32: 2 },
      { i32: 4 },
    ]);
    const graph = stream.capture(() => {
      stream.fillWords(y, 0);
      stream.launch(axpy, launch);
      stream.launch(axpy, launch);
    });
    expect(graph.nodes).toBe(3);
    // The graph keeps what it uses.
    expect(x.dispose()).toBeUndefined();
    const before = driver.alive()["memory"];
    for (let i = 0; i < 3; i++) stream.replay(graph);
    const result = new Float32Array(4);
    await stream.read(y, result);
    expect([...result]).toEqual([4, 8, 12, 16]);
    graph.dispose();
    expect(driver.alive()["memory"]).toBe((before ?? 0) - 1);
    expect(() => stream.replay(graph)).toThrow(expect.objectContaining({ code: "DISPOSED" }));
  });

  it("frees nothing while a stream is captured, and all of it afterwards", async () => {
    const [memory, pinned] = [await context.allocate(16), await context.allocatePinned(16)];
    const module = await context.load(ptx);
    const alive = driver.alive();
    const graph = stream.capture(() => {
      for (const gone of [memory, module, pinned]) expect(gone.dispose()).toBeUndefined();
      expect(driver.alive()).toEqual(alive);
      expect(() => context.synchronize()).toThrow(/cannot wait for a context while it is captured/);
      expect(() => stream.synchronize()).toThrow(/cannot wait for a stream while it is captured/);
      expect(() => stream.capture(() => undefined)).toThrow(/being captured already/);
    });
    expect(graph.nodes).toBe(0);
    await turns();
    const now = driver.alive();
    for (const kind of ["memory", "pinned", "module"])
      expect([kind, now[kind] ?? 0]).toEqual([kind, (alive[kind] ?? 0) - 1]);
  });

  it("throws a capture away where what it should hold throws", async () => {
    const memory = await context.allocate(16);
    const alive = driver.alive();
    expect(() =>
      stream.capture(() => {
        stream.fill(memory, 1);
        throw new Error("mine");
      }),
    ).toThrow("mine");
    expect(driver.alive()).toEqual(alive);
    const into = new Uint8Array(4);
    await stream.read(memory, into);
    expect([...into]).toEqual([0xa5, 0xa5, 0xa5, 0xa5]);
  });

  it("compiles with NVRTC", async () => {
    const nvrtc = await cuda.nvrtc();
    expect(await cuda.nvrtc()).toBe(nvrtc);
    expect(nvrtc).toMatchObject({ version: { major: 13, minor: 4 }, archs: [80, 90] });
    expect(nvrtc.identity).toMatch(/^nvrtc 13\.4 \(\d+ bytes\)$/);
    const {
      cubin,
      ptx: text,
      log,
    } = await nvrtc.compile("source", { arch: "sm_90a", options: ["--fmad=true"] });
    expect(new TextDecoder().decode(text ?? undefined)).toBe(
      ".version 8.0\n// --gpu-architecture=sm_90a\n// --ptxas-options=-v\n// --fmad=true\n",
    );
    expect([...(cubin ?? [])].slice(0, 4)).toEqual([0x7f, 0x45, 0x4c, 0x46]);
    expect(log).toBe("");
    expect((await nvrtc.compile("source", { arch: "compute_90" })).cubin).toBeNull();
    await context.load(cubin ?? new Uint8Array());
  });

  it("compiles several sources at a time, beside the host", async () => {
    const nvrtc = await cuda.nvrtc();
    driver.order("slow nvrtcCompileProgram 400");
    const start = performance.now();
    let ticks = 0;
    const timer = setInterval(() => ticks++, 10);
    await Promise.all([1, 2, 3].map((n) => nvrtc.compile(`${n}`, { arch: "sm_90" })));
    clearInterval(timer);
    driver.order();
    expect(performance.now() - start).toBeLessThan(1150);
    expect(ticks).toBeGreaterThan(3);
  });

  it("rejects what does not compile with the log", async () => {
    const nvrtc = await cuda.nvrtc();
    await expect(nvrtc.compile("#error", { arch: "sm_90", name: "attention.cu" })).rejects.toMatchObject({
      name: "CudaError",
      code: "NVRTC_ERROR_COMPILATION",
      call: "nvrtcCompileProgram",
      message: expect.stringContaining("by NVRTC 13.4: attention.cu(2): error: #error directive: no"),
      log: "attention.cu(1): warning: w\nattention.cu(2): error: #error directive: no\n",
    });
    await expect(nvrtc.compile("", { arch: "sm_90", options: ["--nonsense"] })).rejects.toMatchObject({
      code: "NVRTC_ERROR_INVALID_OPTION",
    });
    expect(driver.alive()["program"]).toBeUndefined();
  });

  it("did nothing that a driver would mind", () => {
    expect(driver.wrongs()).toEqual([]);
  });
});
