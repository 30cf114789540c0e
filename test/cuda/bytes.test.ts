/** What the planner believes of shared memory on CUDA is what the printed kernels declare. */
import fc from "fast-check";
import { expect, it } from "vitest";
import { cudaTarget, MOST_SHARED } from "../../codegen/cuda/target.ts";
import { attentionGraph } from "../../src/model.ts";
import { choose } from "../../src/planner.ts";
import { legal, scheduleKinds } from "../../src/schedule.ts";
import { seal, type AttentionSpec } from "../../src/spec.ts";
import { NARROW } from "../../src/storage.ts";
import { torchscaleShape } from "../golden.ts";
import { nestedSpec, randomSpec } from "../schedule/specs.ts";
import { programOf } from "./program.ts";

const { limits } = cudaTarget;

it("declared and planned bytes are the same, folded branches and every head width included", () => {
  const ran = new Map<string, number>();
  fc.assert(
    fc.property(
      fc.oneof(
        randomSpec({ headDims: [4, 6, 16, 40, 72, 160] }),
        nestedSpec({ headDims: [8, 24, 100, 256] }),
      ),
      fc.constantFrom("f32" as const, "bf16" as const),
      fc.constantFrom([16, 16], [32, 16], [64, 32], [64, 64], [128, 48]),
      fc.constantFrom(...scheduleKinds),
      fc.boolean(),
      (random, dtype, [rows = 0, keys = 0], kind, fades) => {
        const spec = seal({ ...random, dtype });
        const choice = { kind, rows, keys };
        const verdict = legal(spec, choice, limits, 300);
        if (!verdict.ok) return;
        const planned = limits.attentionBytes?.(spec, choice);
        // A planner does not know of xPos' decay; it must not matter.
        const graph = attentionGraph(spec, NARROW);
        const decay = fades ? { decay: { base: 512, block: 2048 } } : {};
        const nodes = graph.nodes.map((n) => (n.op === "attention" ? { ...n, ...decay } : n));
        const { plan } = programOf({ ...graph, nodes }, verdict.schedule);
        const declared = plan.kernels.map((k) => k.sharedBytes);
        expect(planned, `${kind} ${rows}x${keys} ${dtype}`).toBe(Math.max(...declared));
        ran.set(kind, (ran.get(kind) ?? 0) + 1);
      },
    ),
    { numRuns: 60 },
  );
  console.log(JSON.stringify([...ran]));
  expect(ran.get("branch")).toBeGreaterThan(3);
  expect(ran.get("class")).toBeGreaterThan(2);
  expect(ran.get("annulus")).toBeGreaterThan(3);
});

const wide = (headDim: number): AttentionSpec =>
  seal({
    ...torchscaleShape("wide", 4, headDim, [
      { segment: 64, dilation: 1 },
      { segment: 128, dilation: 2 },
    ]),
    dtype: "bf16" as const,
  });

it("what no block has is refused with the bytes that it would take", () => {
  const verdict = legal(wide(128), { kind: "branch", rows: 64, keys: 256 }, limits, 300);
  expect(verdict).toEqual({
    ok: false,
    // Queries, keys and values of 16 bits.
    why: `tiles of 64 rows × 256 keys need ${2 * (64 + 2 * 256) * 128} bytes, the target has ${MOST_SHARED}`,
  });
});

it("heads whose counts would spill are not planned for annulus, and get it by name", () => {
  const against = (headDim: number) =>
    choose(wide(headDim), 4096, cudaTarget).candidates.find((c) => c.kind === "annulus");
  expect(against(160)?.schedule).not.toBeNull();
  expect(against(168)).toMatchObject({
    schedule: null,
    why: "what it counts leaves heads over 160 too few registers",
  });
  expect(choose(wide(168), 4096, cudaTarget, { kind: "annulus" }).chosen.kind).toBe("annulus");
});
