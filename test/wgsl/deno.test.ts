/** heddle's runtime in Deno on lavapipe: golden files and random specs, stored in 32 and 16 bits, by naga and mesa instead of Dawn. */
import fc from "fast-check";
import { beforeAll, describe, expect, it } from "vitest";
import { seal } from "../../src/spec.ts";
import type { FloatDtype } from "../../src/storage.ts";
import { randomSpec } from "../schedule/specs.ts";
import { missing } from "../webgpu/require.ts";
import { goldenAttention, goldenModels, here, randomAttention, randomModelCase, verdictOf } from "./cases.ts";
import type { Case } from "./cases.ts";
import { denoMissing, inDeno } from "./deno.ts";
import type { RunJob, RunResult } from "./deno/run.ts";
import { atLeast, randomModel } from "./models.ts";

/** Random cases are other ones in every run; this number, printed with a failure, brings them back. */
const seed = Number(process.env["HEDDLE_SEED"] ?? Date.now() % 1e9);
const absent = await denoMissing();
if (absent !== null) missing("deno", absent);

type Group = { readonly options: RunJob["options"]; readonly cases: readonly Case[] };

/** Runs groups side by side, each in a process of its own, and holds every case to its verdicts. */
async function judge(groups: readonly Group[]): Promise<void> {
  const done = await Promise.all(
    groups.map(({ options, cases }) =>
      inDeno<RunJob, RunResult>(
        "run",
        { options: { ...options, poison: true }, tasks: cases.map((c) => c.task) },
        1100,
      ),
    ),
  );
  const failures: string[] = [];
  groups.forEach(({ cases }, g) => {
    const { device = "", results = [], bytesLeft = NaN } = done[g] ?? {};
    let worst = 0;
    cases.forEach((one, i) => {
      const verdict = verdictOf(one, results[i]);
      worst = Math.max(worst, verdict.worst);
      failures.push(...verdict.failures);
    });
    const ms = Math.max(...results.map((r) => r.ms));
    const details = new Set(
      results.flatMap((r) => ("detail" in r ? [r.detail.replace(device, "").trim()] : [])),
    );
    console.log(
      `${device}: ${results.length} runs${[...details].sort().join(" ")}, worst ${worst.toExponential(1)} of scale, slowest ${ms} ms`,
    );
    expect(device).toMatch(/llvmpipe.*software/);
    expect(bytesLeft).toBe(0);
  });
  expect(failures, `HEDDLE_SEED=${seed}`).toEqual([]);
}
const plain: RunJob["options"] = { features: [] };
const native: RunJob["options"] = { features: ["shader-f16"] };

describe.skipIf(absent !== null)("in Deno on lavapipe", { timeout: 1_200_000 }, () => {
  beforeAll(() => console.log(`HEDDLE_SEED=${seed}`));

  it("golden attention, every legal schedule", async () => {
    const legal = await goldenAttention();
    expect(legal.length).toBeGreaterThan(45);
    const half = Math.ceil(legal.length / 2);
    await judge([
      { options: plain, cases: legal.slice(0, half) },
      { options: native, cases: legal.slice(half) },
    ]);
  });

  it("golden models", async () => {
    const cases = await goldenModels();
    expect(cases).toHaveLength(5);
    await judge([{ options: plain, cases }]);
  });

  const extents = fc.record({ N: fc.integer({ min: 1, max: 150 }), B: fc.integer({ min: 1, max: 2 }) });

  it("random attention in f32, f16 and bf16, with the feature shader-f16 and without", async () => {
    const draw = (dtype: FloatDtype, count: number, skip: number) =>
      here(
        fc
          .sample(
            fc.tuple(randomSpec({ headDims: dtype === "f32" ? [4, 6, 8, 16] : [4, 8, 12, 16] }), extents),
            {
              numRuns: count,
              seed: seed + skip,
            },
          )
          .map(([spec, at], i) => randomAttention(seal({ ...spec, dtype }), at, i)),
      );
    await judge([
      { options: plain, cases: [...draw("f32", 10, 1), ...draw("f16", 10, 2), ...draw("bf16", 6, 3)] },
      { options: native, cases: [...draw("f16", 15, 4), ...draw("bf16", 4, 5)] },
    ]); // prettier-ignore
  });

  it("random models in f32, f16 and bf16, with the feature shader-f16 and without", async () => {
    const draw = (skip: number) =>
      here(
        fc
          .sample(fc.tuple(randomModel, extents), { numRuns: 8, seed: seed + skip })
          .map(([spec, at], i) => randomModelCase(spec, { ...at, N: atLeast(spec, Math.min(at.N, 80)) }, i)),
      );
    await judge([
      { options: plain, cases: draw(6) },
      { options: native, cases: draw(7) },
    ]);
  });
});
