/** torchscale's own outputs, computed by the emitted CUDA C++ on the host: every legal schedule. */
import { afterAll, describe, expect, it } from "vitest";
import { cudaTarget } from "../../codegen/cuda/target.ts";
import { attentionGraph } from "../../src/model.ts";
import { choose } from "../../src/planner.ts";
import type { Schedule, ScheduleKind } from "../../src/schedule.ts";
import type { AttentionSpec } from "../../src/spec.ts";
import { compare } from "../../src/tolerance.ts";
import { attentionCases } from "../golden.ts";
import { missing } from "../webgpu/require.ts";
import { compiler, COMPILER_MISSING } from "./host/build.ts";
import { programOf, runProgram } from "./program.ts";

const c = compiler();
if (c === null) missing("c++", COMPILER_MISSING);
const cases = await attentionCases();
let worst = 0;
afterAll(() => console.log(`CUDA against torchscale, worst of scale: ${worst.toExponential(1)}`));

/** Null where the schedule is not legal for the spec. */
function scheduleOf(spec: AttentionSpec, kind: ScheduleKind, N: number): Schedule | null {
  const found = choose(spec, N, cudaTarget).candidates.find((x) => x.kind === kind);
  return found?.schedule ?? null;
}

const KINDS = ["branch", "class", "dense"] as const;

describe.skipIf(c === null).each(cases.map((x, i) => ({ ...x, i })))(
  "$id on the host",
  ({ i, ...example }) => {
    // Two more kernels, for a third of the cases.
    it.each(i % 3 === 0 ? [...KINDS, "annulus_list" as const] : KINDS)("%s", async (kind) => {
      if (c === null) return;
      const { B, N, q, k, v } = example;
      // The other two ways of placing rows are kernels of their own: each of them by one of the schedules.
      const turn = [...KINDS, "annulus_list"].indexOf(kind) % 2;
      const others = [example.fixed, example.paper].filter((_, o) => (i + o) % 2 === turn);
      for (const { spec, out, lse } of [
        { ...example, lse: example.lseUnion },
        ...others.map((o) => ({ ...o, lse: null })),
      ]) {
        const schedule = scheduleOf(spec, kind, N);
        if (schedule === null) continue;
        const got = await runProgram(c, programOf(attentionGraph(spec), schedule), { q, k, v }, { N, B });
        const terms = spec.headDim + spec.branches.length * N;
        const o = compare(got["out"] ?? [], out, { dtype: "f32", terms });
        worst = Math.max(worst, o.worst / o.scale);
        expect(o, `${kind} out`).toMatchObject({ ok: true });
        if (lse === null) continue;
        expect(
          compare(got["lse"] ?? [], lse, { dtype: "f32", terms, atLeast: 1 }),
          `${kind} lse`,
        ).toMatchObject({
          ok: true,
        });
      }
    });
  },
);
