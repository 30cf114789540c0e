/** Devices that offer little: split bindings, folded grids, short submits. Results are the same bits as with plenty. */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { attentionDefinition } from "../../codegen/ts/definition.ts";
import { memoryOf } from "../../runtime/memory.ts";
import { attention as attentionOf } from "../../runtime/model.ts";
import { paceOf } from "../../runtime/webgpu/budget.ts";
import type { WebgpuOptions } from "../../runtime/webgpu/options.ts";
import { folded } from "../../runtime/webgpu/run.ts";
import { webgpuDevice } from "../../runtime/webgpu.ts";
import type { WebgpuDevice } from "../../runtime/webgpu.ts";
import type { Tensors } from "../../runtime/tensors.ts";
import { compileSpec } from "../../src/compile.ts";
import type { ScheduleKind } from "../../src/schedule.ts";
import { randomInputs } from "../attention/run.ts";
import { modelCases } from "../golden.ts";
import type { ModelCase } from "../golden.ts";
import type { AttentionSpec, ModelSpec } from "../../src/spec.ts";
import { letGo, sharedDevice, webgpuThere } from "./gpu.ts";
import { attentionProgram, modelProgram, noiseWeights, sameBits, specOf, weightsOf } from "./programs.ts";

/** Devices of all limits, with and without features: kernels that exchange between lanes sum in another order. */
const plain = new Map<boolean, WebgpuDevice>();
const there = await webgpuThere();
beforeAll(async () => {
  for (const bare of [false, true]) {
    const device = await small(bare ? { features: [] } : {});
    if (device !== null) plain.set(bare, device);
  }
});
afterAll(async () => {
  for (const device of plain.values()) await device.dispose();
  letGo();
});
/** A device that uses no more than the options say. */
async function small(options: WebgpuOptions): Promise<WebgpuDevice | null> {
  if (!there) return null;
  return webgpuDevice({ poison: true, ...options, device: await sharedDevice() });
}

const attention = specOf(`attention five {
  heads 16  head_dim 8  causal true
  branch segment 32 dilation 1  branch segment 64 dilation 2  branch segment 128 dilation 4
}`).attentions[0] as AttentionSpec;
const golden = (await modelCases())[0] as ModelCase;
const program = modelProgram(golden.spec);

/** What a device of plenty made of the attention and of a golden model; kept for the tests. */
const expected = new Map<string, Tensors>();
const at = { N: 200, B: 1 };
const inputs = { ...randomInputs(attention, at.N, at.B, 11) };

async function attentionOn(device: WebgpuDevice, kind: ScheduleKind): Promise<Tensors> {
  const program = attentionProgram(attention, kind);
  if (program === null) throw new Error(`${kind} is legal`);
  return (await device.compile(program)).run(inputs, at);
}
async function modelOn(device: WebgpuDevice): Promise<Tensors> {
  const executable = await device.compile(program, { weights: weightsOf(program, golden).source });
  return executable.run({ tokens: golden.tokens }, { N: golden.N, B: golden.B });
}
const works: { readonly [name: string]: (device: WebgpuDevice) => Promise<Tensors> } = {
  branch: (d) => attentionOn(d, "branch"),
  class: (d) => attentionOn(d, "class"),
  model: modelOn,
};

/** The same bits as on a device of plenty. */
async function sameOn(options: WebgpuOptions, names = Object.keys(works)): Promise<void> {
  const scarce = await small(options);
  const bare = options.features !== undefined;
  const device = plain.get(bare);
  if (device === undefined || scarce === null) return;
  for (const name of names) {
    const work = works[name];
    const key = `${name} ${bare}`;
    const meant = expected.get(key) ?? (await work?.(device)) ?? {};
    expected.set(key, meant);
    expect(sameBits((await work?.(scarce)) ?? {}, meant), name).toBe(true);
  }
  await scarce.dispose();
}

describe.skipIf(!there)("a device of small limits gives the same bits", () => {
  it("with tensors split over bindings", async () => {
    // 102,400 bytes of q in two, the largest weights in several.
    await sameOn({ limits: { maxStorageBufferBindingSize: 65536 + 100, maxBufferSize: 100_000 } }, [
      "branch",
      "class",
    ]);
    await sameOn({ limits: { maxStorageBufferBindingSize: 16384 } }, ["model"]);
  });
  it("with grids folded at 3 groups a dimension", () =>
    sameOn({ limits: { maxComputeWorkgroupsPerDimension: 3 } }));
  it("with submits of a hundredth of a millisecond, timed by the device", () => sameOn({ budgetMs: 0.01 }));
  it("without timestamps", () => sameOn({ features: [], budgetMs: 0.01 }));
  it("with 16 KiB of workgroup storage, 256 invocations and 8 bindings, the least there is", () =>
    sameOn({
      features: [],
      limits: {
        maxComputeWorkgroupStorageSize: 16384,
        maxComputeInvocationsPerWorkgroup: 256,
        maxStorageBuffersPerShaderStage: 8,
      },
    }));

  it("says with numbers what does not fit, before anything runs", async () => {
    const five = attentionProgram(attention);
    if (five === null) throw new Error("planned schedules are legal");
    const none = await small({ limits: { maxComputeWorkgroupStorageSize: 1000 } });
    await expect(none?.compile(five)).rejects.toMatchObject({
      code: "LIMITS",
      message: expect.stringMatching(/needs .*\d+ bytes of workgroup storage \(it has 1000\)/),
    });
    await none?.dispose();
    const few = await small({ limits: { maxStorageBufferBindingSize: 1024, maxBufferSize: 1024 } });
    const executable = await few?.compile(five);
    await expect(
      executable?.run({ ...randomInputs(attention, 300, 1, 1) }, { N: 300, B: 1 }),
    ).rejects.toMatchObject({
      code: "LIMITS",
      message: expect.stringMatching(
        /storage bindings of at most 1024 bytes, as maxStorageBufferBindingSize .* maxStorageBuffersPerShaderStage is \d+\. Use shorter/,
      ),
    });
    // A shorter sequence still fits.
    await executable?.run({ ...randomInputs(attention, 2, 1, 1) }, { N: 2, B: 1 });
    await few?.dispose();
  });
});

it.skipIf(!there)("refuses what its kernels cannot count, before anything is allocated", async () => {
  const device = plain.get(false);
  if (device === undefined) return;
  const text = `attention wide { heads 1 head_dim 512 branch segment 16 dilation 1 }
model vast { kind encoder vocab 4 dim 512 layers 1 ffn 4 relu attention wide head none }`;
  const vast = modelProgram(specOf(text).models[0] as ModelSpec);
  const before = device.bytes();
  const executable = await device.compile(vast, { weights: noiseWeights(vast).source });
  const inUse = device.bytes();
  const N = 5_000_000;
  await expect(executable.run({ tokens: new Int32Array(N) }, { N, B: 1 })).rejects.toMatchObject({
    code: "LIMITS",
    message: expect.stringMatching(/2560000000 elements in .* count to 2\^31 - 1/),
  });
  expect(device.bytes()).toBe(inUse);
  await executable.dispose();
  expect(device.bytes()).toBe(before);
});

describe.skipIf(!there)("bytes", () => {
  it("in use are those planned before, and none are left", async () => {
    const device = plain.get(false);
    if (device === undefined) return;
    const before = device.bytes();
    const executable = await device.compile(program, { weights: weightsOf(program, golden).source });
    await executable.run({ tokens: golden.tokens }, { N: golden.N, B: golden.B });
    const planned = memoryOf(executable.plan, { N: golden.N, B: golden.B });
    const used = executable.memory();
    expect(used).toMatchObject({
      weights: planned.weights,
      inputs: planned.inputs,
      outputs: planned.outputs,
      arena: planned.activations,
      tables: planned.tables,
    });
    expect(used.total).toBe(planned.total + used.scratch);
    // Buffers are whole 16 bytes.
    const buffers = executable.plan.weights.length + 50;
    expect(device.bytes() - before).toBeGreaterThanOrEqual(used.total);
    expect(device.bytes() - before).toBeLessThan(used.total + 16 * buffers);
    await executable.dispose();
    expect(device.bytes()).toBe(before);
  });
});

it.skipIf(!there)("of a session are planned in the types that this device stores", async () => {
  const spec = specOf("attention half { heads 2 head_dim 8 branch segment all dilation 1 dtype f16 }");
  const [compiled] = compileSpec(spec, { target: ["wasm", "wgsl"] });
  const [half] = spec.attentions;
  if (compiled === undefined || half === undefined) throw new Error("one attention");
  const definition = { ...attentionDefinition(half), program: compiled.program };
  const on = async (device: "wasm" | "webgpu") => {
    const session = await attentionOf(definition).create({
      device,
      webgpu: { device: await sharedDevice() },
    });
    const { inputs } = session.memory({ length: 100 });
    session.dispose();
    return inputs;
  };
  expect(await on("wasm")).toBe(4 * 3 * 100 * 16);
  expect(await on("webgpu")).toBe(2 * 3 * 100 * 16);
});

describe("folded", () => {
  it("covers every count with no dimension past the limit and few groups over", () => {
    for (const most of [3, 100, 65535])
      for (const count of [1, most - 1, most, most + 1, 2 * most + 1, most * most - 1, most * most].filter(
        (n) => n > 0,
      )) {
        const [x, y] = folded(count, most);
        expect(x * y).toBeGreaterThanOrEqual(count);
        expect(Math.max(x, y)).toBeLessThanOrEqual(most);
        expect(x * y - count).toBeLessThan(x + y);
      }
  });
});

describe("pace", () => {
  it("starts small, grows by what was measured, and never passes the budget by a known kernel", () => {
    const pace = paceOf(100);
    const perGroup = 0.5;
    let [left, most] = [10_000, 0];
    const sizes: number[] = [];
    while (left > 0) {
      const count = pace.next("k", left, 0);
      expect(count).toBeGreaterThan(0);
      sizes.push(count);
      pace.learn("k", count, count * perGroup);
      most = Math.max(most, count * perGroup);
      left -= count;
    }
    expect(sizes[0]).toBeLessThanOrEqual(16);
    expect(most).toBeLessThanOrEqual(100);
    expect(sizes.length).toBeLessThan(70);
    // Nothing unknown follows other work in a submit.
    expect(pace.next("other", 100, 1)).toBe(0);
  });
  it("recovers from a first piece that waited for the compiler", () => {
    const pace = paceOf(100);
    const first = pace.next("k", 10_000, 0);
    pace.learn("k", first, 1500);
    let [left, submits] = [10_000 - first, 0];
    while (left > 0) {
      const count = pace.next("k", left, 0);
      pace.learn("k", count, count * 0.1);
      left -= count;
      submits++;
    }
    // Ten are the least that the budget allows; one group at a time would be ten thousand.
    expect(submits).toBeLessThan(30);
  });
  it("takes a small slow remainder for an exception", () => {
    const pace = paceOf(100);
    pace.learn("k", 16, 16);
    pace.learn("k", 1, 50);
    expect(pace.expected("k", 10)).toBe(10);
  });
  it("runs at least one group, however slow it is", () => {
    const pace = paceOf(10);
    pace.learn("slow", 1, 5000);
    expect(pace.next("slow", 100, 0)).toBe(1);
    expect(pace.next("slow", 100, 1)).toBe(0);
  });
});
