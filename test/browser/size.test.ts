/** What a web page ships of heddle. */
import { gzipSync } from "node:zlib";
import { build } from "esbuild";
import { expect, it } from "vitest";
import { root } from "./chromium.ts";

/** Bytes after gzip at its best: the whole runtime, either device, minified as one module, without any program's own kernels. */
const BUDGET = 25 * 1024;

it("the runtime is small, and brings neither compiler nor Node", async () => {
  const { outputFiles, metafile } = await build({
    absWorkingDir: root,
    entryPoints: ["runtime/index.ts"],
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
  console.log(`the runtime for a web page: ${code.length} bytes minified, ${packed} after gzip`);
  expect(packed).toBeLessThanOrEqual(BUDGET);

  const inputs = Object.keys(metafile.inputs);
  expect(inputs.length).toBeGreaterThan(20);
  expect(inputs.filter((file) => !file.startsWith("runtime/"))).toEqual([]);
  expect(inputs).not.toContain("runtime/node.ts");
  const imports = Object.values(metafile.outputs).flatMap((o) => o.imports.map((i) => i.path));
  expect(imports).toEqual([]);
  // Nothing is left for later either: a page that runs a program loads nothing besides this, the program and its weights.
  expect(Object.keys(metafile.outputs)).toHaveLength(1);
});
