// What WebAssembly can do at most on this machine: twelve chains of c = c·x + y on 128-bit vectors, nothing but registers.
import { Worker, isMainThread, parentPort, workerData } from "node:worker_threads";

const CHAINS = 12;
export const STEPS = 8_000_000;

/** @param {number} n unsigned LEB128 @returns {number[]} */
const leb = (n) => (n < 128 ? [n] : [(n & 127) | 128, ...leb(n >>> 7)]);
/** @param {number} id @param {readonly number[]} body */
const section = (id, body) => [id, ...leb(body.length), ...body];
/** @param {number} x */
const f32 = (x) => [0x43, ...new Uint8Array(new Float32Array([x]).buffer)];

const simd = (/** @type {number} */ op) => [0xfd, ...leb(op)];
const [splat, extract, add, mul, madd] = [
  simd(0x13),
  [...simd(0x1f), 0],
  simd(0xe4),
  simd(0xe6),
  simd(0x105),
];
const get = (/** @type {number} */ local) => [0x20, local];
const set = (/** @type {number} */ local) => [0x21, local];

/**
 * `peak(steps: i32) → f32`: locals 1 … 12 are the chains, 13 x, 14 y.
 * @param {boolean} relaxed one f32x4.relaxed_madd instead of a product and a sum
 */
export function peakModule(relaxed) {
  const chains = Array.from({ length: CHAINS }, (_, c) => c + 1);
  const [x, y] = [CHAINS + 1, CHAINS + 2];
  const constant = (/** @type {number} */ value, /** @type {number} */ local) => [
    ...f32(value),
    ...splat,
    ...set(local),
  ];
  const step = (/** @type {number} */ c) => [
    ...get(c),
    ...get(x),
    ...(relaxed ? [...get(y), ...madd] : [...mul, ...get(y), ...add]),
    ...set(c),
  ];
  const code = [
    1,
    CHAINS + 2,
    0x7b,
    ...chains.flatMap((c) => constant(0.5, c)),
    ...constant(0.9999, x),
    ...constant(1e-5, y),
    0x03,
    0x40,
    ...chains.flatMap(step),
    // The count down: i32.sub, local.tee, br_if, end.
    ...get(0),
    0x41,
    1,
    0x6b,
    0x22,
    0,
    0x0d,
    0,
    0x0b,
    ...chains.flatMap((c, i) => [...get(c), ...(i > 0 ? add : [])]),
    ...extract,
    0x0b,
  ];
  return new Uint8Array([
    0x00,
    0x61,
    0x73,
    0x6d,
    1,
    0,
    0,
    0,
    ...section(1, [1, 0x60, 1, 0x7f, 1, 0x7d]),
    ...section(3, [1, 0]),
    ...section(7, [1, 4, ...new TextEncoder().encode("peak"), 0, 0]),
    ...section(10, [1, ...leb(code.length), ...code]),
  ]);
}

/** Floating-point operations of one call. */
export const FLOPS = 2 * 4 * CHAINS * STEPS;

/**
 * A contender: every call runs the module once on each of `threads` workers and gives the time in ns.
 * @param {boolean} relaxed @param {number} threads @param {() => number} now the clock
 */
export function startPeak(relaxed, threads, now) {
  const module = peakModule(relaxed);
  const workers = Array.from(
    { length: threads },
    () => new Worker(new URL(import.meta.url), { workerData: { heddlePeak: module } }),
  );
  // A worker that fails rejects whatever run waits for it; a contender without its peak would measure nothing.
  /** @type {((reason: Error) => void)[]} */
  const rejections = [];
  workers.forEach((w, i) => w.on("error", (error) => rejections[i]?.(error)));
  return {
    run: async () => {
      const start = now();
      await Promise.all(
        workers.map(
          (w, i) =>
            new Promise((resolve, reject) => {
              rejections[i] = reject;
              w.once("message", resolve);
              w.postMessage(STEPS);
            }),
        ),
      );
      return now() - start;
    },
    end: () => Promise.all(workers.map((w) => w.terminate())),
  };
}

if (!isMainThread && workerData?.heddlePeak !== undefined) {
  const { instance } = await WebAssembly.instantiate(workerData.heddlePeak);
  const peak = /** @type {(steps: number) => number} */ (instance.exports["peak"]);
  parentPort?.on("message", (steps) => parentPort?.postMessage(peak(steps)));
}
