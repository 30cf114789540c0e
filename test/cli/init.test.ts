/** `heddle init`: every preset is a good spec, laid out as the formatter would, and what a published configuration imports to. */
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { afterAll, describe, expect, it } from "vitest";
import { format } from "../../grammar/format.ts";
import { presets } from "../../src/cli/presets.ts";
import { readSpec } from "../../src/compile.ts";
import { check } from "../../src/check.ts";
import { isError } from "../../src/diagnostic.ts";
import { importConfig } from "../../src/import.ts";
import type { ModelSpec } from "../../src/spec.ts";
import { folder, heddle } from "./session.ts";

const here = folder();
afterAll(here.remove);

describe.each(presets)("$name", ({ name, text }) => {
  it("is a spec without errors, laid out", async () => {
    const made = await heddle(["init", "--preset", name, "--stdout"]);
    expect(made).toMatchObject({ code: 0, out: text });
    const { spec, diagnostics } = readSpec(text);
    expect(diagnostics.filter(isError)).toEqual([]);
    expect(spec?.models).toHaveLength(1);
    expect(format(text)).toMatchObject({ text });
  });
});

const modelIn = (text: string): ModelSpec => {
  const [model] = readSpec(text).spec?.models ?? [];
  if (model === undefined) throw new Error(text);
  return model;
};

it.each([
  ["gigapath", "gigapath_slide_enc12l768d"],
  ["gigapath_24l1024d", "gigapath_slide_enc24l1024d"],
  ["gigapath_12l1536d", "gigapath_slide_enc12l1536d"],
  ["longvit", "longvit_small_patch32_1024_tcga_subtyping"],
  ["longvit_8192", "longvit_small_patch32_8192_tcga_subtyping"],
])("%s is %s", (name, architecture) => {
  const { ast } = importConfig({ architecture });
  const imported = ast === null ? undefined : check(ast).spec?.models[0];
  const written = modelIn(presets.find((p) => p.name === name)?.text ?? "");
  const bare = ({ attention, ...m }: ModelSpec) => ({
    ...m,
    name: "",
    attention: { ...attention, name: "" },
  });
  if (imported === undefined) throw new Error("nothing imported");
  expect(bare(written)).toEqual(bare(imported));
});

it("examples/ holds those of Prov-GigaPath and LongViT", () => {
  for (const name of ["gigapath", "longvit"])
    expect(readFileSync(`examples/${name}.heddle`, "utf8")).toBe(presets.find((p) => p.name === name)?.text);
});

it("writes a file, and replaces none unasked", async () => {
  const out = here.at("own.heddle");
  expect(await heddle(["init", "--preset", "paper", "--out", out])).toMatchObject({
    code: 0,
    out: `${out}\n`,
  });
  expect(readFileSync(out, "utf8")).toContain("model longnet_125m");
  writeFileSync(out, "mine");
  const again = await heddle(["init", "--out", out]);
  expect(again.code).toBe(1);
  expect(again.err).toContain(`${out} exists; give --force to replace it`);
  expect(readFileSync(out, "utf8")).toBe("mine");
  expect(await heddle(["init", "--out", out, "--force"])).toMatchObject({ code: 0 });
  expect(readFileSync(out, "utf8")).toContain("model tiny");
  expect(await heddle(["init", "--preset", "nope"])).toMatchObject({ code: 2 });
  expect(existsSync("nope.heddle")).toBe(false);
});
