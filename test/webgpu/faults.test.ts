/** What goes wrong on a GPU: it is lost, it has no memory, it does not give its results. No call ends in invented numbers. */
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Tensors } from "../../runtime/tensors.ts";
import { webgpuDevice } from "../../runtime/webgpu.ts";
import type { WebgpuDevice } from "../../runtime/webgpu.ts";
import type { ModelSpec } from "../../src/spec.ts";
import { tinyModel } from "../cli/session.ts";
import { letGo, openGpu, testDevice, webgpuThere } from "./gpu.ts";
import { modelProgram, noiseWeights, sameBits, specOf } from "./programs.ts";

const program = modelProgram(specOf(tinyModel).models[0] as ModelSpec);
const tokens = Int32Array.from({ length: 32 }, (_, i) => (i * 37) % 256);
const at = { N: 32, B: 1 };
const run = { tokens };
let expected: Tensors = {};
const there = await webgpuThere();
beforeAll(async () => {
  const device = await testDevice();
  if (device === null) return;
  expected = await (await device.compile(program, { weights: noiseWeights(program).source })).run(run, at);
  await device.dispose();
});
const open: WebgpuDevice[] = [];
afterAll(async () => {
  for (const device of open) await device.dispose().catch(() => undefined);
  letGo();
});
/** A device that makes GPUDevices by a function which keeps the latest. */
async function remaking(change: (device: GPUDevice) => GPUDevice = (d) => d) {
  const made: GPUDevice[] = [];
  const device = await webgpuDevice({
    device: async () => {
      const { adapter } = await openGpu();
      const raw = await adapter.requestDevice();
      made.push(raw);
      return change(raw);
    },
  });
  open.push(device);
  return { device, made };
}

describe.skipIf(!there)("a lost device", () => {
  it("rejects what runs on it, and the next call has another with the weights on it", async () => {
    const { device, made } = await remaking();
    const { source, asked } = noiseWeights(program);
    const executable = await device.compile(program, { weights: source });
    expect(sameBits(await executable.run(run, at), expected)).toBe(true);
    expect(asked.times).toBe(1);

    const flight = executable.run(run, at);
    const waiting = executable.run(run, at);
    // In the middle: the run has begun and is not over.
    await Promise.resolve();
    made[0]?.destroy();
    await expect(flight).rejects.toMatchObject({ name: "DeviceError", code: "DEVICE_LOST" });
    // What waited had not begun; it runs on the new device.
    expect(sameBits(await waiting, expected)).toBe(true);
    expect(made).toHaveLength(2);
    expect(asked.times).toBe(2);
    expect(sameBits(await executable.run(run, at), expected)).toBe(true);
    const inUse = device.bytes();
    await executable.dispose();
    expect(inUse).toBeGreaterThan(0);
    expect(device.bytes()).toBe(0);
  });

  it("is replaced however often, and serves several programs", async () => {
    const { device, made } = await remaking();
    const programs = await Promise.all(
      [1, 2].map(() => device.compile(program, { weights: noiseWeights(program).source })),
    );
    for (let i = 0; i < 3; i++) {
      made.at(-1)?.destroy();
      await made.at(-1)?.lost;
      const results = await Promise.all(programs.map((p) => p.run(run, at)));
      for (const r of results) expect(sameBits(r, expected)).toBe(true);
      expect(made).toHaveLength(i + 2);
    }
  });

  it("of the caller stays lost, and every call says so", async () => {
    const { adapter } = await openGpu();
    const raw = await adapter.requestDevice();
    const device = await webgpuDevice({ device: raw });
    const executable = await device.compile(program, { weights: noiseWeights(program).source });
    expect(sameBits(await executable.run(run, at), expected)).toBe(true);
    raw.destroy();
    await raw.lost;
    for (let i = 0; i < 2; i++)
      await expect(executable.run(run, at)).rejects.toMatchObject({ code: "DEVICE_LOST" });
    await executable.dispose();
    await device.dispose();
  });

  it("without a source of weights says that they are gone", async () => {
    const { device, made } = await remaking();
    const { source } = noiseWeights(program);
    const executable = await device.compile(program);
    await source?.((index, data) => executable.setWeight(index, data));
    expect(sameBits(await executable.run(run, at), expected)).toBe(true);
    made[0]?.destroy();
    await made[0]?.lost;
    await expect(executable.run(run, at)).rejects.toMatchObject({
      code: "DEVICE_LOST",
      message: expect.stringContaining("nobody said where they come from"),
    });
  });

  it("that cannot be replaced at once is tried again by the next call", async () => {
    let [fail, tries] = [false, 0];
    const made: GPUDevice[] = [];
    const device = await webgpuDevice({
      device: async () => {
        tries += 1;
        if (fail) throw new Error("the driver restarts");
        const { adapter } = await openGpu();
        made.push(await adapter.requestDevice());
        return made.at(-1) as GPUDevice;
      },
    });
    open.push(device);
    const executable = await device.compile(program, { weights: noiseWeights(program).source });
    fail = true;
    made[0]?.destroy();
    await made[0]?.lost;
    await expect(executable.run(run, at)).rejects.toThrow("the driver restarts");
    fail = false;
    expect(sameBits(await executable.run(run, at), expected)).toBe(true);
    expect(tries).toBe(3);
  });
});

/** A GPUDevice with some methods changed: a Proxy, as native objects answer only to themselves. */
function changed<T extends object>(of: T, changes: Partial<Record<keyof T, unknown>>): T {
  return new Proxy(of, {
    get: (target, key) => {
      if (key in changes) return changes[key as keyof T];
      const value: unknown = Reflect.get(target, key, target);
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
}

describe.skipIf(!there)("memory that is refused", () => {
  it("is one error with the bytes asked for and their formula; shorter runs go on", async () => {
    const most = 200_000;
    const { device } = await remaking((raw) => {
      let refused = false;
      return changed(raw, {
        createBuffer: (d: GPUBufferDescriptor) => {
          refused = d.size > most;
          return raw.createBuffer(refused ? { ...d, size: 16 } : d);
        },
        popErrorScope: async () => {
          const error = await raw.popErrorScope();
          return refused ? { message: "Out of memory" } : error;
        },
      });
    });
    const spec = specOf("attention big { heads 4 head_dim 8 causal true branch segment all dilation 1 }")
      .attentions[0];
    if (spec === undefined) throw new Error("no attention");
    const { attentionProgram } = await import("./programs.ts");
    const attention = attentionProgram(spec);
    if (attention === null) throw new Error("dense is legal");
    const executable = await device.compile(attention);
    const inputs = (N: number) =>
      Object.fromEntries(["q", "k", "v"].map((name) => [name, new Float32Array(N * 32).fill(1)]));
    const before = device.bytes();
    await expect(executable.run(inputs(2000), { N: 2000, B: 1 })).rejects.toMatchObject({
      name: "DeviceError",
      code: "OUT_OF_MEMORY",
      message: expect.stringMatching(
        /no 256000 bytes for input 'q' \(B \* N \* 4 \* 8 of f32 at N = 2000, B = 1\)/,
      ),
    });
    // What the failed attempt had taken is given back.
    expect(device.bytes()).toBe(before);
    const { out } = await executable.run(inputs(100), { N: 100, B: 1 });
    expect(out?.every((x) => Math.abs(x - 1) < 1e-6)).toBe(true);
  });
});

describe.skipIf(!there)("results that do not come back", () => {
  it("are an error, not zeros", async () => {
    let broken = true;
    const { device } = await remaking((raw) =>
      changed(raw, {
        createBuffer: (d: GPUBufferDescriptor) => {
          const buffer = raw.createBuffer(d);
          if (!broken || d.label !== "a readback buffer") return buffer;
          buffer.mapAsync = () => Promise.reject(new Error("mapping was refused"));
          return buffer;
        },
      }),
    );
    const executable = await device.compile(program, { weights: noiseWeights(program).source });
    await expect(executable.run(run, at)).rejects.toMatchObject({
      code: "FAILED",
      message: expect.stringContaining("mapping was refused"),
    });
    broken = false;
    expect(sameBits(await executable.run(run, at), expected)).toBe(true);
  });
});

describe.skipIf(!there)("a hundred programs", () => {
  it("made and disposed of leave nothing: no live buffer, no byte", { timeout: 300_000 }, async () => {
    let live = 0;
    const { device } = await remaking((raw) =>
      changed(raw, {
        createBuffer: (d: GPUBufferDescriptor) => {
          const buffer = raw.createBuffer(d);
          const destroy = buffer.destroy.bind(buffer);
          let dead = false;
          live += 1;
          buffer.destroy = () => {
            if (!dead) live -= 1;
            dead = true;
            return destroy();
          };
          return buffer;
        },
      }),
    );
    const { source } = noiseWeights(program);
    for (let i = 0; i < 100; i++) {
      const executable = await device.compile(program, source === undefined ? {} : { weights: source });
      if (i % 20 === 0) await executable.run(run, at);
      await executable.dispose();
      expect({ live, bytes: device.bytes() }, `cycle ${i}`).toEqual({ live: 0, bytes: 0 });
    }
  });
});

describe.skipIf(!there)("progress and times", () => {
  it("of compilation count every kernel, those of a run every step", async () => {
    const device = await testDevice({ profile: true });
    if (device === null) return;
    const warmed: number[][] = [];
    const executable = await device.compile(program, {
      weights: noiseWeights(program).source,
      warmup: (done, of) => void warmed.push([done, of]),
    });
    const kernels = program.webgpu?.[0]?.shaders.length ?? 0;
    expect(warmed).toEqual(Array.from({ length: kernels }, (_, i) => [i + 1, kernels]));
    await executable.run(run, at);
    const steps = executable.profile();
    expect(steps.length).toBe(executable.plan.variants[0]?.steps.length);
    expect(steps.every((s) => s.ms >= 0 && s.entry !== "" && s.title !== "")).toBe(true);
    expect(steps.reduce((sum, s) => sum + s.ms, 0)).toBeGreaterThan(0);
    await device.dispose();
  });
});
