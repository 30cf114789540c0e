/** Generation on WebGPU: what WebAssembly says, and what happens when the device is lost. */
import { expect, it } from "vitest";
import { modelDefinition } from "../../codegen/ts/definition.ts";
import { generation } from "../../runtime/generate.ts";
import type { GenerationSession } from "../../runtime/generate.ts";
import { compileSpec, readSpec } from "../../src/compile.ts";
import { checkpointOf, MODELS } from "../decode/parity.ts";
import { letGo, openGpu, webgpuThere } from "../webgpu/gpu.ts";

const there = await webgpuThere();
const said = async (session: GenerationSession, resume = false) => {
  const tokens: number[] = [];
  for await (const { token } of session.generate([resume ? [] : [1, 2, 3, 4, 5, 6, 7]], {
    temperature: 0,
    maxTokens: 6,
    resume,
  }))
    tokens.push(token);
  return tokens;
};

it.skipIf(!there)("says what WebAssembly says; a lost device costs the cache, not the session", async () => {
  const { spec } = readSpec(MODELS["mean"] ?? "");
  const [compiled] =
    spec === null ? [] : compileSpec(spec, { target: ["wasm", "wgsl"], names: ["m"], generate: true });
  if (compiled?.item.kind !== "model") throw new Error("no model");
  const definition = { ...modelDefinition(compiled.item.spec), program: compiled.program };
  const weights = checkpointOf(compiled.program);
  const made: GPUDevice[] = [];
  const device = async () => {
    const { adapter } = await openGpu();
    const raw = await adapter.requestDevice();
    made.push(raw);
    return raw;
  };
  const processor = await generation(definition, { weights, device: "wasm", threads: 1 });
  const gpu = await generation(definition, { weights, device: "webgpu", webgpu: { device } });
  const expected = [...(await said(processor)), ...(await said(processor, true))];
  const first = await said(gpu);
  const bytes = await gpu.save();
  expect([...first, ...(await said(gpu, true))]).toEqual(expected);

  // While nothing runs: there is nothing to resume, but a prompt is read as if nothing had happened.
  made.at(-1)?.destroy();
  await expect(said(gpu, true)).rejects.toMatchObject({ name: "DeviceError", code: "DEVICE_LOST" });
  expect(await said(gpu)).toEqual(first);
  // And saved bytes go on where they ended.
  made.at(-1)?.destroy();
  await gpu.restore(bytes);
  expect([...first, ...(await said(gpu, true))]).toEqual(expected);
  expect(made).toHaveLength(3);
  processor.dispose();
  gpu.dispose();
  letGo();
});
