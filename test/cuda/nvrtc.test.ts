/**
 * Every text through the real NVRTC, where this machine has it: `CUDA_PATH=… npx vitest run test/cuda/nvrtc.test.ts`. Needs no GPU.
 * HEDDLE_RUNS random specs; the schedules that the planner ships must not spill.
 */
import { readFileSync } from "node:fs";
import fc from "fast-check";
import { afterAll, describe, expect, it } from "vitest";
import { CUDA_OPTIONS } from "../../codegen/cuda/text.ts";
import { cudaTarget } from "../../codegen/cuda/target.ts";
import { openCompiler } from "../../runtime/cuda/cuda.ts";
import type { Nvrtc } from "../../runtime/cuda/nvrtc.ts";
import { readSpec } from "../../src/compile.ts";
import { attentionGraph, modelGraph } from "../../src/model.ts";
import { choose } from "../../src/planner.ts";
import { seal, type AttentionSpec } from "../../src/spec.ts";
import { NARROW, type FloatDtype } from "../../src/storage.ts";
import { goldenPath, torchscaleShape } from "../golden.ts";
import { cache, haveCompiler } from "../native/stub.ts";
import { randomSpec } from "../schedule/specs.ts";
import { missing } from "../webgpu/require.ts";
import { programOf } from "./program.ts";

const seed = Number(process.env["HEDDLE_SEED"] ?? Date.now() % 1e9);
const RUNS = Number(process.env["HEDDLE_RUNS"] ?? 6);
/** With many random specs, all widths too. */
const patient = RUNS >= 100;
const ARCHS = ["sm_80", "sm_90a", "sm_100"] as const;

const listed = (segments: readonly number[], dilations: readonly number[]) =>
  segments.map((segment, i) => ({ segment, dilation: dilations[i] ?? 1 }));
const published = [
  { name: "paper", branches: listed([2048, 4096, 8192, 16384, 32768], [1, 2, 4, 6, 12]), causal: true },
  {
    name: "gigapath",
    branches: listed([1024, 5792, 32768, 185363, 1048576], [1, 2, 4, 8, 16]),
    causal: false,
  },
];

/** Null where this machine lacks NVRTC or what builds the shim. */
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

type Usage = {
  readonly text: string;
  readonly arch: string;
  readonly registers: number;
  readonly spills: number;
  readonly ms: number;
};
const usages: Usage[] = [];
const seen = new Set<string>();

/** Compiles the texts of a graph under one schedule; equal ones once. */
async function compile(
  graph: Parameters<typeof programOf>[0],
  schedule: Parameters<typeof programOf>[1],
): Promise<readonly Usage[]> {
  const made: Usage[] = [];
  for (const { entry, code } of programOf(graph, schedule).texts)
    for (const arch of ARCHS) {
      if (nvrtc === null || seen.has(arch + code)) continue;
      seen.add(arch + code);
      const start = performance.now();
      const { usage, log } = await nvrtc.compile(code, { arch, options: CUDA_OPTIONS, name: `${entry}.cu` });
      expect(log).toBe("");
      const [kernel] = usage;
      if (kernel === undefined) throw new Error(`nothing is known of ${entry}`);
      const spills = kernel.spillStoreBytes + kernel.spillLoadBytes;
      made.push({ text: entry, arch, registers: kernel.registers, spills, ms: performance.now() - start });
    }
  usages.push(...made);
  return made;
}

describe.skipIf(nvrtc === null)(`NVRTC compiles, seed ${seed}`, () => {
  afterAll(() => {
    if (usages.length === 0) return;
    const times = usages.map((u) => u.ms).sort((a, b) => a - b);
    const spilled = usages.filter((u) => u.spills > 0).map((u) => `${u.text} ${u.arch} ${u.spills}`);
    console.log(
      `${usages.length} kernels, median ${times[times.length >> 1]?.toFixed(0)} ms, longest ${times.at(-1)?.toFixed(0)} ms; spills: ${spilled.join(", ") || "none"}`,
    );
  });

  const heads = [16, 24, 32, 40, 48, 56, 64, 72, 80, 88, 96, 104, 112, 120, 128, 160, 192, 256] as const;
  it.each(heads)("branches of heads of width %i as shipped, without spills", async (headDim) => {
    const branches = [
      { segment: 2048, dilation: 1 },
      { segment: 8192, dilation: 6 },
    ];
    const dtype: FloatDtype = headDim % 16 === 0 ? "bf16" : "f16";
    const shape = {
      ...torchscaleShape("shipped", 12, headDim, branches),
      dtype,
      causal: headDim % 32 === 0,
      padding: "masked",
      align: "segment",
    } as const;
    const spec = seal(shape);
    const schedule = choose(spec, 1 << 17, cudaTarget, { kind: "branch" }).chosen;
    for (const u of await compile(attentionGraph(spec, NARROW), schedule))
      expect([u.text, u.arch, u.spills]).toEqual([u.text, u.arch, 0]);
  });

  it.each(patient ? [32, 48, 56, 64, 128] : [48, 128])(
    "annulus at head width %i as shipped, without spills",
    async (headDim) => {
      for (const { name, branches, causal } of published) {
        const shape = torchscaleShape(name, 16, headDim, branches);
        const spec = seal({ ...shape, dtype: "bf16" as const, causal });
        // Widths between these have tiles of the same keys.
        const kinds = [48, 64, 128].includes(headDim)
          ? (["annulus", "annulus_list"] as const)
          : (["annulus"] as const);
        for (const kind of kinds) {
          const schedule = choose(spec, 1 << 17, cudaTarget, { kind }).chosen;
          for (const u of await compile(attentionGraph(spec, NARROW), schedule))
            expect([u.text, u.arch, u.spills]).toEqual([u.text, u.arch, 0]);
        }
      }
    },
  );

  it.each([160, 256])("every schedule that is planned at head width %i, without spills", async (headDim) => {
    // What GigaPath's list counts takes more registers than the paper's.
    for (const { name, branches, causal } of patient ? published : published.slice(-1)) {
      const spec = seal({ ...torchscaleShape(name, 16, headDim, branches), dtype: "bf16" as const, causal });
      const { candidates } = choose(spec, 1 << 17, cudaTarget);
      expect(candidates.some((c) => c.kind === "annulus" && c.schedule !== null)).toBe(headDim <= 160);
      for (const { schedule } of candidates)
        for (const u of schedule === null ? [] : await compile(attentionGraph(spec, NARROW), schedule))
          expect([u.text, u.arch, u.spills]).toEqual([u.text, u.arch, 0]);
    }
  });

  it.each(["paper", "gigapath", "jargon"])("all of examples/%s.heddle", async (name) => {
    const text = readFileSync(goldenPath(`../../../examples/${name}.heddle`), "utf8");
    const { spec } = readSpec(text, name);
    const plans = (a: AttentionSpec) => choose(a, 32768, cudaTarget).chosen;
    const typed = (a: AttentionSpec, dtype: FloatDtype) => seal({ ...a, dtype });
    for (const dtype of ["f32", "bf16"] as const) {
      for (const a of spec?.attentions ?? [])
        await compile(attentionGraph(typed(a, dtype), NARROW), plans(typed(a, dtype)));
      for (const m of spec?.models ?? []) {
        const attention = typed(m.attention, dtype);
        await compile(modelGraph(seal({ ...m, attention }), NARROW), plans(attention));
      }
    }
  });

  it("random specs, every legal schedule", async () => {
    await fc.assert(
      fc.asyncProperty(
        randomSpec({ headDims: [4, 6, 16, 24, 48, 64], maxBranches: 5 }),
        fc.constantFrom("f32" as const, "f16" as const, "bf16" as const),
        async (random, dtype) => {
          const spec = seal({ ...random, dtype });
          for (const { schedule } of choose(spec, 1000, cudaTarget).candidates)
            if (schedule !== null) await compile(attentionGraph(spec, NARROW), schedule);
        },
      ),
      { numRuns: RUNS, seed, endOnFailure: true },
    );
  });
});
