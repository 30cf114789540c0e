/** What a web page ships to generate, beside what it ships for forward passes; and what HEDDLE_DEBUG prints of it. */
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";
import { build } from "esbuild";
import { expect, it } from "vitest";
import { showPlan } from "../../src/show.ts";
import { modelOf, programOf } from "../decode/parity.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));

it("generation in a page is the runtime and a little more, and brings neither compiler nor Node", async () => {
  const { outputFiles, metafile } = await build({
    absWorkingDir: root,
    entryPoints: ["runtime/generate.ts"],
    bundle: true,
    minify: true,
    format: "esm",
    platform: "browser",
    target: "es2022",
    write: false,
    metafile: true,
  });
  const code = outputFiles[0]?.contents ?? new Uint8Array();
  const packed = gzipSync(code, { level: 9 }).length;
  console.log(`generation for a web page: ${code.length} bytes minified, ${packed} after gzip`);
  expect(packed).toBeLessThanOrEqual(31 * 1024);
  const inputs = Object.keys(metafile.inputs);
  expect(inputs).toContain("runtime/sampling.ts");
  expect(inputs.filter((file) => !file.startsWith("runtime/"))).toEqual([]);
  expect(inputs).not.toContain("runtime/node.ts");
  expect(Object.values(metafile.outputs).flatMap((o) => o.imports.map((i) => i.path))).toEqual([]);
});

it("a plan that generates shows its states and entries", () => {
  const shown = showPlan(programOf(modelOf("nested").text, "wasm").plan);
  expect(shown).toMatch(/decoding of any number of tokens, promote at multiples of 4, 8\n/);
  expect(shown).toMatch(/state 0 'layers\.0\.attention\.cache': f32\[/);
  expect(shown).toMatch(/rows 'xpos\.q' of table 0 xpos head_dim 8 base 4/);
  for (const entry of ["prefill", "step", "promote"]) expect(shown).toContain(`entry ${entry}\n`);
  expect(shown).toMatch(
    /B \* 6 groups of decode_a_xpos4_32\(.*cache: state 0.*\) 'a: decode layers\.0\.attention'/,
  );
});
