import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { memorySource, readHeader, readTensor, writeSafetensors } from "../../runtime/safetensors.ts";
import type { TensorToWrite } from "../../runtime/safetensors.ts";
import { readSpec } from "../../src/compile.ts";
import { modelGraph } from "../../src/model.ts";
import { runReference } from "../../src/reference.ts";
import { folder, heddle, noise, tinyModel } from "./session.ts";

const here = folder();
afterAll(here.remove);
const spec = here.at("tiny.heddle");
const [B, N] = [2, 19];
const sizeOf = (shape: readonly number[]): number => shape.reduce((n, d) => n * d, 1);

const tensors = (path: string, list: readonly TensorToWrite[]): string => {
  writeFileSync(path, writeSafetensors(list));
  return path;
};
const qkv = (heads = 2, dtype: "F32" | "F16" | "BF16" = "F32"): TensorToWrite[] =>
  (["q", "k", "v"] as const).map((name, i) => ({
    name,
    dtype,
    shape: [B, N, heads, 8],
    data: noise(B * N * heads * 8, i + 1),
  }));

async function read(
  path: string,
): Promise<Readonly<Record<string, { shape: readonly number[]; data: ArrayLike<number> }>>> {
  const source = memorySource(readFileSync(path), path);
  const found: Record<string, { shape: readonly number[]; data: ArrayLike<number> }> = {};
  for (const entry of (await readHeader(source)).tensors.values())
    found[entry.name] = { shape: entry.shape, data: await readTensor(source, entry) };
  return found;
}
const furthest = (a: ArrayLike<number>, b: ArrayLike<number>): number => {
  expect(a.length).toBe(b.length);
  let most = 0;
  for (let i = 0; i < a.length; i++)
    if (a[i] !== b[i]) most = Math.max(most, Math.abs((a[i] ?? NaN) - (b[i] ?? NaN)));
  return most;
};

const model = (() => {
  const found = readSpec(tinyModel).spec?.models[0];
  if (found === undefined) throw new Error("the spec is wrong");
  return found;
})();
const graph = modelGraph(model);
const weights = new Map(
  graph.weights.map(({ name, shape }, i) => [name, noise(sizeOf(shape), 100 + i)] as const),
);
const checkpoint = (change: (list: TensorToWrite[]) => TensorToWrite[] = (l) => l): TensorToWrite[] =>
  change(
    graph.weights.map(({ name, shape }) => ({
      name,
      shape,
      dtype: "F32",
      data: weights.get(name) ?? new Float32Array(),
    })),
  );

beforeAll(() => {
  writeFileSync(spec, tinyModel);
  tensors(here.at("qkv.safetensors"), qkv());
  tensors(here.at("weights.safetensors"), checkpoint());
  const tokens = Int32Array.from({ length: B * N }, (_, i) => (i * 37 + 11) % 256);
  tensors(here.at("tokens.safetensors"), [{ name: "tokens", dtype: "I64", shape: [B, N], data: tokens }]);
});

const exec = (...more: string[]) =>
  heddle([
    "exec",
    spec,
    "tiny",
    "--inputs",
    here.at("qkv.safetensors"),
    "--output",
    here.at("out.safetensors"),
    ...more,
  ]);

describe("heddle exec", () => {
  it("gives out and lse, the same on every device and schedule", async () => {
    expect(await exec("--device", "reference")).toEqual({ code: 0, out: "", err: "" });
    const wanted = await read(here.at("out.safetensors"));
    expect(wanted["out"]?.shape).toEqual([B, N, 2, 8]);
    expect(wanted["lse"]?.shape).toEqual([B, 2, N]);
    for (const more of [
      ["--device", "interpret"],
      [],
      ["--schedule", "class"],
      ["--schedule", "annulus"],
      ["--schedule", "branch", "--threads", "2"],
    ]) {
      expect(await exec(...more)).toEqual({ code: 0, out: "", err: "" });
      const found = await read(here.at("out.safetensors"));
      expect(furthest(found["out"]?.data ?? [], wanted["out"]?.data ?? [])).toBeLessThan(2e-6);
      expect(furthest(found["lse"]?.data ?? [], wanted["lse"]?.data ?? [])).toBeLessThan(2e-6);
    }
  });

  it.each(["F16", "BF16"] as const)("reads %s", async (dtype) => {
    const inputs = tensors(here.at("half.safetensors"), qkv(2, dtype));
    expect(await exec("--inputs", inputs)).toMatchObject({ code: 0 });
  });

  it("says what a schedule cannot do", async () => {
    const { code, err } = await exec("--schedule", "dense");
    expect({ code, err }).toMatchObject({
      code: 1,
      err: expect.stringContaining("'dense' computes one branch") as string,
    });
  });

  it.each([
    ["a shape", qkv(3), /'q' of .* has the shape \[2, 19, 3, 8\]; it must be \[batch, N, 2, 8\]/],
    ["a missing tensor", qkv().slice(0, 2), /has no tensor 'v'; it has 'k', 'q'/],
    [
      "another length",
      [...qkv().slice(0, 2), { name: "v", dtype: "F32", shape: [B, 3, 2, 8], data: noise(96, 1) } as const],
      /'v' of .* has the shape \[2, 3, 2, 8\]; it must be \[batch = 2, N = 19, 2, 8\]/,
    ],
    [
      "integers",
      [{ name: "q", dtype: "I32", shape: [1], data: Int32Array.of(1) } as const, ...qkv().slice(1)],
      /'q' of .* is I32; it must be F32, F16 or BF16/,
    ],
    [
      "no tokens",
      qkv().map((t) => ({ ...t, shape: [B, 0, 2, 8], data: new Float32Array() }) as TensorToWrite),
      /must be \[batch, N/,
    ],
  ])("refuses %s", async (_, list, message) => {
    const inputs = tensors(here.at("wrong.safetensors"), list);
    const output = here.at("never.safetensors");
    const { code, err } = await exec("--inputs", inputs, "--output", output);
    expect(err).toMatch(message);
    expect(code).toBe(1);
    expect(existsSync(output)).toBe(false);
  });

  it("refuses what is no safetensors file", async () => {
    const { code, err } = await exec("--inputs", spec);
    expect({ code }).toEqual({ code: 1 });
    expect(err).toMatch(/safetensors/);
  });

  it("says what attentions there are", async () => {
    const args = ["--inputs", here.at("qkv.safetensors"), "--output", here.at("out.safetensors")];
    const misspelt = await heddle(["exec", spec, "tniy", ...args]);
    expect(misspelt).toMatchObject({ code: 1 });
    expect(misspelt.err).toMatch(/has no attention 'tniy'; it has 'tiny'\. Did you mean 'tiny'\?/);
    expect((await heddle(["exec", spec, "one", ...args])).err).toContain(
      "'one' is a model; `heddle run` runs models",
    );
  });

  it.each([
    ["a folder", "place", /'.*place' is a folder, not a file/],
    ["a path through a file", "old/out", /'.*old\/out' leads through a file|there is no file/],
    ["no folder", "nowhere/out", /there is no file '.*nowhere\/out'/],
  ])("writes nothing to %s", async (_, name, message) => {
    mkdirSync(here.at("place"), { recursive: true });
    writeFileSync(here.at("old"), "old");
    const { code, err } = await exec("--output", here.at(name));
    expect(err).toMatch(message);
    expect(code).toBe(1);
    expect(readFileSync(here.at("old"), "utf8")).toBe("old");
    expect(readdirSync(here.path).filter((f) => f.endsWith(".tmp"))).toEqual([]);
  });

  it("replaces an output whole and keeps its mode", async () => {
    const path = here.at("kept.safetensors");
    writeFileSync(path, "old");
    chmodSync(path, 0o640);
    symlinkSync(path, here.at("link.safetensors"));
    expect(await exec("--output", here.at("link.safetensors"))).toMatchObject({ code: 0 });
    expect(lstatSync(here.at("link.safetensors")).isSymbolicLink()).toBe(true);
    expect(statSync(path).mode & 0o777).toBe(0o640);
    expect(Object.keys(await read(path)).sort()).toEqual(["lse", "out"]);
  });
});

const run = (...more: string[]) =>
  heddle(["run", spec, "one", "--weights", here.at("weights.safetensors"), ...more]);
const output = here.at("logits.safetensors");

describe("heddle run", () => {
  it("gives logits and hidden values of the reference", async () => {
    const tokens = (await read(here.at("tokens.safetensors")))["tokens"]?.data ?? [];
    const wanted = runReference(graph, { tokens }, weights, { N, B });
    for (const device of ["reference", "wasm"]) {
      const inputs = here.at("tokens.safetensors");
      const ended = await run("--inputs", inputs, "--output", output, "--hidden", "--device", device);
      expect(ended).toEqual({ code: 0, out: "", err: "" });
      const found = await read(output);
      expect(found["logits"]?.shape).toEqual([B, N, 256]);
      expect(found["hidden"]?.shape).toEqual([2, B, N, 16]);
      expect(furthest(found["logits"]?.data ?? [], wanted.outputs["logits"] ?? [])).toBeLessThan(5e-5);
      const hidden = wanted.hidden.flatMap((h) => [...h]);
      expect(furthest(found["hidden"]?.data ?? [], hidden)).toBeLessThan(5e-5);
    }
  });

  it("measures bits from windows of their own", async () => {
    const bytes = Uint8Array.from({ length: 50 }, (_, i) => (i * i * 7 + 3) % 256);
    writeFileSync(here.at("text"), bytes);
    let sum = 0;
    for (const [start, end] of [
      [0, 20],
      [20, 40],
      [40, 49],
    ] as const) {
      const part = [...bytes.subarray(start, end)];
      const at = { N: part.length, B: 1 };
      const logits =
        runReference(graph, { tokens: part }, weights, at).outputs["logits"] ?? new Float64Array();
      part.forEach((_, i) => {
        const row = [...logits.subarray(i * 256, (i + 1) * 256)];
        const total = row.reduce((s, x) => s + Math.exp(x), 0);
        sum += Math.log2(total) - (row[bytes[start + i + 1] ?? 0] ?? NaN) / Math.LN2;
      });
    }
    for (const device of ["wasm", "reference"]) {
      const { code, out } = await run(
        "--text",
        here.at("text"),
        "--bits",
        "--window",
        "20",
        "--json",
        "--device",
        device,
      );
      expect(code).toBe(0);
      const figure = JSON.parse(out) as { bits: number; predicted: number; windows: number[] };
      expect(figure.bits).toBeCloseTo(sum / 49, 5);
      expect(figure.predicted).toBe(49);
      expect(figure.windows.length).toBe(3);
    }
    const { out } = await run("--text", here.at("text"), "--bits", "--window", "20");
    expect(out).toMatch(/^\d+\.\d{5} bits per token, mean of 49 predicted tokens in 3 windows of 20 /);
  });

  it("counts the tokens that learned positions serve", async () => {
    writeFileSync(here.at("long"), new Uint8Array(33));
    const bits = await run("--text", here.at("long"), "--output", output);
    expect(bits).toMatchObject({ code: 1 });
    expect(bits.err).toContain("33 tokens are too many for model 'one': its 34 learned positions serve 32");
    writeFileSync(here.at("long"), new Uint8Array(32));
    expect(await run("--text", here.at("long"), "--output", output)).toMatchObject({ code: 0 });
  });

  it("names the token outside the vocabulary", async () => {
    const data = Int32Array.from({ length: B * N }, (_, i) => (i === N + 4 ? 256 : 1));
    const inputs = tensors(here.at("bad.safetensors"), [
      { name: "tokens", dtype: "I32", shape: [B, N], data },
    ]);
    for (const device of ["wasm", "reference"]) {
      const { code, err } = await run("--inputs", inputs, "--output", here.at("never"), "--device", device);
      expect(err).toContain("the token at position 4 of sequence 1 is 256; the vocabulary is 0 … 255");
      expect(code).toBe(1);
    }
    expect(existsSync(here.at("never"))).toBe(false);
  });

  it("says how to add positions that only the checkpoint has", async () => {
    const bare = here.at("bare.heddle");
    writeFileSync(bare, tinyModel.replace("position   learned 34\n", ""));
    const args = ["--weights", here.at("weights.safetensors"), "--text", spec, "--output", output];
    const { code, err } = await heddle(["run", bare, "one", ...args]);
    expect(code).toBe(1);
    expect(err).toContain("'embed_positions.weight' [34, 16] is not part of the model");
    expect(err).toContain("Hint: the model may want `position learned 34`.");
  });

  it("lists every weight that does not fit", async () => {
    const list = checkpoint((l) => [
      ...l
        .filter((t) => t.name !== "layer_norm.bias")
        .map((t) => (t.name === "layers.0.ffn.fc1.weight" ? { ...t, shape: [16, 24] } : t)),
      { name: "surplus", dtype: "F32", shape: [1], data: Float32Array.of(1) },
    ]);
    const path = tensors(here.at("misfit.safetensors"), list);
    for (const device of ["wasm", "reference"]) {
      const { code, err } = await run(
        "--weights",
        path,
        "--text",
        spec,
        "--output",
        output,
        "--device",
        device,
      );
      expect(code).toBe(1);
      for (const part of ["'layer_norm.bias'", "'layers.0.ffn.fc1.weight'", "transposed", "'surplus'"])
        expect(err).toContain(part);
    }
  });
});

it("computes a spec of 16 bits in f32 where WebAssembly has no storage of 16", async () => {
  const [half, full] = ["half", "full"].map((name) => here.at(`${name}.heddle`));
  const text = "attention tiny { heads 2 head_dim 8 branch segment all dilation 1";
  writeFileSync(half ?? "", `${text} dtype f16 }`);
  writeFileSync(full ?? "", `${text} }`);
  const inputs = tensors(here.at("half.safetensors"), qkv());
  const [a, b] = [here.at("half.out"), here.at("full.out")];
  const on = ["--device", "wasm", "--inputs", inputs, "--output"];
  expect(await heddle(["exec", half ?? "", "tiny", ...on, a])).toMatchObject({ code: 0 });
  expect(await heddle(["exec", full ?? "", "tiny", ...on, b])).toMatchObject({ code: 0 });
  expect(await read(a)).toEqual(await read(b));
});
