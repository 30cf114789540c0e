/**
 * One random encoder and one random decoder on every device there is: every output against the f64 reference, and of the decoder what prompts
 * and the steps behind them give. As `heddle verify` does it.
 */
import fc from "fast-check";
import { afterAll, describe, expect, it } from "vitest";
import { modelReach } from "../codegen/decode.ts";
import { cudaDevice } from "../runtime/cuda.ts";
import { wasmDevice } from "../runtime/wasm.ts";
import { subjectOf } from "../src/cli/verify/devices.ts";
import type { Subject } from "../src/cli/verify/devices.ts";
import { verifyItem } from "../src/cli/verify/item.ts";
import { seal } from "../src/spec.ts";
import type { ModelSpec } from "../src/spec.ts";
import { executing } from "./cuda-runtime/stub.ts";
import { letGo, testDevice, webgpuThere } from "./webgpu/gpu.ts";
import { randomModel } from "./wgsl/models.ts";

const seed = Number(process.env["HEDDLE_SEED"] ?? Date.now() % 1e9);
/** In two sequences, past some segments and tiles. */
const LENGTH = 75;

const drawn = (fits: (model: ModelSpec) => boolean): ModelSpec => {
  const [found] = fc.sample(randomModel.filter(fits), { numRuns: 1, seed });
  if (found === undefined) throw new Error("no model was drawn");
  return found;
};
const models = {
  encoder: drawn((m) => m.kind === "encoder" && m.layers === 2),
  decoder: drawn((m) => m.layers === 2 && m.xpos !== null && modelReach(m).tokens >= LENGTH),
};

const gpu = await webgpuThere();
const cuda = await executing();
/** How each is opened; null where it is not here, which `HEDDLE_REQUIRE` makes an error. */
const devices: { readonly [name: string]: (() => Promise<Subject>) | null } = {
  wasm: () => Promise.resolve(subjectOf(wasmDevice({ poison: true, threads: 2 }), "wasm", "wasm")),
  webgpu: gpu
    ? async () => {
        const device = await testDevice({ poison: true });
        if (device === null) throw new Error("the device went");
        return subjectOf(device, "webgpu", "wgsl");
      }
    : null,
  cuda:
    cuda === null
      ? null
      : async () => subjectOf(await cudaDevice({ ...cuda.options, poison: true }), "cuda", "cuda"),
};

const found: string[] = [];
afterAll(() => {
  letGo();
  console.log(`HEDDLE_SEED=${seed}, worst of scale: ${found.join(", ")}`);
});

describe.each(Object.entries(devices))("on %s", (name, open) => {
  it.skipIf(open === null).each(Object.entries(models))(
    "a random %s gives what the reference does",
    { timeout: 300_000 },
    async (kind, model) => {
      if (open === null) return;
      const subject = await open();
      try {
        const findings = await verifyItem({
          spec: seal({ attentions: [], models: [model], schedules: [] }),
          item: { kind: "model", spec: model },
          subjects: [subject],
          lengths: [9, LENGTH],
          wholeOnly: true,
          seed,
          say: () => undefined,
        });
        const about = `HEDDLE_SEED=${seed} ${JSON.stringify(model)}`;
        // What a device could not run is a finding of its own kind.
        for (const finding of findings)
          expect(finding, about).toMatchObject({ comparison: { ok: true } as object });
        const of = (what: RegExp) => findings.filter((f) => "kernel" in f && what.test(f.kernel));
        expect(of(/whole model/).length).toBeGreaterThanOrEqual(2);
        expect(of(/generation/)).toHaveLength(kind === "decoder" ? 1 : 0);
        const worst = findings.map((f) => ("kernel" in f ? f.comparison.worst / f.comparison.scale : NaN));
        found.push(`${name} ${kind} ${Math.max(...worst).toExponential(1)}`);
      } finally {
        await subject.dispose();
      }
    },
  );
});
