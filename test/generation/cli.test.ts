/** Generation from the command line and from a generated module. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { generation } from "../../runtime/generate.ts";
import { memorySource, writeSafetensors } from "../../runtime/safetensors.ts";
import type { Model } from "../../runtime/index.ts";
import { heddle, noise, tinyModel } from "../cli/session.ts";
import { readSpec } from "../../src/compile.ts";
import { modelGraph } from "../../src/model.ts";
import type { ModelSpec } from "../../src/spec.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));
// Inside the project, so that `heddle/runtime` is found as for a user.
const place = mkdtempSync(join(root, "test/generation/.tmp-"));
afterAll(() => rmSync(place, { recursive: true }));
const at = (name: string) => join(place, name);

const model = readSpec(tinyModel).spec?.models[0];
const weightsFor = (of: ModelSpec, prefix = "") =>
  writeSafetensors(
    modelGraph(of).weights.map(({ name, shape }, i) => {
      const data = noise(
        shape.reduce((a, b) => a * b, 1),
        i,
      );
      return { name: prefix + name, dtype: "F32" as const, shape, data };
    }),
  );
if (model === undefined) throw new Error("no model");
const weights = weightsFor(model);
beforeAll(() => {
  writeFileSync(at("one.heddle"), tinyModel);
  writeFileSync(at("one.safetensors"), weights);
});
const run = (...argv: string[]) =>
  heddle(["run", at("one.heddle"), "one", "--weights", at("one.safetensors"), "--device", "wasm", ...argv]);

describe("heddle run --prompt", () => {
  it("continues a text, the same for the same seed, and says its speed and its cache", async () => {
    const first = await run("--prompt", "abc", "--generate", "20", "--seed", "4");
    expect(first.code).toBe(0);
    expect(first.out.endsWith("\n")).toBe(true);
    expect(first.err).toMatch(
      /^WebAssembly .*: 3 tokens read and the first said in [\d.]+ s, 20 generated, [\d.]+ tokens per second\ncache 0\.00 MiB; one of all these tokens would take 0\.00 MiB\n$/,
    );
    const again = await run("--prompt", "abc", "--generate", "20", "--seed", "4");
    expect(again.out).toBe(first.out);
    expect((await run("--prompt", "abc", "--generate", "20", "--seed", "5")).out).not.toBe(first.out);
  });

  it("takes the options of sampling, and stops at a text", async () => {
    const likeliest = await run("--prompt", "abc", "--generate", "20", "--temperature", "0");
    const top = await run("--prompt", "abc", "--generate", "20", "--top-k", "1");
    expect(top.out).toBe(likeliest.out);
    const stop = likeliest.out.slice(3, 5);
    const stopped = await run(
      "--prompt",
      "abc",
      "--generate",
      "20",
      "--temperature",
      "0",
      "--stop",
      stop,
      "never",
    );
    expect(stopped.out).toBe(`${likeliest.out.slice(0, likeliest.out.indexOf(stop))}\n`);
    const penalized = await run(
      "--prompt",
      "abc",
      "--generate",
      "20",
      "--temperature",
      "0",
      "--repetition-penalty",
      "5",
    );
    expect(penalized.out).not.toBe(likeliest.out);
    expect((await run("--prompt", "abc", "--top-p", "1e-9", "--generate", "20")).out).toBe(likeliest.out);
  });

  it("reads weights under other names, as every run does", async () => {
    writeFileSync(at("renamed.safetensors"), weightsFor(model, "decoder."));
    const argv = ["run", at("one.heddle"), "one", "--weights", at("renamed.safetensors"), "--device", "wasm"];
    const renamed = await heddle([...argv, "--rename", "decoder.=", "--prompt", "abc", "--generate", "5"]);
    expect(renamed.out).toBe((await run("--prompt", "abc", "--generate", "5")).out);
  });

  it.each([
    [["--generate", "5"], 2, /--generate needs --prompt/],
    [["--prompt", "a", "--bits"], 2, /--bits does not go with --prompt/],
    [["--prompt", "a", "--text", "t"], 2, /--text does not go with --prompt/],
    [["--prompt", "a", "--device", "reference"], 2, /reference does not generate/],
    [["--prompt", "a", "--generate", "0"], 2, /whole number from 1/],
    [["--prompt", "a", "--temperature", "warm"], 2, /must be a number/],
    [["--prompt", "a", "--temperature", "-1"], 1, /temperature must be a number from 0 on, found -1/],
    [["--prompt", ""], 1, /prompt 0 is empty/],
    [
      ["--prompt", "a", "--generate", "33"],
      1,
      /room for 32: model 'one' has learned positions for 32 tokens/,
    ],
  ] as const)("%j is refused", async (argv, expected, message) => {
    const { code, out, err } = await run(...argv);
    expect(err).toMatch(message);
    expect({ code, out }).toEqual({ code: expected, out: "" });
  });

  it("makes room for what it is asked for, where a branch spans everything", async () => {
    const endless = tinyModel.replace("segment 8 ", "segment all ").replace("learned 34", "xpos base 64");
    writeFileSync(at("endless.heddle"), endless);
    const found = readSpec(endless).spec?.models[0];
    if (found === undefined) throw new Error("no model");
    writeFileSync(at("endless.safetensors"), weightsFor(found));
    const argv = [
      "run",
      at("endless.heddle"),
      "one",
      "--weights",
      at("endless.safetensors"),
      "--device",
      "wasm",
    ];
    const { code, err } = await heddle([...argv, "--prompt", "abc", "--generate", "60"]);
    expect(err).toMatch(/60 generated/);
    expect(code).toBe(0);
  });

  it("refuses models that cannot, with the reason", async () => {
    writeFileSync(at("wide.heddle"), tinyModel.replace("vocab      256", "vocab      300"));
    writeFileSync(at("bare.heddle"), tinyModel.replace("norm       sub_ln", "norm sub_ln head none"));
    const tried = (file: string) =>
      heddle(["run", at(file), "one", "--weights", at("one.safetensors"), "--prompt", "a"]);
    expect((await tried("wide.heddle")).err).toMatch(
      /knows bytes .* and cl100k_base .*; model 'one' has 300/,
    );
    expect((await tried("bare.heddle")).err).toMatch(/model 'one' has no head, so it predicts no tokens/);
  });
});

it("a module that was compiled with --generate generates, one without says how it would", async () => {
  const compiled = await heddle(["compile", at("one.heddle"), "--kernels", "wasm", "--generate"]);
  expect(compiled.code).toBe(0);
  expect(
    (await heddle(["compile", at("one.heddle"), "--kernels", "wasm", "--generate", "--check"])).code,
  ).toBe(0);
  const stale = await heddle(["compile", at("one.heddle"), "--kernels", "wasm", "--check"]);
  expect(stale.code).toBe(1);
  const text = readFileSync(at("one.generated.ts"), "utf8");
  expect(text).toContain("decoding: {");
  const load = async (path: string) =>
    ((await import(/* @vite-ignore */ pathToFileURL(path).href)) as { readonly one: Model }).one;
  const session = await generation(await load(at("one.generated.ts")), {
    weights: memorySource(weights),
    threads: 1,
  });
  let said = "";
  for await (const { text: part } of session.generate("abc", { maxTokens: 20, seed: 4 })) said += part;
  session.dispose();
  expect(`${said}\n`).toBe((await run("--prompt", "abc", "--generate", "20", "--seed", "4")).out);

  await heddle(["compile", at("one.heddle"), "--kernels", "wasm", "--out", at("plain.generated.ts")]);
  const plain = await load(at("plain.generated.ts"));
  await expect(generation(plain, { weights: memorySource(weights) })).rejects.toThrow(
    /heddle compile --generate/,
  );
});
