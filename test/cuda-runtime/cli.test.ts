/** CUDA at the command line, on the executing stub: exec, run, verify, devices; and what is said where a part is missing. */
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { afterAll, describe, expect, it } from "vitest";
import { memorySource, readHeader, readTensor, writeSafetensors } from "../../runtime/safetensors.ts";
import { compare } from "../../src/tolerance.ts";
import { folder, heddle as plainHeddle, noise, tiny, tinyModel } from "../cli/session.ts";
import { attentionCases, goldenPath } from "../golden.ts";
import { cache } from "../native/stub.ts";
import { executing } from "./stub.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));
const here = folder();
afterAll(here.remove);
const parts = await executing();
const before = process.env["CUDA_PATH"];
// NVRTC is looked for in the environment of the process.
if (parts !== null) process.env["CUDA_PATH"] = parts.folder;
afterAll(() => {
  if (before === undefined) delete process.env["CUDA_PATH"];
  else process.env["CUDA_PATH"] = before;
});
const env = {
  HEDDLE_LIBCUDA: parts?.driver ?? "",
  HEDDLE_LIBCUBLASLT: parts?.cublasLt ?? "",
  HEDDLE_CACHE: `${parts?.folder ?? here.path}/cli`,
};
const heddle = (argv: readonly string[], more = {}) => plainHeddle(argv, { ...env, ...more });
writeFileSync(here.at("tiny.heddle"), tiny);
writeFileSync(here.at("model.heddle"), tinyModel);
writeFileSync(
  here.at("qkv"),
  writeSafetensors(
    ["q", "k", "v"].map((name, i) => ({ name, dtype: "F32", shape: [1, 5, 2, 8], data: noise(80, i) })),
  ),
);

describe.skipIf(parts === null)("--device cuda", () => {
  it.each(["cuda", "auto"])("exec gives torchscale's numbers: %s", async (device) => {
    const cases = await attentionCases();
    for (const c of cases.filter((x) => /^a(05|22)_/.test(x.id))) {
      const { heads, headDim, causal, branches } = c.spec;
      const [spec, output] = [here.at(`${c.id}.heddle`), here.at(`${c.id}.out`)];
      const lists = `segments [${branches.map((b) => b.segment).join(", ")}] dilations [${branches.map((b) => b.dilation).join(", ")}]`;
      writeFileSync(
        spec,
        `attention golden { heads ${heads} head_dim ${headDim} causal ${causal} compat torchscale branches ${lists} }`,
      );
      const files = ["--inputs", goldenPath(c.file), "--output", output];
      const ended = await heddle(["exec", spec, "golden", ...files, "--device", device]);
      expect(ended, ended.err).toMatchObject({ code: 0 });
      const source = memorySource(readFileSync(output), output);
      const entry = (await readHeader(source)).tensors.get("out");
      if (entry === undefined) throw new Error("no out");
      const out = Float32Array.from(await readTensor(source, entry));
      expect(compare(out, c.out, { dtype: "f32", terms: c.N })).toMatchObject({ ok: true });
    }
  });

  it(
    "run gives the jargon model's bits per byte, those of WebAssembly to 0.002",
    { timeout: 300_000 },
    async () => {
      const text = readFileSync(`${root}examples/jargon/jargon.txt`).subarray(1_597_726, 1_597_726 + 300);
      writeFileSync(here.at("text"), text);
      const files = ["--weights", `${root}examples/jargon/jargon.safetensors`, "--text", here.at("text")];
      const bits = async (device: string) => {
        const args = [...files, "--bits", "--window", "256", "--json", "--device", device];
        const { code, out, err } = await heddle(["run", `${root}examples/jargon.heddle`, "jargon", ...args]);
        expect(code, err).toBe(0);
        return (JSON.parse(out) as { bits: number }).bits;
      };
      const [gpu, wasm] = [await bits("cuda"), await bits("wasm")];
      console.log(
        `jargon, 300 bytes: ${gpu.toFixed(6)} bits per byte on CUDA, ${wasm.toFixed(6)} on WebAssembly`,
      );
      expect(Math.abs(gpu - wasm)).toBeLessThan(0.002);
    },
  );

  it("verify compares every kernel, by launches and by graphs", { timeout: 300_000 }, async () => {
    for (const [spec, linear] of [
      ["tiny.heddle", "own"],
      ["model.heddle", "cublaslt"],
    ] as const) {
      const args = [
        "verify",
        here.at(spec),
        "--device",
        "cuda",
        "--length",
        "1,9,32",
        "--seed",
        "4",
        "--linear",
        linear,
        "--json",
      ];
      const { code, out, err } = await heddle(args);
      expect({ code, err }).toEqual({ code: 0, err: "" });
      const { rows, ok } = JSON.parse(out) as { ok: boolean; rows: { device: string; kernel: string }[] };
      expect(ok).toBe(true);
      const devices = [...new Set(rows.map((r) => r.device))];
      expect(devices).toEqual([
        expect.stringMatching(
          linear === "own" ? /^CUDA Stub GPU 0 .*NVRTC 13\.4\)$/ : /^CUDA Stub GPU 0 .*, cuBLASLt 13\.1\)$/,
        ),
        expect.stringMatching(/, graphs$/),
      ]);
    }
  });

  it("verify refuses a length that a model has no positions for", async () => {
    const { code, err } = await heddle([
      "verify",
      here.at("model.heddle"),
      "one",
      "--device",
      "cuda",
      "--length",
      "33",
    ]);
    expect({ code, err }).toEqual({
      code: 1,
      err: "error: model 'one' has learned positions for 32 tokens, not for 33\n",
    });
  });

  it("devices says what there is", async () => {
    const { out } = await heddle(["devices"]);
    expect(out).toMatch(
      /^cuda +yes +Stub GPU 0 \(sm_90, 68\.7 GB\), Stub GPU 1 \(sm_90, 137 GB\), driver for CUDA 13\.0, NVRTC 13\.4, cuBLASLt 13\.1$/m,
    );
    expect(out).toMatch(/^`--device auto` is cuda$/m);
  });
});

describe.skipIf(parts === null)("where a part of CUDA is missing", () => {
  const inputs = ["--inputs", here.at("qkv"), "--output", here.at("never")];
  const asked = [
    ["exec", here.at("tiny.heddle"), "tiny", ...inputs, "--device", "cuda"],
    ["verify", here.at("tiny.heddle"), "--device", "cuda"],
  ];
  mkdirSync(here.at("empty"), { recursive: true });

  it.each([
    [
      "the driver",
      { HEDDLE_LIBCUDA: here.at("empty") },
      /libcuda\.so\.1 was not found at .*: install NVIDIA's driver/,
    ],
    ["a compiler", { HEDDLE_CACHE: here.at("cold"), PATH: "" }, /no C compiler was found/],
  ])("%s, every command says so in one line", async (_, more, message) => {
    const path = process.env["PATH"];
    if ("PATH" in more) process.env["PATH"] = here.at("empty");
    try {
      for (const argv of asked) {
        const { code, err, out } = await heddle(argv, more);
        expect({ code, out }).toEqual({ code: 1, out: "" });
        expect(err.trim()).toMatch(message);
        expect(err.trim().split("\n")).toHaveLength(1);
      }
      const { code, out } = await heddle(["devices"], more);
      expect(code).toBe(0);
      const line = out.split("\n").find((l) => l.startsWith("cuda"));
      expect(line).toMatch(/^cuda +no /);
      expect(line).toMatch(message);
      expect(out).toMatch(/^`--device auto` is (wasm|webgpu): /m);
    } finally {
      process.env["PATH"] = path;
    }
  });

  it("nothing is built or opened by `auto` where nothing shows a GPU", async () => {
    const more = { HEDDLE_LIBCUDA: "", HEDDLE_CACHE: here.at("untouched") };
    const ended = await heddle(["verify", here.at("tiny.heddle"), "--length", "5"], more);
    expect(ended.code, ended.err).toBe(0);
    expect(ended.out).toMatch(/not run on cuda: this machine shows no NVIDIA GPU \(no \/dev\/nvidiactl/);
    // Native code keeps its own things in folders.
    const built = existsSync(here.at("untouched")) ? readdirSync(here.at("untouched")) : [];
    expect(built.filter((name) => name.endsWith(".node"))).toEqual([]);
  });

  it("the stubs are where tests keep them", () => {
    expect(parts?.folder.startsWith(cache)).toBe(true);
  });
});
