// heddle beside plain C++ and beside what the machine can do. Plain JavaScript with JSDoc types, as Node 20 runs no
// TypeScript and the build does not include bench/; it imports the built dist/.
//
//   node bench/run.mjs [--quick] [--rounds R] [--only WORD] [--threads 1,2] [--clock wall|cpu] [--python PATH] [--json] [--no-save]
import { mkdirSync, writeFileSync } from "node:fs";
import { availableParallelism, loadavg } from "node:os";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { clocks } from "./clock.mjs";
import { openHeddle } from "./heddle.mjs";
import { openExchange } from "./exchange.mjs";
import { attentionJob, linearJob, measurePeaks, modelJob, wasmPeaks } from "./jobs.mjs";
import { FLAGS, startNative } from "./native.mjs";
import { startPeers } from "./peers.mjs";
import { machine, markdown, slug } from "./report.mjs";
import { attentions, linears, modelLength, text } from "./work.mjs";

const { values: options } = parseArgs({
  options: {
    quick: { type: "boolean", default: false },
    rounds: { type: "string", default: "7" },
    only: { type: "string", default: "" },
    threads: { type: "string" },
    clock: { type: "string", default: "wall" },
    json: { type: "boolean", default: false },
    python: { type: "string", default: "" },
    "no-save": { type: "boolean", default: false },
  },
});
const rounds = options.quick ? 5 : Math.max(5, Number(options.rounds));
if (!Number.isInteger(rounds)) throw new Error(`--rounds takes a whole number, not '${options.rounds}'`);
const clock = options.clock;
if (clock !== "wall" && clock !== "cpu") throw new Error(`--clock takes wall or cpu, not '${clock}'`);
const now = clocks[clock];
const asked = (options.threads ?? (clock === "cpu" ? "1" : "1,2")).split(",").map(Number);
if (clock === "cpu" && asked.some((t) => t !== 1))
  throw new Error("processor time says nothing about several threads");
if (asked.some((t) => !Number.isInteger(t) || t < 1))
  throw new Error(`--threads takes counts such as 1,2, not '${options.threads}'`);
const threads = asked.filter((t) => t <= availableParallelism());
if (threads.length === 0) throw new Error(`this machine has ${availableParallelism()} processors`);
const say = (/** @type {string} */ line) => process.stderr.write(`${line}\n`);

const before = machine();
/** @type {string[]} */
const missing = [];
const lacks = (/** @type {string} */ what) => {
  missing.push(what);
  say(`not in this run: ${what}`);
};
if (threads.length < asked.length)
  lacks(
    `${asked.filter((t) => !threads.includes(t)).join(", ")} threads: more than this machine's processors`,
  );
const started = startNative();
const native = typeof started === "string" ? null : started;
if (typeof started === "string") lacks(`the C++ baseline and native peaks: ${started}`);
const heddle = await openHeddle(text, now);
heddle.missing.forEach(lacks);

await native?.ask(`clock ${clock}`);
const found =
  options.python === "" ? "PyTorch and onnxruntime: give --python PATH" : await startPeers(options.python);
const peers = typeof found === "string" ? null : found;
if (typeof found === "string") lacks(found);
else found.missing.forEach(lacks);
if (peers !== null && clock === "cpu")
  throw new Error("the processor time of peers is another process's: use --clock wall");
const exchange = openExchange();
const bench = {
  heddle,
  native,
  peers,
  exchange,
  lacks,
  threads,
  now,
  pace: { rounds, warmNs: options.quick ? 1e9 : 2e9 },
};
const wasm = wasmPeaks(bench);
/** @param {string} title */
const wanted = (title) => {
  if (!title.includes(options.only)) return false;
  say(title);
  return true;
};
/** @template {{ quick: boolean }} T @param {readonly T[]} items */
const chosen = (items) => items.filter((item) => item.quick || !options.quick);

/** @type {import("./report.mjs").Result[]} */
const results = [];
const peaks = wanted("peaks") ? await measurePeaks(bench, wasm.contenders) : [];
for (const job of chosen(attentions)) {
  const title = `${job.name} N = ${job.length}`;
  if (wanted(title)) results.push(await attentionJob(bench, title, job, wasm.contenders));
}
for (const job of chosen(linears)) {
  const title = `linear ${job.rows} × ${job.depth} → ${job.cols}`;
  if (wanted(title)) results.push(await linearJob(bench, title, job, wasm.contenders));
}
const model = `jargon, ${modelLength} tokens`;
if (wanted(model)) {
  const result = await modelJob(bench, model, modelLength, wasm.contenders);
  if (typeof result === "string") lacks(`the whole model: ${result}`);
  else results.push(result);
}
await Promise.all([wasm.end(), heddle.end()]);
native?.end();
peers?.end();

const date = new Date().toISOString().slice(0, 10);
const loadAfter = (loadavg()[0] ?? 0).toFixed(1);
const compiler = native?.compiler ?? null;
/** @type {Parameters<typeof markdown>[0]["how"]} */
const how = {
  rounds,
  threads,
  clock,
  compiler,
  flags: FLAGS,
  peers: peers?.versions ?? null,
  missing,
  loadAfter,
};
const run = { date, machine: before, how, peaks, results };
const page = markdown(run);
process.stdout.write(options.json ? `${JSON.stringify(run, null, 1)}\n` : page);
if (!options["no-save"] && !options.quick && options.only === "") {
  const folder = fileURLToPath(new URL("results/", import.meta.url));
  mkdirSync(folder, { recursive: true });
  writeFileSync(`${folder}${date}-${slug(before)}${clock === "cpu" ? "-processor-time" : ""}.md`, page);
}
if (results.some((r) => r.checks.some((c) => !(c.distance < c.limit)))) {
  say("outputs differ: see the last table");
  process.exitCode = 1;
}
