/** Objects end once: by dispose, with what they lie in, or when nothing holds them any more; and never while they are in use. */
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { beforeAll, describe, expect, it } from "vitest";
import { launchOf } from "../../runtime/cuda/arguments.ts";
import { openCuda } from "../../runtime/cuda/cuda.ts";
import type { Cuda } from "../../runtime/cuda/cuda.ts";
import type { CudaContext } from "../../runtime/cuda/context.ts";
import { cache, haveCompiler, stub, stubLibraries, turns } from "./stub.ts";

const ok = await haveCompiler();
const driver = stub();
const ptx = new TextEncoder().encode(".version 8.0\n");
setFlagsFromString("--expose-gc");
const collect = runInNewContext("gc") as () => void;

/** Collects until nothing of these kinds is alive, or gives up. */
async function collected(): Promise<{ readonly [kind: string]: number }> {
  for (let i = 0; i < 50 && Object.keys(driver.alive()).length > 0; i++) {
    collect();
    await turns(2);
  }
  return driver.alive();
}

describe.skipIf(!ok)("objects of CUDA", () => {
  let cuda: Cuda;
  beforeAll(async () => {
    const libraries = stubLibraries();
    cuda = await openCuda({
      driver: libraries.driver,
      nvrtc: libraries.nvrtc[13],
      build: { cache, flags: ["-Werror"] },
    });
  });

  /** One of each, all used. */
  async function everything(context: CudaContext): Promise<readonly { readonly dispose: () => unknown }[]> {
    const module = await context.load(ptx);
    const memory = await context.allocate(64);
    const pinned = await context.allocatePinned(64);
    const event = context.event();
    const stream = context.stream();
    const args = [{ memory }, { memory }, { f32: 1 }, { i32: 4 }];
    const launch = launchOf({ grid: [1], block: [32] }, args);
    const fn = module.function("axpy");
    const graph = stream.capture(() => {
      stream.launch(fn, launch);
      stream.upload(memory, { memory: pinned }, { bytes: 8 });
    });
    stream.replay(graph);
    stream.download(memory, { memory: pinned });
    stream.record(event);
    await stream.synchronize();
    return [module, memory, pinned, event, stream, graph];
  }

  it("1,000 rounds of making and disposing leave nothing alive", async () => {
    const context = await cuda.open();
    for (let i = 0; i < 1000; i++) {
      const objects = await everything(context);
      // In another order each time; twice, for that is harmless.
      for (let k = 0; k < 2 * objects.length; k++)
        expect(objects[(k * 5 + i) % objects.length]?.dispose()).toBeUndefined();
    }
    expect(context.dispose()).toBeUndefined();
    await turns();
    expect(driver.alive()).toEqual({});
    expect(driver.wrongs()).toEqual([]);
  });

  it("a context ends what was made in it", async () => {
    const context = await cuda.open();
    const stream = context.stream();
    const objects = [...(await everything(context)), stream];
    expect(context.dispose()).toBeUndefined();
    await turns();
    expect(driver.alive()).toEqual({});
    for (const o of objects) expect(o.dispose()).toBeUndefined();
    expect(() => context.stream()).toThrow(expect.objectContaining({ code: "DISPOSED" }));
    expect(() => stream.synchronize()).toThrow("the stream was disposed, or what it lay in");
    await expect(context.allocate(8)).rejects.toMatchObject({ code: "DISPOSED" });
  });

  it("a context ends also while one of its streams is captured", async () => {
    const context = await cuda.open();
    const stream = context.stream();
    const memory = await context.allocate(8);
    expect(() =>
      stream.capture(() => {
        stream.fill(memory, 1);
        expect(context.dispose()).toBeUndefined();
      }),
    ).toThrow(expect.objectContaining({ code: "DISPOSED" }));
    expect(driver.alive()).toEqual({});
    expect(driver.wrongs()).toEqual([]);
  });

  it("what nothing holds any more is freed by the collector", async () => {
    await (async () => {
      const context = await cuda.open();
      for (let i = 0; i < 100; i++) await everything(context);
    })();
    expect(await collected()).toEqual({});
    expect(driver.wrongs()).toEqual([]);
  });

  it("a memory keeps the context that nothing else holds", async () => {
    const made = async () => {
      const context = await cuda.open();
      return { memory: await context.allocate(16), stream: context.stream() };
    };
    await (async () => {
      const { memory, stream } = await made();
      for (let i = 0; i < 5; i++) {
        collect();
        await turns(2);
      }
      await stream.write(memory, new Uint8Array(16).fill(7));
      const into = new Uint8Array(16);
      await stream.read(memory, into);
      expect(into[15]).toBe(7);
      expect(driver.alive()).toEqual({ context: 1, memory: 1, stream: 1 });
      memory.dispose();
    })();
    expect(await collected()).toEqual({});
  });

  it("what is in use is freed when its use ends", async () => {
    const context = await cuda.open();
    const [memory, stream] = [await context.allocate(16), context.stream()];
    driver.order("slow cuMemcpyHtoDAsync_v2 100");
    const write = stream.write(memory, new Uint8Array(16));
    expect(memory.dispose()).toBeUndefined();
    expect(stream.dispose()).toBeUndefined();
    expect(context.dispose()).toBeUndefined();
    expect(driver.alive()).toEqual({ context: 1, memory: 1, stream: 1 });
    await write;
    driver.order();
    expect(driver.alive()).toEqual({});
    expect(driver.wrongs()).toEqual([]);
  });

  it("what is made in a context that ends meanwhile is refused", async () => {
    const context = await cuda.open();
    driver.order(...["cuMemAlloc_v2", "cuMemHostAlloc", "cuModuleLoadDataEx"].map((s) => `slow ${s} 50`));
    const making = [context.allocate(16), context.allocatePinned(16), context.load(ptx)];
    context.dispose();
    for (const result of await Promise.allSettled(making))
      expect(result).toMatchObject({ status: "rejected", reason: { code: "DISPOSED" } });
    driver.order();
    await turns();
    expect(driver.alive()).toEqual({});
  });

  it("the ArrayBuffer of pinned memory keeps it, however it is held", async () => {
    const context = await cuda.open();
    const buffer = (await context.allocatePinned(16)).buffer;
    context.dispose();
    await turns();
    expect(buffer.byteLength).toBe(0);
    expect(driver.alive()).toEqual({});
    const again = await cuda.open();
    const view = new Uint8Array((await again.allocatePinned(16)).buffer);
    for (let i = 0; i < 5; i++) {
      collect();
      await turns(2);
    }
    view.fill(1);
    expect(driver.alive()).toEqual({ context: 1, pinned: 1 });
    again.dispose();
    await turns();
    expect(view.length).toBe(0);
  });

  it("an array over pinned memory may be written from while that is disposed", async () => {
    const context = await cuda.open();
    const [memory, stream, pinned] = [
      await context.allocate(16),
      context.stream(),
      await context.allocatePinned(16),
    ];
    new Uint8Array(pinned.buffer).fill(5);
    driver.order("slow cuMemcpyHtoDAsync_v2 50");
    const write = stream.write(memory, new Uint8Array(pinned.buffer));
    pinned.dispose();
    await turns();
    expect(driver.alive()).toMatchObject({ pinned: 1 });
    await write;
    driver.order();
    const into = new Uint8Array(16);
    await stream.read(memory, into);
    expect(into[9]).toBe(5);
    expect(driver.alive()["pinned"]).toBeUndefined();
    context.dispose();
  });

  it("ending the driver ends all of its contexts, and NVRTC apart from it", async () => {
    const other = await openCuda({
      driver: stubLibraries().driver,
      nvrtc: stubLibraries().nvrtc[12],
      build: { cache, flags: ["-Werror"] },
    });
    const contexts = [await other.open(0), await other.open(0), await other.open(1)];
    for (const c of contexts) await everything(c);
    const nvrtc = await other.nvrtc();
    expect(other.dispose()).toBeUndefined();
    await turns();
    expect(driver.alive()).toEqual({});
    await nvrtc.compile("source", { arch: "sm_90" });
    nvrtc.dispose();
    await expect(nvrtc.compile("source", { arch: "sm_90" })).rejects.toMatchObject({ code: "DISPOSED" });
  });
});
