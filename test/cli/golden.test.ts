/** torchscale's golden cases as a stranger would run them: a spec file, safetensors in, safetensors out. */
import { readFileSync, writeFileSync } from "node:fs";
import { afterAll, describe, expect, it } from "vitest";
import { memorySource, readHeader, readTensor } from "../../runtime/safetensors.ts";
import { compare } from "../../src/tolerance.ts";
import { attentionCases, goldenPath, manifest, modelCases } from "../golden.ts";
import { folder, heddle } from "./session.ts";

const here = folder();
afterAll(here.remove);

async function read(path: string, name: string): Promise<{ shape: readonly number[]; data: Float32Array }> {
  const source = memorySource(readFileSync(path), path);
  const entry = (await readHeader(source)).tensors.get(name);
  if (entry === undefined) throw new Error(`${path} has no '${name}'`);
  return { shape: entry.shape, data: Float32Array.from(await readTensor(source, entry)) };
}

const attentions = await attentionCases();

describe.each(attentions)("exec $id", (c) => {
  const { heads, headDim, causal, branches } = c.spec;
  const spec = here.at(`${c.id}.heddle`);
  writeFileSync(
    spec,
    `attention golden { heads ${heads} head_dim ${headDim} causal ${causal} compat torchscale
  branches segments [${branches.map((b) => b.segment).join(", ")}] dilations [${branches.map((b) => b.dilation).join(", ")}] }`,
  );
  const file = manifest.attention.find((a) => a.id === c.id)?.file ?? "";
  // The interpreter checks every access: golden.test.ts runs all cases through it, here the small ones show the command.
  const devices = c.N * heads * headDim < 2500 ? ["reference", "wasm", "interpret"] : ["reference", "wasm"];
  it.each(devices)("--device %s", async (device) => {
    const output = here.at(`${c.id}.${device}.safetensors`);
    const ended = await heddle([
      "exec",
      spec,
      "golden",
      "--inputs",
      goldenPath(file),
      "--output",
      output,
      "--device",
      device,
    ]);
    expect(ended.code, ended.err).toBe(0);
    const [out, lse] = [await read(output, "out"), await read(output, "lse")];
    expect(out.shape).toEqual([c.B, c.N, heads, headDim]);
    expect(lse.shape).toEqual([c.B, heads, c.N]);
    expect(compare(out.data, c.out, { dtype: "f32", terms: c.N })).toMatchObject({ ok: true });
    expect(compare(lse.data, c.lseUnion, { dtype: "f32", terms: c.N, atLeast: 1 })).toMatchObject({
      ok: true,
    });
  });
});

const models = await modelCases();

describe.each(models)("import and run $id", (c) => {
  it("equals torchscale", async () => {
    const entry = manifest.models.find((m) => m.id === c.id);
    const config = here.at(`${c.id}.json`);
    const architecture = c.spec.kind === "decoder" ? "LongNetDecoder" : "LongNetEncoder";
    writeFileSync(config, JSON.stringify({ ...entry?.config, architecture }));
    const weights = goldenPath(c.weightsFile);
    const made = await heddle(["import", config, "--name", "golden", "--stdout", "--weights", weights]);
    expect(made.code, made.err).toBe(0);
    const spec = here.at(`${c.id}.heddle`);
    writeFileSync(spec, made.out);
    const output = here.at(`${c.id}.out.safetensors`);
    const inputs = goldenPath(entry?.io ?? "");
    const ran = await heddle([
      "run",
      spec,
      "golden",
      "--weights",
      weights,
      "--inputs",
      inputs,
      "--output",
      output,
      "--hidden",
    ]);
    expect(ran.code, ran.err).toBe(0);
    const terms = c.spec.layers * c.spec.ffn.dim;
    expect(compare((await read(output, "logits")).data, c.logits, { dtype: "f32", terms })).toMatchObject({
      ok: true,
    });
    expect(compare((await read(output, "hidden")).data, c.hidden, { dtype: "f32", terms })).toMatchObject({
      ok: true,
    });
  });
});
