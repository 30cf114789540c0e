/** Kernels on disk: kept whole, told apart by all that made them, made anew when harmed. */
import { execFile } from "node:child_process";
import {
  appendFileSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  renameSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { promisify } from "node:util";
import { afterAll, beforeEach, describe, expect, it } from "vitest";
import { kernelCache, kernelDigest } from "../../runtime/cuda/cache.ts";
import type { KernelKey } from "../../runtime/cuda/cache.ts";
import type { Compiled, Nvrtc } from "../../runtime/cuda/nvrtc.ts";
import { folder } from "../cli/session.ts";

const here = folder();
afterAll(here.remove);

const bytes = (...values: readonly number[]) => Uint8Array.from(values);
const usage = [
  {
    kernel: "k",
    registers: 40,
    stackBytes: 0,
    spillStoreBytes: 0,
    spillLoadBytes: 0,
    sharedBytes: 8,
    barriers: 1,
  },
];
const kernel: Compiled = { cubin: bytes(1, 10, 0, 255), ptx: bytes(46, 10), log: "warning: ü\n", usage };
const key: KernelKey = {
  source: "source",
  compiler: "nvrtc 13.0",
  options: { arch: "sm_90a", options: ["-O3"] },
};

/** NVRTC that counts. */
function compiler(identity = "nvrtc 13.0", result: Compiled = kernel) {
  const made: string[] = [];
  const nvrtc: Nvrtc = {
    path: "",
    builtins: null,
    version: { major: 13, minor: 0 },
    archs: [],
    identity,
    compile: async (source) => {
      await new Promise((r) => setTimeout(r, 5));
      made.push(source);
      return result;
    },
    dispose: () => undefined,
  };
  return { nvrtc, made };
}

let count = 0;
let at = "";
beforeEach(() => {
  at = here.at(`kernels${count++}`);
});

describe("the cache of kernels", () => {
  it("gives back what was put, whatever parts it has", async () => {
    const cache = kernelCache({ folder: at });
    expect(await cache.get(key)).toBeNull();
    for (const one of [
      kernel,
      { ...kernel, cubin: null },
      { ...kernel, ptx: null, log: "", usage: [] },
      { ...kernel, cubin: bytes(), ptx: bytes() },
    ]) {
      await cache.put(key, one);
      expect(await cache.get(key)).toEqual(one);
    }
    expect(readdirSync(at)).toEqual([`${kernelDigest(key)}.kernel`]);
  });

  it("tells apart source, compiler, architecture, options and name", () => {
    const { options } = key;
    const keys: readonly KernelKey[] = [
      key,
      { ...key, source: "other" },
      { ...key, compiler: "nvrtc 12.4" },
      { ...key, options: { ...options, arch: "sm_90" } },
      { ...key, options: { ...options, options: ["-O3", "--fmad=false"] } },
      { ...key, options: { ...options, options: ["-O3--fmad=false"] } },
      { ...key, options: { ...options, options: [] } },
      { ...key, options: { ...options, name: "k.cu" } },
      { ...key, source: "source10:nvrtc 13.0", compiler: "" },
    ];
    expect(new Set(keys.map(kernelDigest)).size).toBe(keys.length);
    expect(kernelDigest({ ...key })).toBe(kernelDigest(key));
  });

  it("compiles once: then it is on disk, for others too", async () => {
    const { nvrtc, made } = compiler();
    const cache = kernelCache({ folder: at });
    const all = await Promise.all([1, 2, 3].map(() => cache.compile(nvrtc, "s", { arch: "sm_90" })));
    expect(all.map((k) => k.from)).toEqual(["compiler", "compiler", "compiler"]);
    expect(made).toEqual(["s"]);
    expect(await kernelCache({ folder: at }).compile(nvrtc, "s", { arch: "sm_90" })).toEqual({
      ...kernel,
      from: "disk",
    });
    await cache.compile(compiler("nvrtc 12.4").nvrtc, "s", { arch: "sm_90" });
    expect(readdirSync(at)).toHaveLength(2);
  });

  it("does not keep what failed", async () => {
    const cache = kernelCache({ folder: at });
    const failing: Nvrtc = { ...compiler().nvrtc, compile: () => Promise.reject(new Error("no")) };
    await expect(cache.compile(failing, "s", { arch: "sm_90" })).rejects.toThrow("no");
    const { nvrtc } = compiler();
    expect((await cache.compile(nvrtc, "s", { arch: "sm_90" })).from).toBe("compiler");
  });

  it("makes anew what was harmed in any way", async () => {
    const { nvrtc } = compiler();
    const cache = kernelCache({ folder: at });
    const compile = async () => (await cache.compile(nvrtc, "s", { arch: "sm_90" })).from;
    await compile();
    const file = cache.fileOf({ source: "s", compiler: nvrtc.identity, options: { arch: "sm_90" } });
    const good = readFileSync(file);
    expect(await compile()).toBe("disk");
    for (let cut = 0; cut < good.length; cut += 7) {
      truncateSync(file, cut);
      expect(await compile()).toBe("compiler");
      expect(readFileSync(file)).toEqual(good);
    }
    for (let i = 0; i < good.length; i += 5) {
      const harmed = Buffer.from(good);
      harmed[i] = (harmed[i] ?? 0) ^ 1;
      writeFileSync(file, harmed);
      expect(await compile()).toBe("compiler");
    }
    appendFileSync(file, "x");
    expect(await compile()).toBe("compiler");
    expect(await compile()).toBe("disk");
  });

  it("minds an entry that has another's name", async () => {
    const { nvrtc } = compiler();
    const cache = kernelCache({ folder: at });
    const [one, two] = ["one", "two"].map((source) => ({
      source,
      compiler: nvrtc.identity,
      options: { arch: "sm_90" },
    }));
    if (one === undefined || two === undefined) throw new Error("two keys");
    await cache.put(one, kernel);
    copyFileSync(cache.fileOf(one), cache.fileOf(two));
    expect(await cache.get(two)).toBeNull();
    expect(await cache.get(one)).toEqual(kernel);
  });

  it("serves without a folder that can be written, and says so", async () => {
    writeFileSync(at, "a file");
    const problems: unknown[] = [];
    const cache = kernelCache({ folder: at, problem: (e) => problems.push(e) });
    const { nvrtc, made } = compiler();
    for (let i = 0; i < 2; i++)
      expect(await cache.compile(nvrtc, "s", { arch: "sm_90" })).toEqual({ ...kernel, from: "compiler" });
    expect(made).toHaveLength(2);
    expect(problems).toHaveLength(2);
  });

  it("is never seen torn by others of the same process", async () => {
    const [writer, reader] = [kernelCache({ folder: at }), kernelCache({ folder: at })];
    const large = (n: number): Compiled => ({ ...kernel, cubin: new Uint8Array(50_000).fill(n) });
    await writer.put(key, large(0));
    let [reads, torn] = [0, 0];
    await Promise.all([
      ...[1, 2, 3].map(async (n) => {
        for (let i = 0; i < 30; i++) await writer.put(key, large(n));
      }),
      (async () => {
        for (; reads < 100; reads++) {
          const got = await reader.get(key);
          if (got?.cubin === null || got?.cubin.some((b) => b !== got.cubin?.[0]) !== false) torn++;
        }
      })(),
    ]);
    expect([reads, torn]).toEqual([100, 0]);
    expect(readdirSync(at)).toHaveLength(1);
  });

  it.skipIf(!existsSync(resolve("dist/runtime/cuda/cache.js")))("is shared by processes", async () => {
    const script = `
      const { kernelCache } = await import(${JSON.stringify(pathToFileURL(resolve("dist/runtime/cuda/cache.js")).href)});
      const cache = kernelCache({ folder: process.argv[1] });
      let wrong = 0;
      for (let i = 0; i < 60; i++) {
        const key = { source: String(i % 3), compiler: "c", options: { arch: "sm_90" } };
        await cache.put(key, { cubin: new Uint8Array(20000).fill(i % 3), ptx: null, log: "", usage: [] });
        const got = await cache.get(key);
        if (got === null || got.cubin.length !== 20000 || got.cubin.some((b) => b !== i % 3)) wrong++;
      }
      console.log(wrong);`;
    const run = () => promisify(execFile)(process.execPath, ["--input-type=module", "-e", script, at]);
    const all = await Promise.all(Array.from({ length: 4 }, run));
    expect(all.map((r) => r.stdout)).toEqual(["0\n", "0\n", "0\n", "0\n"]);
    expect(readdirSync(at)).toHaveLength(3);
  });

  it("may be emptied while it is used", async () => {
    const { nvrtc } = compiler();
    const cache = kernelCache({ folder: at });
    await cache.compile(nvrtc, "s", { arch: "sm_90" });
    renameSync(at, `${at}.old`);
    expect((await cache.compile(nvrtc, "s", { arch: "sm_90" })).from).toBe("compiler");
    rmSync(at, { recursive: true });
    mkdirSync(at);
    expect((await cache.compile(nvrtc, "s", { arch: "sm_90" })).from).toBe("compiler");
  });
});
