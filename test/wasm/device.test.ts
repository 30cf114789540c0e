import { afterAll, describe, expect, it } from "vitest";
import { wasmDevice } from "../../runtime/wasm.ts";
import type { Device, Executable } from "../../runtime/device.ts";
import { startThread } from "../../runtime/wasm/engine.ts";
import type { Thread } from "../../runtime/wasm/engine.ts";
import { ACTIVE } from "../../runtime/wasm/control.ts";
import { gather } from "../../runtime/worker.ts";
import { counting, forgetful, trapping, twoSteps, twoStepsByHand, WIDTH } from "./programs.ts";

const devices: Device[] = [];
const open = (options: Parameters<typeof wasmDevice>[0]) => {
  const device = wasmDevice(options);
  devices.push(device);
  return device;
};
afterAll(() => Promise.all(devices.map((d) => d.dispose())));

const numbers = (length: number, seed: number) =>
  Float32Array.from({ length }, (_, i) => Math.fround(Math.sin(i * 12.9898 + seed) * 3));
const weight = numbers(WIDTH, 1);
const two = async (options: Parameters<typeof wasmDevice>[0]): Promise<Executable> => {
  const executable = await open(options).compile(twoSteps);
  await executable.setWeight(0, weight);
  return executable;
};

describe.each([1, 2, 3])("with %i threads", (threads) => {
  it("runs the steps of a plan", async () => {
    const executable = await two({ threads, poison: true });
    expect(executable.detail).toBe(`WebAssembly SIMD128, ${threads} thread${threads === 1 ? "" : "s"}`);
    for (const [N, B] of [[1, 1], [7, 3], [500, 2], [3, 1], [500, 2]] as const) {
      const x = numbers(N * B * WIDTH, N);
      const { out, count } = await executable.run({ x }, { N, B });
      expect(out).toEqual(twoStepsByHand(x, weight, N, B));
      expect(count).toEqual(Int32Array.from({ length: N * B }, (_, i) => i));
    } // prettier-ignore
  });

  it("says which kernel failed and can go on", async () => {
    const executable = await open({ threads }).compile(trapping);
    for (let i = 0; i < 3; i++)
      await expect(executable.run({}, { N: 200, B: 1 })).rejects.toThrow(
        /^heddle: 'trapping' failed: memory access out of bounds$/,
      );
  });

  it("shows what a kernel forgot to write", async () => {
    const executable = await open({ threads, poison: true }).compile(forgetful);
    const { out } = await executable.run({}, { N: 5, B: 1 });
    const rows = Array.from({ length: 5 }, (_, i) => out?.[i * WIDTH + 3]);
    expect(rows).toEqual([0, NaN, 2, NaN, 4]);
  });
});

it("gives the same bits on every number of threads", async () => {
  const x = numbers(333 * 2 * WIDTH, 4);
  const all = [];
  for (const threads of [1, 2, 3, 4]) all.push(await (await two({ threads })).run({ x }, { N: 333, B: 2 }));
  for (const result of all) expect(result).toEqual(all[0]);
});

it("really uses its workers", async () => {
  const executable = await open({ threads: 2 }).compile(counting);
  // A loaded machine may let a worker sleep through a run, but hardly through a hundred.
  for (let i = 0; i < 100; i++) {
    const { out } = await executable.run({}, { N: 400, B: 1 });
    // Each thread counts its own groups of all runs, in its own scratch memory.
    const firsts = out?.filter((count, at) => at % WIDTH === 0 && count === 0).length ?? 0;
    if (firsts === (i === 0 ? 2 : 1)) return;
  }
  expect.unreachable();
});

it("grows with N and keeps weights and tables", async () => {
  const executable = await two({ threads: 1 });
  const totals = [];
  for (const N of [10, 2_000, 100, 6_000, 6_000]) {
    const x = numbers(N * WIDTH, N);
    const { out } = await executable.run({ x }, { N, B: 1 });
    expect(out).toEqual(twoStepsByHand(x, weight, N, 1));
    const { total, ...parts } = executable.memory();
    totals.push(total);
    expect(Object.values(parts).reduce((a, b) => a + b, 0)).toBeLessThanOrEqual(total);
  }
  expect(totals).toEqual([...totals].sort((a, b) => a - b));
  expect(totals[4]).toBe(totals[3]);
  expect(executable.memory()).toMatchObject({ weights: 64, arena: 6_000 * 32, inputs: 6_000 * 32 });
});

it("writes into the caller's arrays, and only those", async () => {
  const executable = await two({ threads: 2 });
  const x = numbers(9 * WIDTH, 2);
  const out = new Float32Array(9 * WIDTH);
  await executable.runInto({ x }, { N: 9, B: 1 }, { out });
  expect(out).toEqual(twoStepsByHand(x, weight, 9, 1));
});

it("runs one after another when called at once", async () => {
  const executable = await two({ threads: 2 });
  const inputs = [40, 3, 900, 17].map((N) => ({ N, x: numbers(N * WIDTH, N) }));
  const results = await Promise.all(inputs.map(({ N, x }) => executable.run({ x }, { N, B: 1 })));
  inputs.forEach(({ N, x }, i) => expect(results[i]?.["out"]).toEqual(twoStepsByHand(x, weight, N, 1)));
});

it("refuses what does not fit, with a sentence", async () => {
  const executable = await open({ threads: 1 }).compile(twoSteps);
  const x = numbers(4 * WIDTH, 1);
  const at = { N: 4, B: 1 };
  await expect(executable.run({ x }, at)).rejects.toThrow("'two' has no weights yet: 'w' was not set");
  await expect(executable.setWeight(0, new Float32Array(3))).rejects.toThrow(
    "weight 'w' takes 8 numbers (rows), found 3",
  );
  await expect(executable.setWeight(1, weight)).rejects.toThrow("'two' has no weight 1");
  await executable.setWeight(0, weight);
  await expect(executable.run({}, at)).rejects.toThrow("input 'x' is missing");
  await expect(executable.run({ x, y: x }, at)).rejects.toThrow("there is no input 'y', only 'x'");
  await expect(executable.run({ x: new Int32Array(32) }, at)).rejects.toThrow(
    "input 'x' must be a Float32Array",
  );
  await expect(executable.run({ x }, { N: 5, B: 1 })).rejects.toThrow(
    "input 'x' [1, 5, 8] has 40 elements, found 32",
  );
  await expect(executable.run({ x }, { N: 0, B: 1 })).rejects.toThrow(
    "N must be a positive integer, found 0",
  );
  await expect(executable.runInto({ x }, at, { out: new Float32Array(1) })).rejects.toThrow(
    "output 'out' [1, 4, 8] has 32 elements, found 1",
  );
  await executable.run({ x }, at);
  await executable.dispose();
  await executable.dispose();
  await expect(executable.run({ x }, at)).rejects.toThrow("'two' was disposed");
  expect(() => wasmDevice({ threads: 0 })).toThrow("threads must be a positive integer, found 0");
});

it("names the size when 4 GiB do not suffice, without asking for it", async () => {
  const executable = await open({ threads: 1 }).compile(forgetful);
  await expect(executable.run({}, { N: 200_000_000, B: 1 })).rejects.toThrow(
    "'forgetful' needs 5.96 GiB for N=200000000, B=1; a WebAssembly memory has at most 4.00 GiB",
  );
  expect((await executable.run({}, { N: 3, B: 1 }))["out"]).toHaveLength(24);
});

it("serves several programs with the same workers", async () => {
  const device = open({ threads: 2 });
  for (let i = 0; i < 5; i++) {
    const executable = await device.compile(twoSteps);
    await executable.setWeight(0, weight);
    const x = numbers(50 * WIDTH, i);
    const { out } = await executable.run({ x }, { N: 50, B: 1 });
    expect(out).toEqual(twoStepsByHand(x, weight, 50, 1));
    await executable.dispose();
  }
});

/** A worker that joins the first step and then ends or stays in it for good. */
const faulty = (then: string) =>
  startThread(`const { parentPort } = require("node:worker_threads");
    parentPort.on("message", ({ control }) => {
      const word = new Int32Array(control);
      Atomics.add(word, ${ACTIVE}, 1);
      parentPort.postMessage({ ready: true });
      ${then};
    });`);
const input = () => ({
  module: {} as never,
  memory: {} as never,
  entries: ["k"],
  kernels: [() => {}],
  scratchStride: 64,
});
const launch = { kernel: 0, title: "k", grid: 100, chunk: 1, args: [0, 0, 0] };
const poolWith = (thread: Thread) => ({ take: () => [thread], give: () => {}, dispose: () => {} });

it("rejects when a worker dies inside a step, and from then on", async () => {
  const team = await gather(poolWith(faulty("setTimeout(() => process.exit(3), 50)")), 1, input());
  const run = async () => await team.run(launch);
  await expect(run()).rejects.toThrow("heddle: 'k' failed: worker 1 ended: it exited with code 3");
  await expect(run()).rejects.toThrow("heddle: 'k' failed: worker 1 ended: it exited with code 3");
  await team.dispose();
});

it("rejects when a worker throws outside a kernel", async () => {
  const team = await gather(poolWith(faulty(`setTimeout(() => { throw new Error("odd") }, 50)`)), 1, input());
  const run = async () => await team.run(launch);
  await expect(run()).rejects.toThrow("heddle: 'k' failed: worker 1 ended: odd");
  await team.dispose();
});

it("does not start with a worker that cannot", async () => {
  const thread = startThread(`process.exit(4)`);
  await expect(gather(poolWith(thread), 1, input())).rejects.toThrow("worker 1 ended: it exited with code 4");
});
