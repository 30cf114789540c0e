/** What the runner measures where a device has no clock of its own. */
import { expect, it } from "vitest";
import { runnerFor, type ReadyStep } from "../../runtime/webgpu/run.ts";
import type { Session } from "../../runtime/webgpu/session.ts";

/** A device that is done at once. */
const idle = {
  device: {
    limits: { minUniformBufferOffsetAlignment: 256, maxBufferSize: 2 ** 28 },
    createCommandEncoder: () => ({
      beginComputePass: () => ({
        setPipeline: () => {},
        setBindGroup: () => {},
        dispatchWorkgroups: () => {},
        end: () => {},
      }),
      finish: () => ({}),
    }),
    queue: { writeBuffer: () => {}, submit: () => {}, onSubmittedWorkDone: () => Promise.resolve() },
  },
  limits: { maxComputeWorkgroupsPerDimension: 65535 },
  features: new Set(),
  lost: new Promise(() => {}),
  isLost: () => false,
  buffer: () => Promise.resolve({}),
} as unknown as Session;

it("is the work alone, however long that was expected to take", async () => {
  const learnt: number[] = [];
  const pace = {
    next: (_key: string, left: number) => Math.min(left, 1),
    expected: () => 2000,
    learn: (_key: string, _groups: number, ms: number) => void learnt.push(ms),
  };
  const runner = await runnerFor(idle, pace, 100, 0);
  const step = { key: "k", grid: 3, scalars: new Uint32Array() } as ReadyStep;
  await runner.run([step], true);
  expect(learnt).toHaveLength(3);
  // Slept through, each would be 1,600 ms.
  expect(Math.max(...learnt)).toBeLessThan(1000);
});
