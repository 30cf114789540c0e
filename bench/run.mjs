// heddle beside plain C++ and beside what the machine can do. Plain JavaScript with JSDoc types, as Node 20 runs no
// TypeScript and the build does not include bench/; it imports the built dist/.
//
//   node bench/run.mjs [--quick] [--rounds R] [--only WORD] [--threads 1,2] [--json] [--no-save]
import { mkdirSync, writeFileSync } from "node:fs";
import { availableParallelism, loadavg } from "node:os";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { openHeddle } from "./heddle.mjs";
import { FLAGS, attentionLine, startNative } from "./native.mjs";
import { normal } from "./random.mjs";
import { machine, markdown, slug } from "./report.mjs";
import { distance, measure } from "./rounds.mjs";
import { FLOPS, startPeak } from "./wasm-peak.mjs";
import { attentionFlops, attentions, baselineMeansTheSame, linears, modelFlops, modelLength, text } from "./work.mjs";

/** @typedef {import("./rounds.mjs").Contender} Contender */
/** @typedef {import("./report.mjs").Result} Result */

const { values: options } = parseArgs({
  options: {
    quick: { type: "boolean", default: false },
    rounds: { type: "string", default: "7" },
    only: { type: "string", default: "" },
    threads: { type: "string", default: "1,2" },
    json: { type: "boolean", default: false },
    "no-save": { type: "boolean", default: false },
  },
});
const rounds = options.quick ? 5 : Math.max(5, Number(options.rounds));
if (!Number.isInteger(rounds)) throw new Error(`--rounds takes a whole number, not '${options.rounds}'`);
const threads = options.threads
  .split(",")
  .map(Number)
  .filter((t) => t <= availableParallelism());
if (threads.length === 0 || threads.some((t) => !Number.isInteger(t) || t < 1))
  throw new Error(`--threads takes counts such as 1,2 of at most ${availableParallelism()} here, not '${options.threads}'`);
/** Largest difference between two contenders' outputs, relative to the largest value. */
const LIMIT = 2e-5;
const warm = { rounds, warmNs: options.quick ? 1e9 : 2e9 };
const say = (/** @type {string} */ line) => process.stderr.write(`${line}\n`);
const wanted = (/** @type {string} */ title) => title.includes(options.only);
/** @template {{ quick: boolean }} T @param {readonly T[]} items */
const chosen = (items) => items.filter((item) => item.quick || !options.quick);

const before = machine();
/** @type {string[]} */
const missing = [];
const started = startNative();
const native = typeof started === "string" ? null : started;
if (typeof started === "string") missing.push(`C++ baseline and native peaks: ${started}`);
const heddle = await openHeddle(text, threads);
missing.push(...heddle.missing);
for (const line of missing) say(`missing: ${line}`);

/** @type {Contender[]} */
const wasmPeaks = [];
/** @type {(() => Promise<unknown>)[]} */
const endings = [];
for (const t of threads)
  for (const relaxed of [false, true]) {
    if (relaxed && !heddle.relaxed) continue;
    const peak = startPeak(relaxed, t);
    endings.push(peak.end);
    wasmPeaks.push({
      name: relaxed ? "peak wasm madd" : "peak wasm mul+add",
      threads: t,
      flops: t * FLOPS,
      run: peak.run,
    });
  }
/** A probe answers in units per ns; as a contender it takes the time of 1e9 units. @param {string} name @param {number} t @returns {Contender} */
const nativePeak = (name, t) => ({
  name: `peak ${name}`,
  threads: t,
  flops: 1e9,
  run: async () => 1e9 / ((await native?.ask(`peak ${name} ${t}`))?.value ?? NaN),
});

// The machine itself.
/** @type {{ name: string, unit: string, threads: number, values: readonly number[] }[]} */
const peaks = [];
{
  const probes = /** @type {const} */ ([
    ["fma256", "FMA, 256 bits", "GFLOP/s"],
    ["mulAdd256", "multiply and add, 256 bits", "GFLOP/s"],
    ["fma512", "FMA, 512 bits", "GFLOP/s"],
    ["fma128", "FMA, 128 bits", "GFLOP/s"],
    ["mulAdd128", "multiply and add, 128 bits", "GFLOP/s"],
    ["exp", "exponentials, 256 bits", "per ns"],
    ["copy", "memory copied", "GB/s"],
  ]);
  const natives = [];
  if (native !== null)
    for (const [name] of probes) {
      if ((await native.ask(`peak ${name} 1`)).value === null) continue;
      for (const t of threads) natives.push(nativePeak(name, t));
    }
  say("peaks");
  for (const m of await measure([...wasmPeaks, ...natives], warm)) {
    const probe = probes.find(([name]) => `peak ${name}` === m.name);
    peaks.push({
      name: probe?.[1] ?? `${m.name.slice("peak ".length)} of 128 bits in registers`,
      unit: probe?.[2] ?? "GFLOP/s",
      threads: m.threads,
      values: m.gflops,
    });
  }
}

/** @type {Result[]} */
const results = [];
const variants = heddle.relaxed ? [false, true] : [false];
const variantName = (/** @type {boolean} */ relaxed) => (relaxed ? "wasm relaxed" : "wasm");

/**
 * heddle's contenders for one piece of work, and the outputs of each variant on the most threads.
 * @param {import("./heddle.mjs").Work} work @param {number} flops
 */
async function heddleOn(work, flops) {
  /** @type {Contender[]} */
  const contenders = [];
  /** @type {{ name: string, outputs: () => { readonly [name: string]: Float32Array } }[]} */
  const outputs = [];
  /** @type {(() => void)[]} */
  const ends = [];
  for (const relaxed of variants) {
    for (const t of threads) {
      const ready = await work.on(relaxed, t);
      contenders.push({ name: variantName(relaxed), threads: t, flops, run: ready.run });
      ends.push(ready.end);
      if (t === threads.at(-1)) outputs.push({ name: variantName(relaxed), outputs: ready.outputs });
    }
  }
  return { contenders, outputs, end: () => ends.forEach((end) => end()) };
}

for (const { name, length } of chosen(attentions)) {
  const title = `${name} N = ${length}`;
  if (!wanted(title)) continue;
  say(title);
  const work = heddle.attention(name, length);
  const { spec } = work;
  const flops = attentionFlops(work.pairs, spec.headDim);
  const count = length * spec.heads * spec.headDim;
  const [q, k, v] = [normal(count, 1), normal(count, 2), normal(count, 3)];
  const mine = await heddleOn(work.with({ q, k, v }), flops);
  const contenders = [...mine.contenders];
  if (native !== null) {
    if (!baselineMeansTheSame(spec, length)) throw new Error(`${title}: the baseline has no torchscale padding`);
    const files = { q: native.put("q", q), k: native.put("k", k), v: native.put("v", v) };
    for (const fold of [false, true]) {
      const id = fold ? "folded" : "plain";
      await native.ask(attentionLine(id, spec, length, fold, files));
      for (const t of threads)
        contenders.push({
          name: fold ? "c++ folded" : "c++",
          threads: t,
          flops,
          run: async () => (await native.ask(`run ${id} ${t}`)).ns,
        });
    }
  }
  const measured = await measure(contenders, warm);
  /** @type {Result["checks"]} */
  const checks = [];
  if (native !== null) {
    const outOf = async (/** @type {string} */ id) => {
      await native.ask(`write ${id} ${native.path("out")} ${native.path("lse")}`);
      return { out: native.get("out", count), lse: native.get("lse", length * spec.heads) };
    };
    const [plain, folded] = [await outOf("plain"), await outOf("folded")];
    checks.push({ name: "c++ out", against: "c++ folded", distance: distance(plain.out, folded.out), limit: LIMIT });
    for (const { name: variant, outputs } of mine.outputs)
      for (const tensor of /** @type {const} */ (["out", "lse"]))
        checks.push({
          name: `${variant} ${tensor}`,
          against: "c++",
          distance: distance(outputs()[tensor] ?? new Float32Array(), plain[tensor]),
          limit: LIMIT,
        });
    await native.ask("drop plain");
    await native.ask("drop folded");
  }
  mine.end();
  results.push({ group: "attention", title, flops, note: `${spec.heads} heads × ${spec.headDim}, ${spec.causal ? "causal" : "not causal"}, ${work.pairs} pairs; schedule ${work.schedule}.`, measured, checks });
}

for (const { rows, depth, cols } of chosen(linears)) {
  const title = `linear ${rows} × ${depth} → ${cols}`;
  if (!wanted(title)) continue;
  say(title);
  const flops = 2 * rows * depth * cols;
  const [x, w, bias] = [normal(rows * depth, 4), normal(cols * depth, 5, depth ** -0.5), normal(cols, 6)];
  const mine = await heddleOn(heddle.linear({ rows, depth, cols, x, w, bias }), flops);
  const contenders = [...mine.contenders, ...wasmPeaks];
  if (native !== null) {
    const files = [native.put("x", x), native.put("w", w), native.put("bias", bias)];
    await native.ask(`linear linear ${rows} ${depth} ${cols} ${files.join(" ")}`);
    for (const t of threads)
      contenders.push(
        { name: "c++", threads: t, flops, run: async () => (await native.ask(`run linear ${t}`)).ns },
        nativePeak("fma256", t),
      );
  }
  const measured = await measure(contenders, warm);
  /** @type {Result["checks"]} */
  const checks = [];
  if (native !== null) {
    await native.ask(`write linear ${native.path("out")}`);
    const out = native.get("out", rows * cols);
    for (const { name: variant, outputs } of mine.outputs)
      checks.push({
        name: variant,
        against: "c++",
        distance: distance(outputs()["out"] ?? new Float32Array(), out),
        limit: LIMIT,
      });
    await native.ask("drop linear");
  }
  mine.end();
  results.push({ group: "linear", title, flops, note: "With bias; weights packed beforehand.", measured, checks });
}

{
  const title = `jargon, ${modelLength} tokens`;
  if (wanted(title)) {
    say(title);
    const work = await heddle.jargon(modelLength);
    if (typeof work === "string") {
      missing.push(`whole model: ${work}`);
      say(`missing: whole model: ${work}`);
    } else {
      const flops = modelFlops(work.spec, modelLength, work.pairs);
      const mine = await heddleOn(work.work, flops);
      const measured = await measure(mine.contenders, warm);
      const [base, relaxed] = mine.outputs;
      /** @type {Result["checks"]} */
      const checks = [];
      if (base !== undefined && relaxed !== undefined)
        checks.push({
          name: "wasm relaxed logits",
          against: "wasm",
          distance: distance(relaxed.outputs()["logits"] ?? new Float32Array(), base.outputs()["logits"] ?? new Float32Array()),
          limit: LIMIT,
        });
      mine.end();
      const { dim, layers, attention } = work.spec;
      results.push({
        group: "model",
        title,
        flops,
        note: `Decoder, ${layers} layers × ${dim}, ${attention.heads} heads, whole forward pass to logits; FLOPs of its matrix products and attentions.`,
        measured,
        checks,
      });
    }
  }
}

await Promise.all(endings.map((end) => end()));
heddle.end();
native?.end();

const date = new Date().toISOString().slice(0, 10);
const run = {
  date,
  machine: before,
  how: { rounds, threads, compiler: native?.compiler ?? null, flags: FLAGS, missing, loadAfter: (loadavg()[0] ?? 0).toFixed(1) },
  peaks,
  results,
};
const page = markdown(run);
process.stdout.write(options.json ? `${JSON.stringify(run, null, 1)}\n` : page);
if (!options["no-save"] && !options.quick && options.only === "") {
  const folder = fileURLToPath(new URL("results/", import.meta.url));
  mkdirSync(folder, { recursive: true });
  writeFileSync(`${folder}${date}-${slug(before)}.md`, page);
}
if (results.some((r) => r.checks.some((c) => !(c.distance < c.limit)))) {
  say("Outputs differ: see the last table.");
  process.exitCode = 1;
}
