// One device, in a process of its own: `node measure.mjs JOB RESULT`, or the same by Deno. Both files are JSON.
import { readFileSync, writeFileSync } from "node:fs";
import { normal } from "../random.mjs";
import { distance } from "../rounds.mjs";
import { handWritten, heddle } from "./contenders.mjs";
import { otherThreads } from "./processor.mjs";
import { samples } from "./reference.mjs";

/** @typedef {import("./compile.mjs").Work} Work */
/**
 * @typedef {object} Job
 * @property {string} dist URL of the built heddle
 * @property {number} rounds
 * @property {boolean} software whether a device that computes on the processor will do
 * @property {readonly Work[]} works of both kinds of device; those of the other kind are left out
 */
/**
 * `cpuMs`: processor time of the process without its first thread, where the system tells; only of software devices.
 * @typedef {{ name: string, text: number, firstMs: number, laterMs: number, ms: number[], cpuMs: number[] }} Timed
 */
/** @typedef {{ name: string, against: string, distance: number }} Check */
/** @typedef {{ title: string, kind: Work["kind"], flops: number, note: string, timed: Timed[], checks: Check[], limit: number }} Measured */
/** @typedef {{ device: string, software: boolean, clock: string, features: string[], measured: Measured[] } | { missing: string }} Result */

const [given = "", made = ""] = process.argv.slice(2);
/** @type {Job} */
const job = JSON.parse(readFileSync(given, "utf8"));
const say = (/** @type {string} */ line) => process.stderr.write(`${line}\n`);

/** @type {typeof import("../../runtime/webgpu.ts")} */
const { webgpuDevice } = await import(`${job.dist}runtime/webgpu.js`);
/** @type {typeof import("../../runtime/webgpu/gpu.ts")} */
const { findAdapter, wishes } = await import(`${job.dist}runtime/webgpu/gpu.js`);
/** @type {typeof import("../../runtime/weights.ts")} */
const { packPanels } = await import(`${job.dist}runtime/weights.js`);

/** @returns {Promise<Result>} */
async function main() {
  const found = await findAdapter({}).catch((/** @type {Error} */ error) => error.message);
  if (typeof found === "string") return { missing: found };
  if (found.software && !job.software) return { missing: `only a software adapter: ${found.text}` };
  // Dawn aborts where this is collected while the device lives.
  Object.assign(globalThis, { keptGpu: found });
  const device = await found.adapter.requestDevice(wishes(found.adapter));
  const timed = device.features.has("timestamp-query");
  const on = { device, timed };
  const features = [...device.features].filter((f) => f === "subgroups" || f === "shader-f16");
  // Kernels are measured, not how the runtime cuts their work into submits: the hand-written ones are not cut either.
  const options = { device, profile: true, budgetMs: 1e9 };
  const best = await webgpuDevice(options);
  // The variant that every device runs, where this one runs a better one.
  const plain = features.includes("subgroups")
    ? await webgpuDevice({ ...options, features: ["timestamp-query"] })
    : null;

  /** @type {Measured[]} */
  const measured = [];
  for (const work of job.works) {
    if ((work.on === "software") !== found.software) continue;
    say(`${found.text}: ${work.title}`);
    const inputs = inputsOf(work);
    const contenders = [await heddle(on, "heddle", best, packPanels, work, inputs)];
    if (plain !== null)
      contenders.push(await heddle(on, "heddle, no features", plain, packPanels, work, inputs));
    for (const shader of work.hands) contenders.push(await handWritten(on, work, inputs, shader));
    const checks = await verdicts(work, inputs, contenders);
    if (checks.some((c) => !(c.distance < LIMIT))) {
      // Nothing is believed of what computes something else.
      say(`${work.title}: outputs differ: ${JSON.stringify(checks)}`);
    }
    const timed = contenders.map(({ name, text, firstMs, laterMs }) => ({
      name,
      text,
      firstMs,
      laterMs,
      ms: /** @type {number[]} */ ([]),
      cpuMs: /** @type {number[]} */ ([]),
    }));
    // Each round starts with another one, so that none always follows the same neighbour.
    for (let round = 0; round < job.rounds; round++)
      for (let i = 0; i < contenders.length; i++) {
        const at = (i + round) % contenders.length;
        const before = found.software ? otherThreads() : null;
        const ms = (await contenders[at]?.run()) ?? NaN;
        const after = before === null ? null : otherThreads();
        timed[at]?.ms.push(ms);
        if (before !== null && after !== null) timed[at]?.cpuMs.push(after - before);
      }
    measured.push({
      title: work.title,
      kind: work.kind,
      flops: work.flops,
      note: work.note,
      timed,
      checks,
      limit: LIMIT,
    });
    for (const c of contenders) await c.end();
  }
  await best.dispose();
  await plain?.dispose();
  device.destroy();
  return {
    device: found.text,
    software: found.software,
    clock: timed ? "timestamp queries" : "wall clock",
    features,
    measured,
  };
}

/** Largest difference relative to the largest value. */
const LIMIT = 2e-5;
/** JSON has no infinity. @param {Float32Array} got @param {Float32Array} want */
const far = (got, want) => Math.min(1e9, distance(got, want));

/** @param {Work} work @returns {import("./contenders.mjs").Arrays} */
function inputsOf(work) {
  if (work.kind === "linear") {
    const { rows, depth, cols } = work;
    return {
      x: normal(rows * depth, 4),
      weight: normal(cols * depth, 5, depth ** -0.5),
      bias: normal(cols, 6),
    };
  }
  const count = work.length * work.shape.heads * work.shape.headDim;
  return { q: normal(count, 1), k: normal(count, 2), v: normal(count, 3) };
}

/**
 * Every output against f64 at some places, and everywhere against the first contender's.
 * @param {Work} work @param {import("./contenders.mjs").Arrays} inputs
 * @param {readonly import("./contenders.mjs").Ready[]} contenders
 */
async function verdicts(work, inputs, contenders) {
  const known = samples(work, inputs);
  /** @type {Check[]} */
  const checks = [];
  /** @type {import("./contenders.mjs").Arrays | null} */
  let first = null;
  for (const { name, outputs } of contenders) {
    const got = await outputs();
    for (const { name: tensor, at, want } of known) {
      const values = got[tensor] ?? new Float32Array();
      const some = Float32Array.from(at, (i) => values[i] ?? NaN);
      const title = `${name}: ${tensor}`;
      checks.push({ name: title, against: "f64, sampled", distance: far(some, Float32Array.from(want)) });
      const other = first?.[tensor];
      if (other !== undefined)
        checks.push({ name: title, against: contenders[0]?.name ?? "", distance: far(values, other) });
    }
    first ??= Object.fromEntries(Object.entries(got).map(([key, array]) => [key, array.slice()]));
  }
  return checks;
}

writeFileSync(made, JSON.stringify(await main()));
