/** Every shader of many programs, in every form the runtime gives it, through both compilers of WGSL that there are: Tint and naga. */
import { readdirSync, readFileSync } from "node:fs";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { Shader } from "../../runtime/plan.ts";
import { HEAD_BYTES } from "../../runtime/webgpu/pipelines.ts";
import { tableBytes } from "../../runtime/webgpu/shader-tables.ts";
import { shaderText } from "../../runtime/webgpu/shader.ts";
import { compileSpec, readSpec } from "../../src/compile.ts";
import { seal, type Spec } from "../../src/spec.ts";
import { modelCases } from "../golden.ts";
import { randomSpec } from "../schedule/specs.ts";
import { missing } from "../webgpu/require.ts";
import type { ShaderJob, Verdict } from "./check.ts";
import { denoMissing, inDeno } from "./deno.ts";
import type { ValidateJob, ValidateResult } from "./deno/validate.ts";
import { randomModel } from "./models.ts";
import { tint, type Feature } from "./tint.ts";

const ATTENTIONS = 200;
const MODELS = 40;
/** Storage buffers of a shader on the weakest device. */
const MOST_BINDINGS = 8;
const seed = Number(process.env["HEDDLE_SEED"] ?? Date.now() % 1e9);

const [atTint, absent] = [await tint(), await denoMissing()];
if (atTint === null) missing("webgpu", "the package `webgpu` is not installed (npm install)");
if (absent !== null) missing("deno", absent);

/** Jobs by the features they need; equal texts once. */
type Jobs = Map<string, { readonly features: readonly Feature[]; readonly jobs: Map<string, ShaderJob> }>;

/** As few bindings as there are buffers, or as many as a device takes: buffers from `first` on are split while there is room. */
function partsOf({ buffers }: Shader, first: number): readonly number[] {
  const parts = buffers.map(() => 1);
  for (let left = MOST_BINDINGS - buffers.length, i = first; left > 0; left--, i++)
    parts[i % parts.length] = (parts[i % parts.length] ?? 1) + 1;
  return parts;
}

function add(to: Jobs, spec: Spec): void {
  for (const { name, program } of compileSpec(spec, { target: "wgsl", generate: true }))
    for (const { features, plan, shaders } of program.webgpu ?? [])
      shaders.forEach((shader, k) => {
        const half = shader.buffers.some((b) => b.dtype === "f16");
        expect(shader.buffers.length).toBeLessThanOrEqual(MOST_BINDINGS);
        const split = partsOf(shader, k);
        const forms = [
          { f16: false },
          { f16: half && k % 2 === 0, parts: split, partLog: 10 },
          ...(half ? [{ f16: true }] : []),
        ];
        for (const form of forms) {
          const needs: readonly Feature[] = [...features, ...(form.f16 ? (["shader-f16"] as const) : [])];
          const parts: readonly number[] = "parts" in form ? form.parts : shader.buffers.map(() => 1);
          const params: GPUBufferBindingLayout = {
            type: "uniform",
            hasDynamicOffset: true,
            minBindingSize: HEAD_BYTES + 4 * (plan.kernels[k]?.scalars.length ?? 0),
          };
          const bindings = shader.buffers.flatMap(({ access }, i) =>
            Array.from({ length: parts[i] ?? 1 }, (): GPUBufferBindingLayout => ({
              type: access === "read" ? "read-only-storage" : "storage",
            })),
          );
          const uniform = { type: "uniform", minBindingSize: tableBytes(shader) } as const;
          const tables = shader.tables === undefined ? [] : [[uniform]];
          const code = shaderText(shader, form);
          const group = to.get(needs.join()) ?? { features: needs, jobs: new Map<string, ShaderJob>() };
          to.set(needs.join(), group);
          const title = `${name} ${plan.kernels[k]?.entry} ${JSON.stringify(form)}`;
          group.jobs.set(code, { name: title, code, bindings: [[params, ...bindings], ...tables] });
        }
      });
}

function jobsOf(specs: readonly Spec[]): Jobs {
  const jobs: Jobs = new Map();
  for (const spec of specs) add(jobs, spec);
  return jobs;
}
const only = (part: Partial<Spec>): Spec => seal({ attentions: [], models: [], schedules: [], ...part });

/** Names, places and messages of what was refused or only warned of. */
const complaints = (
  verdicts: readonly Verdict[],
  jobs: ReadonlyMap<string, ShaderJob>,
): readonly string[] => {
  const texts = [...jobs.values()];
  return verdicts.flatMap(({ name, messages, error }, i) =>
    error === null && messages.length === 0
      ? []
      : [
          `${name}: ${error ?? "a warning"}`,
          ...messages.map(
            (m) => `  ${m.line}: ${m.text}\n    ${texts[i]?.code.split("\n")[m.line - 1] ?? ""}`,
          ),
        ],
  );
};

/** Both compilers on all jobs; what is missing on this machine is left out. */
async function judge(jobs: Jobs): Promise<{ readonly tint: number; readonly naga: number }> {
  const groups = [...jobs.values()];
  const ofTint = async () => {
    const counts = { tint: 0, faults: [] as string[] };
    for (const { features, jobs: texts } of atTint === null ? [] : groups) {
      const verdicts = (await atTint?.([...texts.values()], features)) ?? [];
      expect(verdicts).toHaveLength(texts.size);
      counts.tint += verdicts.length;
      counts.faults.push(...complaints(verdicts, texts));
    }
    return counts;
  };
  const ofNaga = async () => {
    // naga knows no `enable subgroups`.
    const known = absent !== null ? [] : groups.filter((g) => !g.features.includes("subgroups"));
    const counts = { naga: 0, faults: [] as string[] };
    if (known.length === 0) return counts;
    const job = known.map(({ features, jobs: texts }) => ({ features, jobs: [...texts.values()] }));
    const { verdicts } = await inDeno<ValidateJob, ValidateResult>("validate", { groups: job });
    known.forEach(({ jobs: texts }, g) => {
      expect(verdicts[g]).toHaveLength(texts.size);
      counts.naga += texts.size;
      counts.faults.push(...complaints(verdicts[g] ?? [], texts));
    });
    return counts;
  };
  const [a, b] = await Promise.all([ofTint(), ofNaga()]);
  expect(a.faults.slice(0, 20), `Tint, HEDDLE_SEED=${seed}`).toEqual([]);
  expect(b.faults.slice(0, 20), `naga, HEDDLE_SEED=${seed}`).toEqual([]);
  return { tint: a.tint, naga: b.naga };
}

describe.skipIf(atTint === null && absent !== null)("every shader is valid", { timeout: 600_000 }, () => {
  const dtype = fc.constantFrom("f32" as const, "f16" as const, "bf16" as const);

  it(`of ${ATTENTIONS} random attentions`, async () => {
    const specs = fc
      .sample(fc.tuple(randomSpec(), dtype), { numRuns: ATTENTIONS, seed })
      .map(([spec, stored]) => only({ attentions: [seal({ ...spec, dtype: stored })] }));
    const counts = await judge(jobsOf(specs));
    console.log(`${ATTENTIONS} attentions: ${JSON.stringify(counts)} texts, HEDDLE_SEED=${seed}`);
  });

  it(`of ${MODELS} random models, the golden ones and those of the examples`, async () => {
    const random = fc.sample(randomModel, { numRuns: MODELS, seed }).map((m) => only({ models: [m] }));
    const golden = (await modelCases()).map((c) => only({ models: [c.spec] }));
    const folder = new URL("../../examples/", import.meta.url);
    const examples = readdirSync(folder)
      .filter((f) => f.endsWith(".heddle"))
      .flatMap((f) => readSpec(readFileSync(new URL(f, folder), "utf8"), f).spec ?? []);
    expect(examples.length).toBeGreaterThan(0);
    const counts = await judge(jobsOf([...random, ...golden, ...examples]));
    console.log(`models: ${JSON.stringify(counts)} texts, HEDDLE_SEED=${seed}`);
  });

  it("and a wrong one is not: both compilers say where", async () => {
    const head =
      "@group(0) @binding(0) var<uniform> a: vec4u;\n@group(0) @binding(1) var<storage, read> b: array<f32>;\n";
    const wrong = {
      type: `${head}@compute @workgroup_size(64) fn main() {\n  let x: f32 = a.x;\n}`,
      layout: `${head.replace("read>", "read_write>")}@compute @workgroup_size(64) fn main() { b[0] = 1.0; }`,
    };
    const jobs = Object.entries(wrong).map(([name, code]): ShaderJob => ({
      name,
      code,
      bindings: [[{ type: "uniform" }, { type: "read-only-storage" }]],
    }));
    const check = (verdicts: readonly Verdict[]) => {
      expect(verdicts[0]?.messages).toMatchObject([{ type: "error", line: 4 }]);
      expect(verdicts[0]?.error).toMatch(/^module: /);
      expect(verdicts[1]?.error).toMatch(/^pipeline: /);
    };
    if (atTint !== null) check(await atTint(jobs));
    if (absent === null)
      check(
        (await inDeno<ValidateJob, ValidateResult>("validate", { groups: [{ features: [], jobs }] }))
          .verdicts[0] ?? [],
      );
  });
});
