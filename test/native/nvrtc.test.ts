/** The real NVRTC, where this machine has it: `CUDA_PATH=… npx vitest run test/native/nvrtc.test.ts`. Needs no GPU. */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { kernelCache } from "../../runtime/cuda/cache.ts";
import { openCompiler } from "../../runtime/cuda/cuda.ts";
import { readLog } from "../../runtime/cuda/nvrtc.ts";
import type { Nvrtc } from "../../runtime/cuda/nvrtc.ts";
import { folder } from "../cli/session.ts";
import { missing } from "../webgpu/require.ts";
import { cache, haveCompiler } from "./stub.ts";

const ok = await haveCompiler();
let nvrtc: Nvrtc | null = null;
const here = folder();
beforeAll(async () => {
  if (!ok) return;
  try {
    nvrtc = await openCompiler({ build: { cache, flags: ["-Werror"] } });
    console.log(`NVRTC ${nvrtc.version.major}.${nvrtc.version.minor} at ${nvrtc.path}`);
  } catch (error) {
    missing("nvrtc", (error as Error).message);
  }
});
afterAll(here.remove);

const axpy = `
extern "C" __global__ void axpy(const float *x, float *y, float a, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) y[i] += a * x[i];
}
extern "C" __global__ void turn(float *x) {
  __shared__ float tile[256];
  tile[threadIdx.x] = x[threadIdx.x];
  __syncthreads();
  x[threadIdx.x] = tile[255 - threadIdx.x];
}
`;

describe.skipIf(!ok)("NVRTC", () => {
  it("compiles to PTX and cubin, and says what each kernel takes", async ({ skip }) => {
    if (nvrtc === null) return skip();
    const arch = `sm_${nvrtc.archs.includes(90) ? "90a" : nvrtc.archs.at(-1)}`;
    const { cubin, ptx, log, usage } = await nvrtc.compile(axpy, { arch });
    const text = new TextDecoder().decode(ptx ?? undefined);
    expect(text).toMatch(new RegExp(`\\.target ${arch}\\b`));
    expect(text).toMatch(/\.entry axpy/);
    expect(text.endsWith("\0")).toBe(false);
    expect([...(cubin ?? [])].slice(0, 4)).toEqual([0x7f, 0x45, 0x4c, 0x46]);
    expect(log).toBe("");
    expect(usage.map((u) => u.kernel).sort()).toEqual(["axpy", "turn"]);
    for (const u of usage) expect(u).toMatchObject({ stackBytes: 0, spillStoreBytes: 0, spillLoadBytes: 0 });
    expect(usage.find((u) => u.kernel === "turn")).toMatchObject({ sharedBytes: 1024, barriers: 1 });
    expect(usage.every((u) => u.registers > 0 && u.registers < 64)).toBe(true);
  });

  it("gives PTX alone for a virtual architecture", async ({ skip }) => {
    if (nvrtc === null) return skip();
    const { cubin, ptx, usage } = await nvrtc.compile(axpy, { arch: `compute_${nvrtc.archs[0]}` });
    expect(cubin).toBeNull();
    expect(ptx?.length).toBeGreaterThan(200);
    expect(usage).toEqual([]);
  });

  it("rejects what does not compile, with the place", async ({ skip }) => {
    if (nvrtc === null) return skip();
    const arch = `sm_${nvrtc.archs[0]}`;
    await expect(
      nvrtc.compile('extern "C" __global__ void k() {\n  nonsense();\n}', { arch, name: "k.cu" }),
    ).rejects.toMatchObject({
      code: "NVRTC_ERROR_COMPILATION",
      message: expect.stringMatching(/by NVRTC 1\d\.\d+: k\.cu\(2\): error: .*nonsense/),
      log: expect.stringMatching(/1 error detected/),
    });
    await expect(nvrtc.compile(axpy, { arch: "sm_1" })).rejects.toMatchObject({
      code: "NVRTC_ERROR_INVALID_OPTION",
    });
    const warned = await nvrtc.compile('extern "C" __global__ void k() { int unused; }', { arch });
    expect(warned.log).toMatch(/warning.*never referenced/);
    expect(warned.usage).toHaveLength(1);
  });

  it("compiles several at a time, and once for all that ask through the cache", async ({ skip }) => {
    if (nvrtc === null) return skip();
    const kernels = kernelCache({ folder: here.at("kernels") });
    const compiler = nvrtc;
    const arch = `sm_${nvrtc.archs[0]}`;
    const start = performance.now();
    const all = await Promise.all(
      Array.from({ length: 8 }, (_, i) =>
        kernels.compile(compiler, axpy.replace("axpy", `axpy${i % 4}`), { arch }),
      ),
    );
    console.log(`NVRTC: 4 small kernels in ${(performance.now() - start).toFixed(0)} ms`);
    expect(all.map((k) => k.from)).toEqual(Array(8).fill("compiler"));
    const again = await kernels.compile(compiler, axpy.replace("axpy", "axpy2"), { arch });
    expect(again).toEqual({ ...all[2], from: "disk" });
  });
});

describe("the log", () => {
  it("is parted into what ptxas says of kernels and the rest", () => {
    const { log, usage } = readLog(
      [
        "k.cu(3): warning #177-D: variable never referenced",
        "ptxas info    : 0 bytes gmem, 16 bytes cmem[4]",
        "ptxas info    : Compiling entry function 'a' for 'sm_80'",
        "ptxas info    : Function properties for a",
        "ptxas         .     24 bytes stack frame, 20 bytes spill stores, 28 bytes spill loads",
        "ptxas info    : Used 255 registers, used 2 barriers, 24 bytes cumulative stack size, 49152 bytes smem, 400 bytes cmem[0]",
        "ptxas info    : Compile time = 2.377 ms",
        "ptxas info    : Compiling entry function 'b' for 'sm_80'",
        "ptxas info    : Function properties for b",
        "    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads",
        "ptxas info    : Used 10 registers, 372 bytes cmem[0]",
        "ptxas warning : something",
        "",
      ].join("\n"),
    );
    expect(usage).toEqual([
      {
        kernel: "a",
        registers: 255,
        barriers: 2,
        sharedBytes: 49152,
        stackBytes: 24,
        spillStoreBytes: 20,
        spillLoadBytes: 28,
      },
      {
        kernel: "b",
        registers: 10,
        barriers: 0,
        sharedBytes: 0,
        stackBytes: 0,
        spillStoreBytes: 0,
        spillLoadBytes: 0,
      },
    ]);
    expect(log).toBe("k.cu(3): warning #177-D: variable never referenced\nptxas warning : something");
  });
});
