/** Random decoders on WebAssembly: decoding equals the forward pass for whatever the language can say. */
import fc from "fast-check";
import { expect, it } from "vitest";
import { modelReach } from "../../codegen/decode.ts";
import { wasmDevice } from "../../runtime/wasm.ts";
import { compileSpec } from "../../src/compile.ts";
import { seal } from "../../src/spec.ts";
import type { ModelShape, ModelSpec } from "../../src/spec.ts";
import { nestedSpec, randomSpec } from "../schedule/specs.ts";
import { randomModel } from "../wgsl/models.ts";
import { decodeBeside, lengthFor } from "./parity.ts";

const decoder: fc.Arbitrary<ModelSpec> = fc
  .tuple(
    randomModel,
    fc.oneof(
      randomSpec({ maxSegment: 24, maxBranches: 4, headDims: [4, 6, 8] }),
      nestedSpec({ maxSegment: 48, headDims: [4, 8] }),
    ),
  )
  .map(([model, attention]) =>
    seal<ModelShape>({
      ...model,
      kind: "decoder",
      input: "tokens",
      patchEmbed: null,
      classToken: false,
      pool: null,
      grid: null,
      checkpoint: "torchscale",
      vocab: 31,
      head: model.head === "none" ? "tied" : model.head,
      xpos: model.xpos === null || attention.headDim % 2 !== 0 ? null : { base: 4 },
      attention: seal({ ...attention, causal: true, dtype: "f32" as const }),
    }),
  );

it("equals the forward pass for random models, three sequences at different places", async () => {
  const device = wasmDevice({ threads: 1, poison: true });
  let [worst, rows, nested] = [0, 0, 0];
  await fc.assert(
    fc.asyncProperty(decoder, async (spec) => {
      // Where rows begin to move, decoding ends.
      fc.pre(modelReach(spec).tokens >= lengthFor(spec));
      const program = seal({ attentions: [], models: [spec], schedules: [] });
      const [compiled] = compileSpec(program, { target: "wasm", generate: true });
      if (compiled === undefined) throw new Error("nothing was compiled");
      const found = await decodeBeside(device, compiled.program, spec);
      worst = Math.max(worst, found.worst / found.scale);
      rows += found.rows;
      if (compiled.program.plan.decoding?.entries.promote !== undefined) nested++;
      expect(found.worst).toBeLessThan(5e-5 * found.scale);
    }),
    { numRuns: 20, seed: 11 },
  );
  await device.dispose();
  console.log(
    `decoding beside the forward pass: ${rows} rows of random models (${nested} move tokens), worst ${worst.toExponential(1)}`,
  );
  expect(nested).toBeGreaterThan(3);
});
