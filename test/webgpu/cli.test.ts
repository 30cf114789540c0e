/** `--device webgpu` as a stranger would use it in Node, and what is said where WebGPU is missing. */
import { execFile } from "node:child_process";
import { cpSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { afterAll, describe, expect, it } from "vitest";
import { memorySource, readHeader, readTensor } from "../../runtime/safetensors.ts";
import { compare } from "../../src/tolerance.ts";
import { folder, heddle } from "../cli/session.ts";
import { attentionCases, goldenPath, goldenTensors, manifest, modelCases, tensor } from "../golden.ts";
import { slideInputs, slideSpec } from "../slides.ts";
import { webgpuThere } from "./gpu.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));
const here = folder();
afterAll(here.remove);
const there = await webgpuThere();
const models = await modelCases();

/** A software GPU compiles for most of a run's time, so of slides and models some run unless `HEDDLE_GOLDEN` is `all`. */
const all = process.env["HEDDLE_GOLDEN"] === "all";
const BY_HAND = "only with HEDDLE_GOLDEN=all";
const SLIDES = ["g1_tiny_n200, pool class", "g2_tiny_n1500, pool mean"];
const MODELS = ["d4_decoder_xpos_misaligned"];
const worst: string[] = [];
afterAll(() => console.log(`run --device webgpu, worst of scale: ${worst.join(", ")}`));

async function read(path: string, name: string): Promise<Float32Array> {
  const source = memorySource(readFileSync(path), path);
  const entry = (await readHeader(source)).tensors.get(name);
  if (entry === undefined) throw new Error(`${path} has no '${name}'`);
  return Float32Array.from(await readTensor(source, entry));
}

describe.skipIf(!there)("--device webgpu", () => {
  it("exec gives torchscale's numbers", async () => {
    const cases = await attentionCases();
    // Ragged and causal, and the shape of GigaPath.
    for (const c of cases.filter((x) => /^a(05|22)_/.test(x.id))) {
      const { heads, headDim, causal, branches } = c.spec;
      const [spec, output] = [here.at(`${c.id}.heddle`), here.at(`${c.id}.out`)];
      const lists = `segments [${branches.map((b) => b.segment).join(", ")}] dilations [${branches.map((b) => b.dilation).join(", ")}]`;
      writeFileSync(
        spec,
        `attention golden { heads ${heads} head_dim ${headDim} causal ${causal} compat torchscale branches ${lists} }`,
      );
      const files = ["--inputs", goldenPath(c.file), "--output", output];
      const ended = await heddle(["exec", spec, "golden", ...files, "--device", "webgpu"]);
      expect(ended, ended.err).toMatchObject({ code: 0 });
      expect(compare(await read(output, "out"), c.out, { dtype: "f32", terms: c.N })).toMatchObject({
        ok: true,
      });
    }
  });

  const slides = manifest.gigapath.flatMap((slide) =>
    (["class", "mean"] as const).map((pool) => ({ slide, pool, title: `${slide.id}, pool ${pool}` })),
  );
  it.for(slides)("run gives Prov-GigaPath's slide $title", { timeout: 300_000 }, async (c, { skip }) => {
    const { slide, pool, title } = c;
    skip(!all && !SLIDES.includes(title), BY_HAND);
    const io = await goldenTensors(slide.io);
    const [spec, inputs, output] = [here.at("slide.heddle"), here.at("slide.in"), here.at("slide.out")];
    writeFileSync(spec, slideSpec(slide, pool));
    writeFileSync(inputs, slideInputs(slide, io));
    const files = ["--weights", goldenPath(slide.weights), "--inputs", inputs, "--output", output];
    const ended = await heddle(["run", spec, "slide", ...files, "--device", "webgpu"]);
    expect(ended, ended.err).toMatchObject({ code: 0 });
    const name = pool === "class" ? "cls" : "pool";
    const terms = slide.encoder.layers * slide.encoder.ffn;
    for (const [tensorName, golden] of [
      ["out", `out_${name}`],
      ["states", `all_layers_${name}`],
    ] as const) {
      const verdict = compare(await read(output, tensorName), tensor(io, golden), { dtype: "f32", terms });
      worst.push(`${title} ${tensorName} ${(verdict.worst / verdict.scale).toExponential(1)}`);
      expect(verdict, tensorName).toMatchObject({ ok: true });
    }
  });

  it.for(models)("import and run give torchscale's $id", { timeout: 300_000 }, async (c, { skip }) => {
    skip(!all && !MODELS.includes(c.id), BY_HAND);
    const entry = manifest.models.find((m) => m.id === c.id);
    const [config, spec, output] = [here.at("model.json"), here.at("model.heddle"), here.at("model.out")];
    const architecture = c.spec.kind === "decoder" ? "LongNetDecoder" : "LongNetEncoder";
    writeFileSync(config, JSON.stringify({ ...entry?.config, architecture }));
    const weights = ["--weights", goldenPath(c.weightsFile)];
    const made = await heddle(["import", config, "--name", "golden", "--stdout", ...weights]);
    expect(made, made.err).toMatchObject({ code: 0 });
    writeFileSync(spec, made.out);
    const files = [...weights, "--inputs", goldenPath(entry?.io ?? ""), "--output", output];
    const ended = await heddle(["run", spec, "golden", ...files, "--hidden", "--device", "webgpu"]);
    expect(ended, ended.err).toMatchObject({ code: 0 });
    const terms = c.spec.layers * c.spec.ffn.dim;
    for (const name of ["logits", "hidden"] as const) {
      const verdict = compare(await read(output, name), c[name], { dtype: "f32", terms });
      worst.push(`${c.id} ${name} ${(verdict.worst / verdict.scale).toExponential(1)}`);
      expect(verdict, name).toMatchObject({ ok: true });
    }
  });

  it(
    "run gives the jargon model's bits per byte, those of WebAssembly to 0.002",
    { timeout: 240_000 },
    async () => {
      const text = readFileSync(`${root}examples/jargon/jargon.txt`).subarray(1_597_726, 1_597_726 + 1500);
      writeFileSync(here.at("text"), text);
      const files = ["--weights", `${root}examples/jargon/jargon.safetensors`, "--text", here.at("text")];
      const bits = async (device: string) => {
        const args = [...files, "--bits", "--window", "1024", "--json", "--device", device];
        const { code, out, err } = await heddle(["run", `${root}examples/jargon.heddle`, "jargon", ...args]);
        expect(code, err).toBe(0);
        return (JSON.parse(out) as { bits: number }).bits;
      };
      const [gpu, wasm] = [await bits("webgpu"), await bits("wasm")];
      console.log(
        `jargon, 1500 bytes: ${gpu.toFixed(6)} bits per byte on WebGPU, ${wasm.toFixed(6)} on WebAssembly`,
      );
      expect(Math.abs(gpu - wasm)).toBeLessThan(0.002);
      expect(gpu).toBeGreaterThan(1.5);
      expect(gpu).toBeLessThan(3.5);
    },
  );
});

/** What a fresh Node prints that asks `heddle/runtime` for a WebGPU device. */
async function fresh(at: string, env: Readonly<Record<string, string>>): Promise<string> {
  const program = `import { webgpuDevice } from ${JSON.stringify(`${at}/runtime/webgpu.js`)};
import { vulkanDrivers } from ${JSON.stringify(`${at}/runtime/node.js`)};
await webgpuDevice({ drivers: vulkanDrivers }).then(
  (d) => console.log("found", d.detail),
  (e) => console.log(e.name, e.code, e.message),
);
process.exit(0);`;
  writeFileSync(here.at("ask.mjs"), program);
  const { PATH = "" } = process.env;
  const run = promisify(execFile)(process.execPath, [here.at("ask.mjs")], { env: { PATH, ...env } });
  return (await run).stdout;
}

describe("where it is missing", () => {
  it("says how to install the package", async () => {
    // A copy outside of the project finds no `webgpu`.
    mkdirSync(here.at("alone"));
    cpSync(`${root}dist/runtime`, here.at("alone/runtime"), { recursive: true });
    writeFileSync(here.at("alone/package.json"), '{ "type": "module" }');
    const text = await fresh(here.at("alone"), {});
    expect(text).toMatch(/^DeviceError NO_WEBGPU Node has no WebGPU of its own.* npm install webgpu$/m);
  });

  it("says which drivers were looked for and where", async () => {
    const text = await fresh(`${root}dist`, { VK_DRIVER_FILES: "/nowhere/icd.json" });
    expect(text).toMatch(/^DeviceError NO_ADAPTER WebGPU has no adapter here/m);
    expect(text).toContain("Drivers found: none");
    expect(text).toContain("/nowhere/icd.json");
    expect(text).toContain("apt install chromium");
  });

  it("a program that was not compiled for it says so", async () => {
    const { readSpec, compileSpec } = await import("../../src/compile.ts");
    const { openDevice } = await import("../../runtime/open.ts");
    const { spec } = readSpec("attention a { heads 1 head_dim 4 branch segment all dilation 1 }");
    if (spec === null) throw new Error("valid");
    const [wasm] = compileSpec(spec, { target: "wasm" });
    const [wgsl] = compileSpec(spec, { target: "wgsl" });
    if (wasm === undefined || wgsl === undefined) throw new Error("two programs");
    await expect(openDevice(wasm.program, { device: "webgpu" })).rejects.toThrow(
      /compile it with --kernels wgsl/,
    );
    await expect(openDevice(wgsl.program, { device: "wasm" })).rejects.toThrow(/compiled for WebGPU only/);
  });
});
