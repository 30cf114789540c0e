/** Windows whose memory is used again: no read sees the bytes of another, in whatever order fetches end. */
import fc from "fast-check";
import { expect, it } from "vitest";
import { WINDOW, windowed } from "../../runtime/sources/windows.ts";

const size = 6 * WINDOW;
/** One number for every 64 KiB, so that it can be filled in quickly. */
const RUN = 2 ** 16;
const byteAt = (place: number) => (Math.floor(place / RUN) * 7 + 1) & 255;
function fill(to: Uint8Array, place: number): void {
  for (let at = 0; at < to.length;) {
    const end = Math.min(to.length, at + RUN - ((place + at) % RUN));
    to.fill(byteAt(place + at), at, end);
    at = end;
  }
}

it("any reads at once, fetched in any order", async () => {
  const reading = fc.record({
    start: fc.nat(size - 1),
    length: fc.integer({ min: 1, max: 3000 }),
    ahead: fc.nat(2 * WINDOW),
    mine: fc.boolean(),
  });
  await fc.assert(
    fc.asyncProperty(
      fc.array(reading, { minLength: 3, maxLength: 12 }),
      fc.scheduler(),
      async (reads, scheduler) => {
        const read = windowed(size, new Uint8Array(0), async (start, _end, to) => {
          // Half of it sooner and half later, as from a network.
          const half = to.length >> 1;
          await scheduler.schedule(Promise.resolve());
          fill(to.subarray(0, half), start);
          await scheduler.schedule(Promise.resolve());
          fill(to.subarray(half), start + half);
        });
        const signal = new AbortController().signal;
        const done = reads.map(async ({ start, length, ahead, mine }) => {
          const end = Math.min(size, start + length);
          const options = { until: Math.min(size, end + ahead), ...(mine ? { signal } : {}) };
          const bytes = await read(start, end, options);
          bytes.forEach((byte, i) => {
            if (byte !== byteAt(start + i)) throw new Error(`byte ${start + i} is another`);
          });
          return bytes.length === end - start;
        });
        await scheduler.waitFor(Promise.all(done));
        expect(await Promise.all(done)).not.toContain(false);
      },
    ),
    { numRuns: 30, seed: 5 },
  );
});

it("a read in order has memory for two windows, however long it is", async () => {
  const memories = new Set<ArrayBufferLike>();
  const read = windowed(size, new Uint8Array(0), async (_start, _end, to) => void memories.add(to.buffer));
  for (let at = 0; at < size; at += WINDOW / 4) await read(at, at + WINDOW / 4, { until: size });
  expect(memories.size).toBe(2);
});
