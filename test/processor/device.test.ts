/** The native device itself: what is kept on disk, what is refused, and one line where it cannot be. */
import { execFile } from "node:child_process";
import { readFileSync, readdirSync, statSync, truncateSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterEach, describe, expect, it } from "vitest";
import { buildKernels, buildTeam } from "../../runtime/cpu/build.ts";
import { widePanels } from "../../runtime/cpu/panels.ts";
import { loadShim } from "../../runtime/cpu/shim.ts";
import { nativeDevice } from "../../runtime/native.ts";
import type { Program } from "../../runtime/plan.ts";
import { packPanels } from "../../runtime/weights.ts";
import { heddle } from "../cli/session.ts";
import { folder } from "../cli/session.ts";
import { specOf } from "../webgpu/programs.ts";
import { host, only, shapes } from "./devices.ts";

const here = folder();
const { PATH } = process.env;
afterEach(() => {
  process.env["PATH"] = PATH;
});
let caches = 0;
const newCache = () => here.at(`own${caches++}`);
const files = (cache: string) => readdirSync(join(cache, "native")).sort();

const KERNEL = `typedef union { int i; float f; } word;
__attribute__((visibility("default"))) void twice(int begin, int end, char *scratch, void *const *buffers, const word *scalars) {
  const float *x = buffers[0];
  float *out = buffers[1];
  (void)scratch;
  for (int i = begin; i < end; i++) out[i] = 2 * x[i] + scalars[0].f + scalars[1].i;
}
`;

const [spec] = specOf(
  "attention a { heads 2 head_dim 8 branches segments [8, 16] dilations [1, 2] }",
).attentions;
if (spec === undefined) throw new Error("no attention");
const program = (): Program => only(spec, shapes[0] ?? "sse", { schedule: "branch", length: 40 });
const tensors = (N: number) => {
  const values = Float32Array.from({ length: N * 16 }, (_, i) => Math.sin(i));
  return { q: values, k: values, v: values };
};

describe.skipIf(host === null)("what is kept", { timeout: 60_000 }, () => {
  const at = (cache: string, source = KERNEL, flags: readonly string[] = ["-O0"]) => {
    if (host === null) throw new Error("no host");
    return buildKernels(cache, host, source, flags);
  };

  it("is compiled once for a source, flags, compiler and processor, and found again", async () => {
    if (host === null) throw new Error("no host");
    const cache = newCache();
    const [first, beside] = await Promise.all([at(cache), at(cache)]);
    expect(beside).toBe(first);
    expect(first.fresh).toBe(true);
    expect(await at(cache)).toEqual({ path: first.path, fresh: false, milliseconds: 0 });
    expect((await at(cache, `${KERNEL}\n`)).fresh).toBe(true);
    expect((await at(cache, KERNEL, ["-O0", "-g"])).fresh).toBe(true);
    expect((await buildKernels(cache, { ...host, identity: "another" }, KERNEL, ["-O0"])).fresh).toBe(true);
    const other = { ...host.compiler, version: "another" };
    expect((await buildKernels(cache, { ...host, compiler: other }, KERNEL, ["-O0"])).fresh).toBe(true);
    expect(files(cache)).toHaveLength(5);
    expect(statSync(join(cache, "native")).mode & 0o77).toBe(0);
  });

  it("is made anew where it was harmed", async () => {
    const cache = newCache();
    const { path } = await at(cache);
    const whole = readFileSync(path);
    truncateSync(path, whole.length - 100);
    expect(await at(cache)).toMatchObject({ path, fresh: true });
    expect(readFileSync(path).equals(whole)).toBe(true);
  });

  it("is shared by processes that begin at once, and none leaves anything behind", async () => {
    const cache = newCache();
    const built = fileURLToPath(new URL("../../dist/runtime/cpu/", import.meta.url));
    const text = `import { buildTeam } from ${JSON.stringify(`${built}build.js`)};
import { inspectHost } from ${JSON.stringify(`${built}host.js`)};
console.log((await buildTeam(${JSON.stringify(cache)}, await inspectHost())).path);`;
    const run = () => promisify(execFile)(process.execPath, ["--input-type=module", "-e", text]);
    const paths = (await Promise.all([run(), run(), run()])).map((r) => r.stdout.trim());
    expect(new Set(paths).size).toBe(1);
    expect(files(cache)).toHaveLength(1);
    expect(loadShim(paths[0] ?? "").team).toBeTypeOf("function");
  });

  it("says what the compiler said where a text is wrong", async () => {
    await expect(at(newCache(), "int x = ;")).rejects.toMatchObject({
      name: "DeviceError",
      code: "NO_NATIVE",
      message: expect.stringMatching(/^no native code: \S+ could not compile the kernels: .*error/) as string,
    });
  });
});

describe.skipIf(host === null)("the shim", { timeout: 60_000 }, () => {
  const open = async () => {
    if (host === null) throw new Error("no host");
    const cache = newCache();
    const shim = loadShim((await buildTeam(cache, host)).path);
    const library = shim.open((await buildKernels(cache, host, KERNEL, ["-O0"])).path);
    return { shim, library };
  };

  it("runs launches on any number of threads, in order, and refuses what does not fit", async () => {
    const { shim, library } = await open();
    const memory = shim.allocate(8192);
    const x = Float32Array.from({ length: 1000 }, (_, i) => i);
    shim.write(memory, 0, x);
    // out = 2 x + 0.5 + 3, then once more on itself.
    const launch = (grid: number, to = 4096) => [0, grid, 7, 2, 0, 0, 4000, 0, to, 4000, 2, 1, 0.5, 0, 3];
    const again = [0, 1000, 7, 2, 0, 4096, 4000, 0, 4096, 4000, 2, 1, 0.5, 0, 3];
    const numbers = (threads: number, ...rest: readonly number[]) =>
      Float64Array.from([threads, 0, 0, 0, ...rest]);
    for (const threads of [1, 2, 5]) {
      const team = shim.team(threads);
      expect(shim.threads(team)).toBe(threads);
      const job = shim.job(library, ["twice"], [memory], numbers(threads, ...launch(1000), ...again));
      const out = new Float32Array(1000);
      // Several runs of one team wait for each other.
      await Promise.all([shim.run(team, job), shim.run(team, job), shim.run(team, job)]);
      shim.read(memory, 4096, out);
      expect(out).toEqual(x.map((v) => 2 * (2 * v + 3.5) + 3.5));
      // What a run uses is kept until it ends.
      const running = shim.run(team, job);
      shim.dispose(job);
      shim.dispose(team);
      await running;
      expect(() => shim.run(team, job)).toThrow("the team was disposed");
    }
    const refused = (make: () => unknown, code: string) => {
      expect(make).toThrow(expect.objectContaining({ code }) as Error);
    };
    const job = (...rest: readonly number[]) => shim.job(library, ["twice"], [memory], numbers(1, ...rest));
    refused(() => job(...launch(1000, 4200)), "INVALID_ARGUMENT");
    refused(() => job(...launch(1000, 4094)), "INVALID_ARGUMENT");
    refused(() => job(1, ...launch(1000).slice(1)), "INVALID_ARGUMENT");
    refused(() => job(...launch(1000).slice(0, -1)), "INVALID_ARGUMENT");
    refused(() => job(...launch(-1)), "INVALID_ARGUMENT");
    refused(() => job(...launch(Number.NaN)), "INVALID_ARGUMENT");
    refused(() => shim.job(library, ["thrice"], [memory], numbers(1)), "NO_SYMBOL");
    refused(
      () => shim.job(library, ["twice"], [memory], Float64Array.from([2, 0, 8000, 100])),
      "INVALID_ARGUMENT",
    );
    refused(() => shim.write(memory, 8190, new Float32Array(1)), "INVALID_ARGUMENT");
    refused(() => shim.read(memory, -4, new Float32Array(1)), "INVALID_ARGUMENT");
    refused(() => shim.allocate(0), "INVALID_ARGUMENT");
    refused(() => shim.allocate(2 ** 52), "OUT_OF_MEMORY");
    shim.dispose(memory);
    shim.dispose(memory);
    refused(() => shim.read(memory, 0, new Float32Array(1)), "DISPOSED");
  });

  it("copies large arrays with all threads as with one", async () => {
    const { shim } = await open();
    const team = shim.team(3);
    const words = 1_500_001;
    const memory = shim.allocate(4 * words + 8);
    const from = Int32Array.from({ length: words }, (_, i) => i * 2654435761);
    shim.write(memory, 4, from, team);
    const into = new Int32Array(words);
    shim.read(memory, 4, into, team);
    expect(Buffer.from(into.buffer).equals(Buffer.from(from.buffer))).toBe(true);
    shim.dispose(team);
  });
});

describe.skipIf(host === null)("the device", { timeout: 60_000 }, () => {
  it("grows with N, keeps nothing from other lengths, and never blocks JavaScript", async () => {
    const device = await nativeDevice({ cache: newCache(), threads: 2, poison: true, flags: ["-O0"] });
    const executable = await device.compile(program());
    const small = await executable.run(tensors(40), { N: 40, B: 1 });
    const { total } = executable.memory();
    let turns = 0;
    const ticking = setInterval(() => turns++, 1);
    await executable.run(tensors(20_000), { N: 20_000, B: 1 });
    clearInterval(ticking);
    expect(turns).toBeGreaterThan(0);
    expect(executable.memory().total).toBeGreaterThan(total);
    const again = await executable.run(tensors(40), { N: 40, B: 1 });
    expect(again).toEqual(small);
    await expect(executable.run(tensors(40), { N: 41, B: 1 })).rejects.toMatchObject({ name: "InputError" });
    await expect(executable.run(tensors(40), { N: 0, B: 1 })).rejects.toMatchObject({ name: "InputError" });
    await expect(executable.run(tensors(1), { N: 2 ** 28, B: 1 })).rejects.toMatchObject({
      name: "InputError",
    });
    await expect(executable.setWeight(0, new Float32Array(1))).rejects.toThrow("has no weight 0");
    await device.dispose();
    await expect(executable.run(tensors(40), { N: 40, B: 1 })).rejects.toThrow("was disposed");
    await expect(device.compile(program())).rejects.toThrow("was disposed");
  });

  it("refuses a program without kernels for it, vectors that are not there, threads that are none", async () => {
    const cache = newCache();
    const device = await nativeDevice({ cache, threads: 1 });
    const { plan } = program();
    await expect(device.compile({ plan })).rejects.toMatchObject({ code: "LIMITS" });
    await device.dispose();
    await expect(nativeDevice({ cache, threads: 0 })).rejects.toThrow(/threads must be an integer from 1/);
    await expect(nativeDevice({ cache, flags: ["-mno-avx512f"], vectors: "avx512" })).rejects.toMatchObject({
      code: "NO_NATIVE",
    });
  });

  it("packs weights into wider panels element by element", () => {
    for (const [out, inputs, panel] of [[5, 3, 16], [40, 7, 32], [33, 2, 16], [64, 1, 8]] as const) {
      const rows = Float32Array.from({ length: out * inputs }, (_, i) => i + 1);
      const wide = widePanels(packPanels(rows, out, inputs), out, inputs, panel);
      expect(wide).toHaveLength(Math.ceil(out / panel) * panel * inputs);
      wide.forEach((value, at) => {
        const [p, k, j] = [Math.floor(at / (panel * inputs)), Math.floor(at / panel) % inputs, at % panel];
        const output = p * panel + j;
        expect(value).toBe(output < out ? rows[output * inputs + k] : 0);
      });
    } // prettier-ignore
  });
});

it("says in one line what is missing where there is no compiler", async () => {
  process.env["PATH"] = here.at("empty");
  const line = /no C compiler was found \(looked for cc, gcc, clang, c\+\+\): install one/;
  await expect(nativeDevice({ cache: newCache() })).rejects.toMatchObject({
    name: "DeviceError",
    code: "NO_NATIVE",
    message: expect.stringMatching(line) as string,
  });
  const { out } = await heddle(["devices"]);
  expect(out).toMatch(/^native +no +no C compiler was found/m);
});
