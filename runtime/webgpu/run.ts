/** Running the steps of a prepared program: cut into submits that stay within the budget, measured as they run. */
import { deviceError } from "./errors.ts";
import type { Pace } from "./budget.ts";
import { HEAD_BYTES, type Pipeline } from "./pipelines.ts";
import { MAP_READ, USAGE } from "./session.ts";
import type { Session } from "./session.ts";

export type ReadyStep = Pipeline & {
  readonly title: string;
  /** Entry of the kernel, for profiles. */
  readonly entry: string;
  /** Steps of one key cost the same per group. */
  readonly key: string;
  readonly group: GPUBindGroup;
  /** Group 1, of kernels that look numbers up. */
  readonly looked: GPUBindGroup | undefined;
  readonly grid: number;
  /** `first_row` of the parameters. */
  readonly row: number;
  /** Values of the scalars as they lie in the parameters, already converted to bits. */
  readonly scalars: Uint32Array;
};

/** Milliseconds of each step of a run, as the device measured them. */
export type StepTime = { readonly title: string; readonly entry: string; readonly ms: number };

type Piece = { readonly step: ReadyStep; readonly first: number; readonly count: number };

/** Dispatches of one submit at most. */
const MOST = 256;
const LOW_BITS = 0xff800000;

/** Node polls Dawn in a busy loop for as long as anything is awaited of it, which takes a processor from software renderers. */
const polled =
  (globalThis as { process?: { versions?: { node?: string } } }).process?.versions?.node !== undefined;
/** Sleeps through most of a submit that is expected to take `ms` milliseconds, where waiting for it would cost a processor. */
const untilDue = (ms: number): Promise<void> =>
  polled && ms > 5 ? new Promise((resolve) => setTimeout(resolve, ms * 0.8)) : Promise.resolve();

export type Runner = {
  /** Submits all steps; resolves when the last was submitted (all before have run). With `profile`, gives their times. */
  readonly run: (steps: readonly ReadyStep[], profile: boolean) => Promise<readonly StepTime[]>;
  readonly params: GPUBuffer;
  readonly bytes: number;
  readonly free: () => void;
};

/** Width and height of a grid that no dimension of which passes the limit: near-square, so that few groups are left over. */
export function folded(count: number, most: number): readonly [number, number] {
  const rows = Math.ceil(count / most);
  if (rows === 1) return [count, 1];
  const height = Math.min(most, Math.max(rows, Math.ceil(Math.sqrt(count))));
  return [Math.ceil(count / height), height];
}

export async function runnerFor(
  session: Session,
  pace: Pace,
  budgetMs: number,
  largest: number,
): Promise<Runner> {
  const { device, limits } = session;
  const align = device.limits.minUniformBufferOffsetAlignment;
  const slot = Math.ceil((HEAD_BYTES + 4 * largest) / align) * align;
  const timed = session.features.has("timestamp-query");
  const owned: GPUBuffer[] = [];
  const own = async (label: string, bytes: number, usage: number) => {
    const made = await session.buffer({ label, bytes }, usage);
    owned.push(made);
    return made;
  };
  const params = await own("parameters", slot * MOST, USAGE.uniform | USAGE.copyDst);
  const times = timed
    ? {
        set: device.createQuerySet({ type: "timestamp", count: 2 * MOST }),
        resolved: await own("timestamps", 16 * MOST, USAGE.queryResolve | USAGE.copySrc),
        readable: await own("timestamps", 16 * MOST, USAGE.mapRead | USAGE.copyDst),
      }
    : null;
  const words = new Uint32Array((slot * MOST) / 4);

  /** Submits one batch; with `measure`, waits for it and gives the milliseconds of each piece. */
  const submit = async (batch: readonly Piece[], measure: boolean): Promise<readonly number[] | null> => {
    batch.forEach(({ step, first, count }, i) => {
      const at = (i * slot) / 4;
      words.set([first, first + count, LOW_BITS, step.row], at);
      words.set(step.scalars, at + HEAD_BYTES / 4);
    });
    device.queue.writeBuffer(params, 0, words, 0, (batch.length * slot) / 4);
    const encoder = device.createCommandEncoder();
    const clock = measure ? times : null;
    let pass = clock === null ? encoder.beginComputePass() : null;
    batch.forEach(({ step, count }, i) => {
      if (clock !== null)
        pass = encoder.beginComputePass({
          timestampWrites: {
            querySet: clock.set,
            beginningOfPassWriteIndex: 2 * i,
            endOfPassWriteIndex: 2 * i + 1,
          },
        });
      pass?.setPipeline(step.pipeline);
      pass?.setBindGroup(0, step.group, [i * slot]);
      if (step.looked !== undefined) pass?.setBindGroup(1, step.looked);
      const [x, y] = folded(count, limits.maxComputeWorkgroupsPerDimension);
      pass?.dispatchWorkgroups(x, y);
      if (clock !== null) pass?.end();
    });
    if (clock === null) pass?.end();
    else {
      encoder.resolveQuerySet(clock.set, 0, 2 * batch.length, clock.resolved, 0);
      encoder.copyBufferToBuffer(clock.resolved, 0, clock.readable, 0, 16 * batch.length);
    }
    const start = performance.now();
    device.queue.submit([encoder.finish()]);
    if (!measure) return null;
    if (clock === null) {
      // A sleep would be measured with the work, and an estimate that is too long would prove itself right.
      await Promise.race([device.queue.onSubmittedWorkDone(), session.lost]);
      const ms = performance.now() - start;
      const all = batch.reduce((sum, p) => sum + p.count, 0);
      return batch.map((p) => (ms * p.count) / all);
    }
    await untilDue(batch.reduce((ms, p) => ms + (pace.expected(p.step.key, p.count) ?? 0), 0));
    await Promise.race([clock.readable.mapAsync(MAP_READ, 0, 16 * batch.length), session.lost]);
    const stamps = new BigUint64Array(clock.readable.getMappedRange(0, 16 * batch.length).slice(0));
    clock.readable.unmap();
    return batch.map((_, i) => Number((stamps[2 * i + 1] ?? 0n) - (stamps[2 * i] ?? 0n)) / 1e6);
  };

  const run = async (steps: readonly ReadyStep[], profile: boolean): Promise<readonly StepTime[]> => {
    const sums = new Map<ReadyStep, number>();
    let [index, done] = [0, 0];
    while (index < steps.length) {
      if (session.isLost()) await session.lost;
      const batch: Piece[] = [];
      let spent = 0;
      while (index < steps.length && batch.length < MOST && spent < budgetMs) {
        const step = steps[index];
        if (step === undefined) break;
        if (step.grid === done) {
          [index, done] = [index + 1, 0];
          continue;
        }
        const count = pace.next(step.key, step.grid - done, spent);
        if (count === 0) break;
        batch.push({ step, first: done, count });
        spent += pace.expected(step.key, count) ?? budgetMs;
        done += count;
      }
      if (batch.length === 0) continue;
      while (steps[index]?.grid === done && index < steps.length) [index, done] = [index + 1, 0];
      const unknown = batch.some((p) => pace.expected(p.step.key, p.count) === null);
      // The clock of the device is read for what nobody knows, and now and then by whoever asks for a profile.
      const measured = await submit(batch, profile || unknown || (!timed && index < steps.length));
      measured?.forEach((ms, i) => {
        const piece = batch[i];
        if (piece === undefined) return;
        pace.learn(piece.step.key, piece.count, ms);
        sums.set(piece.step, (sums.get(piece.step) ?? 0) + ms);
      });
      // One submit at a time: what waits in the queue cannot be stopped, and counts for a watchdog.
      if (measured === null && index < steps.length) {
        await untilDue(spent);
        await Promise.race([device.queue.onSubmittedWorkDone(), session.lost]);
      }
    }
    return profile ? steps.map((s) => ({ title: s.title, entry: s.entry, ms: sums.get(s) ?? 0 })) : [];
  };
  if (slot * MOST > device.limits.maxBufferSize)
    throw deviceError("LIMITS", "no room for the parameters of a submit");
  const bytes = slot * MOST + (timed ? 32 * MOST : 0);
  return {
    run,
    params,
    bytes,
    free: () => {
      owned.forEach(session.free);
      times?.set.destroy();
    },
  };
}
