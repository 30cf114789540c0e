/** torchscale's decoders and encoders through WebAssembly: hidden states and logits, each against the golden file. */
import { readFileSync } from "node:fs";
import { afterAll, describe, expect, it } from "vitest";
import { modelDefinition } from "../../codegen/ts/definition.ts";
import { memorySource } from "../../runtime/safetensors.ts";
import { model } from "../../runtime/index.ts";
import { compileSpec } from "../../src/compile.ts";
import { scheduleKinds } from "../../src/schedule.ts";
import { seal } from "../../src/spec.ts";
import { compare } from "../../src/tolerance.ts";
import { scheduleFor } from "../attention/run.ts";
import { goldenPath, modelCases } from "../golden.ts";

const cases = await modelCases();
const worst: string[] = [];
afterAll(() => console.log(`models through wasm, worst of scale: ${worst.join(", ")}`));

describe.each(cases)("$id", (c) => {
  const legal = scheduleKinds.filter(
    (kind) => scheduleFor(c.spec.attention, { kind, rows: 32, keys: 32 }, c.N) !== null,
  );
  it.each(legal)("equals torchscale, schedule %s", async (kind) => {
    const program = seal({ attentions: [], models: [c.spec], schedules: [] });
    const [compiled] = compileSpec(program, { target: "wasm", schedule: kind, length: c.N, hidden: true });
    if (compiled?.item.kind !== "model") throw new Error("no model");
    const source = memorySource(readFileSync(goldenPath(c.weightsFile)), c.weightsFile);
    const definition = { ...modelDefinition(compiled.item.spec, compiled.hidden), program: compiled.program };
    const session = await model(definition).create({ weights: source, poison: true });
    const got = await session.forward(c.tokens, { batch: c.B, length: c.N, paddingMask: c.paddingMask });
    session.dispose();
    // Every layer adds the roundings of its sums; the widest is the FFN's.
    const terms = c.spec.layers * c.spec.ffn.dim;
    const logits = compare((got as { logits: Float32Array }).logits, c.logits, { dtype: "f32", terms });
    const hidden = compare(got.hidden ?? [], c.hidden, { dtype: "f32", terms });
    worst.push(`${c.id} ${kind} ${(logits.worst / logits.scale).toExponential(1)}`);
    expect(logits, "logits").toMatchObject({ ok: true });
    expect(hidden, "hidden").toMatchObject({ ok: true });
  });
});
