/** Random specs, subgroups of every size, and golden models through the generated shaders, on Dawn with SwiftShader. */
import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { WebgpuDevice } from "../../runtime/webgpu.ts";
import { scheduleKinds } from "../../src/schedule.ts";
import { compare } from "../../src/tolerance.ts";
import { modelCases } from "../golden.ts";
import { randomSpec } from "../schedule/specs.ts";
import { testDevice, webgpuThere } from "./gpu.ts";
import { attentionProgram, emulated, holdAttention, modelProgram, weightsOf } from "./programs.ts";

const seed = Number(process.env["HEDDLE_SEED"] ?? Date.now() % 1e9);
const there = await webgpuThere();
let device: WebgpuDevice | null = null;
let base: WebgpuDevice | null = null;
beforeAll(async () => {
  device = await testDevice({ poison: true });
  base = await testDevice({ poison: true, features: [] });
});
afterAll(async () => {
  await device?.dispose();
  await base?.dispose();
});

const edges = fc.oneof(
  {
    weight: 3,
    arbitrary: fc.constantFrom(1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129),
  },
  { weight: 1, arbitrary: fc.integer({ min: 1, max: 300 }) },
);
const headDims = [4, 6, 8, 12, 16, 24, 32];

describe.skipIf(!there)("random specs equal the reference", () => {
  it("on every legal schedule, with and without subgroups", { timeout: 600_000 }, async () => {
    if (device === null || base === null) return;
    const ran = new Map<string, number>();
    let worst = 0;
    const drawn = fc.sample(
      fc.tuple(randomSpec({ maxSegment: 200, headDims }), edges, fc.constantFrom(1, 2)),
      { numRuns: 8, seed },
    );
    for (const [i, [spec, N, B]] of drawn.entries())
      for (const kind of scheduleKinds) {
        const program = attentionProgram(spec, kind, N);
        if (program === null) continue;
        ran.set(kind, (ran.get(kind) ?? 0) + 1);
        // Half of the specs with subgroups, half without: most of the time is spent in compiling.
        const on = i % 2 === 0 ? device : base;
        worst = Math.max(worst, await holdAttention(on, spec, program, { N, B }, seed + i));
      }
    console.log(
      `WebGPU: ${JSON.stringify([...ran])}, worst ${worst.toExponential(1)} of scale, HEDDLE_SEED=${seed}`,
    );
    expect(ran.get("branch")).toBe(drawn.length);
    expect(ran.get("class")).toBeGreaterThan(0);
  });
});

describe.skipIf(!there)("subgroups", () => {
  it.each([4, 8, 16, 32, 64, 128])("of %i lanes give the same", { timeout: 300_000 }, async (size) => {
    if (base === null) return;
    const drawn = fc.sample(fc.tuple(randomSpec({ maxSegment: 100, headDims: [8, 16, 32] }), edges), {
      numRuns: 4,
      seed: seed + size,
    });
    let exchanged = 0;
    for (const [i, [spec, N]] of drawn.entries())
      for (const kind of ["branch", "class"] as const) {
        const program = emulated(spec, kind, N, size);
        if (program === null) continue;
        exchanged += program.webgpu?.[0]?.shaders.filter((s) => s.code.includes("exchange(")).length ?? 0;
        await holdAttention(base, spec, program, { N, B: 1 }, seed + i);
      }
    expect(exchanged, `HEDDLE_SEED=${seed}`).toBeGreaterThan(0);
  });
});

const golden = (await modelCases()).map((c, i) => ({ ...c, plain: i % 2 === 0 }));
// Half of them with subgroups, half without, as above; test/webgpu/cli.test.ts runs some once more, by the command.
describe.skipIf(!there).each(golden)("golden model $id", (c) => {
  it("gives torchscale's logits", async () => {
    const on = c.plain ? base : device;
    if (on === null) throw new Error("the device went");
    const program = modelProgram(c.spec);
    const executable = await on.compile(program, { weights: weightsOf(program, c).source });
    const got = await executable.run(c.inputs, { N: c.N, B: c.B });
    const terms = c.spec.layers * c.spec.ffn.dim;
    const logits = got["logits"] ?? got["out"] ?? [];
    expect(compare(logits, c.logits, { dtype: "f32", terms, of: "model" })).toMatchObject({ ok: true });
    await executable.dispose();
  });
});
