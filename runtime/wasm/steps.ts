/**
 * The loop that all threads of a run execute together: for each step they take chunks of its grid from a shared
 * counter, and none begins a step before all groups of the one before are done. Groups write disjoint results, so the
 * division into chunks never changes a bit.
 *
 * Layout of `control` (Int32): [0] epoch, [1] error, [2] number of steps, then for step s at 4 + 2·s: the next group to
 * take, and the number of groups done. Layout of `jobs`: for each step [kernel, groups, chunk, number of arguments,
 * arguments …].
 */
export const CONTROL = { epoch: 0, error: 1, steps: 2, first: 4 } as const;

/**
 * Runs all steps. Self-contained: its text is also the worker's, so it must refer to nothing outside. With `patience` (ms)
 * a thread that sees no progress for that long gives up. Returns false when another thread failed or stopped.
 */
export function runSteps(
  kernels: readonly ((...args: number[]) => void)[],
  control: Int32Array,
  jobs: Int32Array,
  scratch: number,
  mayWait: boolean,
  patience: number,
): boolean {
  const steps = control[2] ?? 0;
  let at = 0;
  for (let s = 0; s < steps; s++) {
    const next = 4 + 2 * s;
    const done = next + 1;
    const kernel = kernels[jobs[at] ?? 0];
    const groups = jobs[at + 1] ?? 0;
    const chunk = jobs[at + 2] ?? 1;
    const count = jobs[at + 3] ?? 0;
    const args = Array.from(jobs.subarray(at + 4, at + 4 + count));
    at += 4 + count;
    for (;;) {
      const begin = Atomics.add(control, next, chunk);
      if (begin >= groups) break;
      const end = Math.min(groups, begin + chunk);
      if (kernel !== undefined) kernel(begin, end, scratch, ...args);
      if (Atomics.add(control, done, end - begin) + end - begin === groups) Atomics.notify(control, done);
    }
    // Others are at most one chunk behind, so look a while before sleeping: a wake-up costs tens of microseconds.
    let seen = Atomics.load(control, done);
    for (let spin = 0; seen < groups && spin < 20000; spin++) seen = Atomics.load(control, done);
    let last = Date.now();
    while (seen < groups) {
      if (Atomics.load(control, 1) !== 0) return false;
      if (mayWait) Atomics.wait(control, done, seen, 100);
      const now = Atomics.load(control, done);
      if (now !== seen) last = Date.now();
      else if (Date.now() - last > patience) return false;
      seen = now;
    }
  }
  return Atomics.load(control, 1) === 0;
}
