/** torchscale's own outputs, computed by the generated shaders through Dawn on SwiftShader. */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { WebgpuDevice } from "../../runtime/webgpu.ts";
import { compileSpec } from "../../src/compile.ts";
import { scheduleKinds, type ScheduleKind } from "../../src/schedule.ts";
import type { Program } from "../../runtime/plan.ts";
import { seal } from "../../src/spec.ts";
import type { AttentionSpec } from "../../src/spec.ts";
import { compare } from "../../src/tolerance.ts";
import { attentionCases } from "../golden.ts";
import { testDevice, webgpuThere } from "./gpu.ts";

const there = await webgpuThere();
const cases = await attentionCases();
let device: WebgpuDevice | null = null;
let worst = 0;
beforeAll(async () => {
  device = await testDevice({ poison: true });
});
afterAll(async () => {
  await device?.dispose();
  console.log(`WebGPU against torchscale, worst of scale: ${worst.toExponential(1)}`);
});

describe.skipIf(!there).each(cases.map((x, i) => ({ ...x, i })))("$id on WebGPU", ({ i, ...c }) => {
  // The list takes two more kernels, and a software GPU long to compile them: a sixth of the cases, one way of placing rows in each.
  const kinds = scheduleKinds.filter((kind) => kind !== "annulus_list" || i % 6 === 0);
  it.each(kinds)("%s", async (kind) => {
    if (device === null) return;
    const { B, N, q, k, v } = c;
    const variants = [
      { ...c, lse: c.lseUnion },
      { ...c.fixed, lse: null },
      { ...c.paper, lse: null },
    ];
    for (const { spec, out, lse } of kind === "annulus_list"
      ? variants.slice((i / 6) % 3, ((i / 6) % 3) + 1)
      : variants) {
      const program = compiled(spec, kind, N);
      if (program === null) continue;
      const executable = await device.compile(program);
      const got = await executable.run({ q, k, v }, { N, B });
      const terms = spec.headDim + spec.branches.length * N;
      const o = compare(got["out"] ?? [], out, { dtype: "f32", terms });
      worst = Math.max(worst, o.worst / o.scale);
      expect(o, JSON.stringify(o)).toMatchObject({ ok: true });
      if (lse !== null)
        expect(compare(got["lse"] ?? [], lse, { dtype: "f32", terms, atLeast: 1 })).toMatchObject({
          ok: true,
        });
      await executable.dispose();
    }
  });
});

/** Null where the schedule is not legal for the spec. */
function compiled(spec: AttentionSpec, schedule: ScheduleKind, N: number): Program | null {
  try {
    const program = seal({ attentions: [spec], models: [], schedules: [] });
    return compileSpec(program, { target: "wgsl", schedule, length: N })[0]?.program ?? null;
  } catch (error) {
    if ((error as Error).name === "ScheduleError") return null;
    throw error;
  }
}
