/** The texts of decoding through the real NVRTC, where this machine has it: they compile, and what runs in every step does not spill. */
import { readFileSync } from "node:fs";
import { expect, it } from "vitest";
import { openCompiler } from "../../runtime/cuda/cuda.ts";
import type { Nvrtc } from "../../runtime/cuda/nvrtc.ts";
import { compileSpec, readSpec } from "../../src/compile.ts";
import { cache, haveCompiler } from "../native/stub.ts";
import { missing } from "../webgpu/require.ts";

async function opened(): Promise<Nvrtc | null> {
  if (!(await haveCompiler())) return null;
  try {
    return await openCompiler({ build: { cache } });
  } catch (error) {
    missing("nvrtc", (error as Error).message);
    return null;
  }
}
const nvrtc = await opened();

it.skipIf(nvrtc === null).each(["f32", "f16"])("of the paper's model stored as %s", async (dtype) => {
  const paper = readFileSync("examples/paper.heddle", "utf8").replace(
    "causal    true",
    `causal true dtype ${dtype}`,
  );
  const { spec } = readSpec(
    `${paper}\nmodel paper { kind decoder vocab 256 dim 768 layers 1 ffn 3072 gelu attention paper_32k position xpos base 512 norm sub_ln }`,
  );
  const [compiled] =
    spec === null ? [] : compileSpec(spec, { target: "cuda", names: ["paper"], generate: true });
  const [program] = compiled?.program.cuda ?? [];
  if (program === undefined || nvrtc === null) throw new Error("nothing was compiled");
  const { decoding } = program.plan;
  const steps = [decoding?.entries.step, decoding?.entries.promote, decoding?.entries.prefill].flatMap(
    (e) => e?.variants.flatMap((v) => v.steps) ?? [],
  );
  const kernels = new Set(steps.map((s) => s.kernel));
  const report: string[] = [];
  let count = 0;
  for (const k of kernels) {
    const { entry, code } = program.sources[k] ?? { entry: "", code: "" };
    for (const arch of ["sm_80", "sm_90a"]) {
      const { log, usage } = await nvrtc.compile(code, {
        arch,
        options: program.options,
        name: `${entry}.cu`,
      });
      expect(log).toBe("");
      const [kernel] = usage;
      const spills = (kernel?.spillStoreBytes ?? NaN) + (kernel?.spillLoadBytes ?? NaN);
      count++;
      if (/^(decode|merge|remember|promote)/.test(entry))
        report.push(`${entry} ${arch} ${kernel?.registers}`);
      // Those of the forward pass are held by test/cuda/nvrtc.test.ts.
      if (!entry.startsWith("attention")) expect([entry, arch, spills]).toEqual([entry, arch, 0]);
    }
  }
  console.log(`${count} kernels of ${dtype}, registers: ${report.join(", ")}`);
  expect(report.length).toBeGreaterThan(10);
});
