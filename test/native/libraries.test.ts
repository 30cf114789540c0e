/** Finding libcuda and libnvrtc, and saying what is missing. */
import { chmodSync, copyFileSync, mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { launchOf } from "../../runtime/cuda/arguments.ts";
import { openCompiler, openCuda } from "../../runtime/cuda/cuda.ts";
import { openDriver, openNvrtc } from "../../runtime/cuda/libraries.ts";
import { inspectCuda } from "../../runtime/cuda/report.ts";
import { driverPlaces, nvrtcPlaces } from "../../runtime/cuda/search.ts";
import type { Shim } from "../../runtime/cuda/shim.ts";
import { folder, heddle } from "../cli/session.ts";
import { cache, haveCompiler, stub, stubLibraries, testShim } from "./stub.ts";
import type { Libraries } from "./stub.ts";

const ok = await haveCompiler();
const driver = stub();
const here = folder();
afterAll(here.remove);

function file(path: string, text = ""): string {
  const at = here.at(path);
  mkdirSync(dirname(at), { recursive: true });
  writeFileSync(at, text);
  return at;
}

/** What a place with this in its name finds. */
async function found(
  name: string,
  env: Readonly<Record<string, string>>,
): Promise<readonly (readonly (string | null)[])[]> {
  const place = nvrtcPlaces(undefined, env).find((p) => p.name.includes(name));
  if (place === undefined) throw new Error(`no place ${name}`);
  return (await place.find()).map(({ path, builtins }) =>
    [path, builtins].map((p) => p && p.slice(here.path.length + 1)),
  );
}

describe("places of libnvrtc", () => {
  it("a toolkit's folder: the newest version, with the builtins of that version", async () => {
    const names =
      "libnvrtc.so.12 libnvrtc.so.12.4.127 libnvrtc.so.13 libnvrtc.so libnvrtc.alt.so.13 libnvrtc_static.a libnvrtc.so.13.sig " +
      "libnvrtc-builtins.so.12.4 libnvrtc-builtins.so.13.0 libnvrtc-builtins.alt.so.13.0";
    for (const name of names.split(" ")) file(`toolkit/lib64/${name}`);
    const expected = [
      ["toolkit/lib64/libnvrtc.so.13", "toolkit/lib64/libnvrtc-builtins.so.13.0"],
      ["toolkit/lib64/libnvrtc.so.12.4.127", "toolkit/lib64/libnvrtc-builtins.so.12.4"],
      ["toolkit/lib64/libnvrtc.so.12", "toolkit/lib64/libnvrtc-builtins.so.12.4"],
      ["toolkit/lib64/libnvrtc.so", "toolkit/lib64/libnvrtc-builtins.so.13.0"],
    ];
    const sorted = (rows: readonly unknown[]) => rows.map(String).sort();
    expect(sorted(await found("CUDA_PATH", { CUDA_PATH: here.at("toolkit") }))).toEqual(sorted(expected));
    const [first] = await found("CUDA_HOME", { CUDA_HOME: here.at("toolkit") });
    expect(first).toEqual(expected[0]);
    file("cross/targets/x86_64-linux/lib/libnvrtc.so.12");
    file("cross/targets/sbsa-linux/lib/libnvrtc.so.12");
    const machine = process.arch === "arm64" ? "sbsa-linux" : "x86_64-linux";
    expect(await found("CUDA_PATH", { CUDA_PATH: here.at("cross") })).toEqual([
      [`cross/targets/${machine}/lib/libnvrtc.so.12`, null],
    ]);
  });

  it("pip's packages in a virtual environment, conda's folder, and python3's own", async () => {
    const site = "venv/lib/python3.11/site-packages/nvidia";
    file(`${site}/cuda_nvrtc/lib/libnvrtc.so.12`);
    file(`${site}/cuda_nvrtc/lib/libnvrtc-builtins.so.12.8`);
    file(`${site}/cu13/lib/libnvrtc.so.13`);
    file(`${site}/cublas/lib/libcublas.so.12`);
    const expected = [
      [`${site}/cu13/lib/libnvrtc.so.13`, null],
      [`${site}/cuda_nvrtc/lib/libnvrtc.so.12`, `${site}/cuda_nvrtc/lib/libnvrtc-builtins.so.12.8`],
    ];
    expect(await found("site-packages", { VIRTUAL_ENV: here.at("venv") })).toEqual(expected);
    expect(await found("/venv/lib/python3*", { CONDA_PREFIX: here.at("venv") })).toEqual(expected);
    file("conda/lib/libnvrtc.so.12");
    expect(await found("conda/lib", { CONDA_PREFIX: here.at("conda"), VIRTUAL_ENV: "" })).toEqual([]);
    const conda = nvrtcPlaces(undefined, { CONDA_PREFIX: here.at("conda") }).find((p) =>
      p.name.endsWith("conda/lib"),
    );
    expect((await conda?.find())?.map((c) => c.path)).toEqual([here.at("conda/lib/libnvrtc.so.12")]);
    const python = file("bin/python3", `#!/bin/sh\necho ${here.at("venv/lib/python3.11/site-packages")}\n`);
    chmodSync(python, 0o755);
    expect(await found("python3's", { PATH: `${here.at("bin")}:/bin` })).toEqual(expected);
    expect(await found("python3's", { PATH: here.at("nothing") })).toEqual([]);
  });

  it("come in this order", () => {
    const names = nvrtcPlaces(undefined, { CUDA_PATH: "/p", CUDA_HOME: "/h", VIRTUAL_ENV: "/v" }).map(
      (p) => p.name,
    );
    expect(names).toEqual([
      "CUDA_PATH (/p)",
      "CUDA_HOME (/h)",
      "/usr/local/cuda*",
      "the loader's path",
      "/v/lib/python3*/site-packages/nvidia/*/lib",
      "python3's site-packages/nvidia/*/lib",
    ]);
    expect(nvrtcPlaces("/x", { CUDA_PATH: "/p" }).map((p) => p.name)).toEqual(["/x"]);
    expect(driverPlaces().map((p) => p.name)[0]).toBe("the loader's path");
  });
});

describe.skipIf(!ok)("opening libraries", () => {
  let libraries: Libraries;
  let shim: Shim;
  beforeAll(async () => {
    libraries = stubLibraries();
    ({ shim } = await testShim());
  });

  it("opens NVRTC 13 with its builtins, and 12, but not 11", async () => {
    const one = await openNvrtc(shim, { path: dirname(libraries.driver) });
    expect(one).toMatchObject({
      found: true,
      path: libraries.nvrtc[13],
      builtins: libraries.builtins,
      version: { major: 13, minor: 4 },
      archs: [80, 90],
    });
    expect(await openNvrtc(shim, { path: libraries.nvrtc[12] })).toMatchObject({
      found: true,
      version: { major: 12 },
    });
    expect(await openNvrtc(shim, { path: libraries.nvrtc[11] })).toMatchObject({
      found: false,
      code: "NO_LIBRARY",
      why: expect.stringMatching(/libnvrtc\.so\.11 is NVRTC 11\.4, and 12 or 13 is needed/),
    });
  });

  it("takes an NVRTC that the driver can load, and one too new only where there is no other", async () => {
    const env = { CUDA_PATH: here.at("both"), CUDA_HOME: here.at("new") };
    for (const name of ["both", "new"]) mkdirSync(here.at(name));
    for (const major of [12, 13] as const)
      copyFileSync(libraries.nvrtc[major], here.at(`both/libnvrtc.so.${major}`));
    symlinkSync(libraries.nvrtc[13], here.at("new/libnvrtc.so.13"));
    const version = async (wish: Parameters<typeof openNvrtc>[1]) => {
      const opened = await openNvrtc(shim, wish);
      return opened.found ? opened.version.major : opened.why;
    };
    expect(await version({ env })).toBe(13);
    expect(await version({ env, driver: { major: 13, minor: 0 } })).toBe(13);
    expect(await version({ env, driver: { major: 12, minor: 2 } })).toBe(12);
    expect(await version({ path: here.at("new"), driver: { major: 12, minor: 2 } })).toBe(13);
  });

  it("opens an old driver, which cannot say what a kernel's parameters take", async () => {
    const cuda = await openCuda({ driver: libraries.oldDriver, build: { cache, flags: ["-Werror"] } });
    const context = await cuda.open();
    const fn = (await context.load(new TextEncoder().encode(".version 7.0"))).function("other");
    expect(fn.usage().parameterBytes).toBe(-1);
    context.stream().launch(fn, launchOf({ grid: [1], block: [1] }, [{ i32: 1 }]));
    context.dispose();
  });

  it("says in one line that a library is missing, or is none", async () => {
    const wrong = file("libcuda.so.1", "not a library");
    const line = async (path: string) => {
      const opened = await openDriver(shim, path);
      return opened.found ? "found" : `${opened.code}: ${opened.why}: ${opened.repair}`;
    };
    expect(await line(here.at("nothing"))).toBe(
      `NO_LIBRARY: NVIDIA's driver library libcuda.so.1 was not found at ${here.at("nothing")}: ` +
        "install NVIDIA's driver, or start the container with its GPUs (--gpus all)",
    );
    expect(await line(here.path)).toMatch(
      /^NO_LIBRARY: libcuda does not start: dlopen: .*(ELF|too short).*: the file is/,
    );
    expect(await line(wrong)).toMatch(/^NO_LIBRARY: libcuda does not start/);
    expect(await line(libraries.other)).toMatch(
      /^NO_SYMBOL: libcuda does not start: dlsym: .*libother\.so has no function cuInit: it is too old, or another library: update/,
    );
    driver.order("fail cuInit 100");
    expect(await line(libraries.driver)).toMatch(
      /^CUDA_ERROR_NO_DEVICE: libcuda does not start: cuInit: CUDA_ERROR_NO_DEVICE: no CUDA-capable device is detected \(driver for CUDA 13\.0, .*\): no GPU is visible/,
    );
    driver.order("fail cuInit 999");
    expect(await line(libraries.driver)).toMatch(/look with nvidia-smi whether the driver works$/);
    driver.order();
    await expect(openCuda({ driver: here.at("nothing"), build: { cache } })).rejects.toMatchObject({
      name: "CudaError",
      code: "NO_LIBRARY",
      message: expect.stringMatching(
        /^openDriver: NVIDIA's driver library libcuda\.so\.1 was not found.*--gpus all\)$/,
      ),
    });
    await expect(openCompiler({ nvrtc: here.at("nothing"), build: { cache } })).rejects.toMatchObject({
      code: "NO_LIBRARY",
      message: expect.stringMatching(
        /^openNvrtc: NVIDIA's runtime compiler libnvrtc was not found.*: pip install/,
      ),
    });
    expect(await openNvrtc(shim, { path: libraries.other })).toMatchObject({
      found: false,
      why: expect.stringMatching(/libnvrtc cannot be used: .*has no function nvrtcGetErrorString/),
    });
  });

  const info = (...args: readonly string[]) => heddle(["cuda", "info", ...args], { HEDDLE_CACHE: cache });

  it("`heddle cuda info` says what is here", async () => {
    const { code, out, err } = await info("--driver", libraries.driver, "--nvrtc", dirname(libraries.driver));
    expect({ code, err }).toEqual({ code: 0, err: "" });
    expect(out).toMatch(/^driver +for CUDA 13\.0: .*libcuda\.so\.1$/m);
    expect(out).toMatch(
      /^nvrtc +13\.4: .*libnvrtc\.so\.13\n +builtins: .*builtins\.so\.13\.4\n +compiles for sm_80, sm_90$/m,
    );
    expect(out).toMatch(
      /^device 1 +Stub GPU 1: sm_90, 132 multiprocessors, 137 GB, 227 KiB of shared memory for a block$/m,
    );
    expect(out).toMatch(/Kernels can be compiled and run here\.\n$/);
  });

  it("`heddle cuda info` says what is missing, one line each, and ends well", async () => {
    const nothing = here.at("nothing");
    const { code, out, err } = await info("--driver", nothing, "--nvrtc", nothing);
    expect({ code, err }).toEqual({ code: 0, err: "" });
    expect(out).toMatch(
      /^driver +missing: NVIDIA's driver library libcuda\.so\.1 was not found at .*: install NVIDIA's driver.*$/m,
    );
    expect(out).toMatch(
      /^nvrtc +missing: NVIDIA's runtime compiler libnvrtc was not found at .*: pip install .*$/m,
    );
    expect(out).toMatch(/^devices +none$/m);
    const half = await info("--driver", nothing, "--nvrtc", libraries.nvrtc[12]);
    expect(half.out).toMatch(/Kernels can be compiled here, but not run\.\n$/);
    const json = JSON.parse((await info("--driver", nothing, "--nvrtc", nothing, "--json")).out) as object;
    expect(json).toMatchObject({
      driver: { found: false },
      nvrtc: { found: false },
      devices: [],
      problems: [/./, /./].map(() => expect.any(String)),
    });
  });

  it("without a compiler and a build says that alone", async () => {
    const { PATH } = process.env;
    process.env["PATH"] = here.at("nothing");
    const report = await inspectCuda({ build: { cache: here.at("empty") } });
    const { code, out } = await heddle(["cuda", "info"], { HEDDLE_CACHE: here.at("empty") });
    process.env["PATH"] = PATH;
    expect(report).toMatchObject({
      compiler: null,
      driver: null,
      nvrtc: null,
      shim: { code: "NO_COMPILER" },
    });
    expect(code).toBe(0);
    expect(out).toMatch(
      /^compiler +missing\nshim +missing: no C compiler was found .*\ndriver +not known without the shim$/m,
    );
  });

  it("leaves a driver as it was", () => {
    expect(driver.wrongs()).toEqual([]);
    expect(driver.alive()["program"]).toBeUndefined();
  });
});

it("tests know the stubs by the names that a system has", () => {
  if (ok) expect(join(dirname(stubLibraries().driver), "libcuda.so.1")).toBe(stubLibraries().driver);
});
