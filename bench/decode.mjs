// Decoding: does a token cost the same after 10^5 tokens as after 10^3, and how far is it from reading the weights once?
//   npm run build && node bench/decode.mjs [--threads N] [--rounds R] [--large]
// The exit status is 1 where the speed at the far context is below 0.9 of that at the near one.
import { readFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { compileSpec, modelDefinition, readSpec } from "../dist/src/index.js";
import { generation } from "../dist/runtime/generate.js";
import { fileSource } from "../dist/runtime/node.js";
import { memorySource } from "../dist/runtime/safetensors.js";
import { uniform } from "./random.mjs";

const { values: options } = parseArgs({
  options: {
    threads: { type: "string", default: "1" },
    rounds: { type: "string", default: "7" },
    large: { type: "boolean", default: false },
  },
});
const threads = Number(options.threads);
const rounds = Number(options.rounds);
const median = (/** @type {readonly number[]} */ list) =>
  [...list].sort((a, b) => a - b)[Math.floor(list.length / 2)] ?? NaN;

/** Bytes per second of a copy that no cache holds, read and written. */
function bandwidth() {
  const [from, to] = [new Float64Array(2 ** 24), new Float64Array(2 ** 24)];
  to.set(from);
  const times = Array.from({ length: 7 }, () => {
    const start = performance.now();
    to.set(from);
    return performance.now() - start;
  });
  return (2 * from.byteLength) / (Math.min(...times) / 1000);
}

const weightBytes = (/** @type {import("../runtime/plan.ts").Plan} */ { weights }) =>
  // A tied or looked-up table is not read as a whole; here only products count.
  weights.reduce((n, w) => n + (w.layout === "panels" ? 4 * w.shape.reduce((a, b) => a * b, 1) : 0), 0);

/** Milliseconds for each of `count` tokens of every sequence, where a session stands. */
async function pace(session, prompts, count, resume) {
  const start = performance.now();
  for await (const _ of session.generate(prompts, { temperature: 0, maxTokens: count, resume }));
  return (performance.now() - start) / count;
}
const bytes = (count, seed) => {
  const next = uniform(seed);
  return Array.from({ length: count }, () => Math.floor(next() * 256));
};

const path = "examples/jargon.heddle";
const { spec } = readSpec(readFileSync(path, "utf8"), path);
const [compiled] = compileSpec(spec, { target: "wasm", names: ["jargon"], generate: true });
const definition = { ...modelDefinition(compiled.item.spec), program: compiled.program };
const weights = await fileSource("examples/jargon/jargon.safetensors");
const open = (batch) => generation(definition, { weights, threads, device: "wasm", batch });

const copied = bandwidth();
console.log(
  `${threads} thread${threads === 1 ? "" : "s"}; a copy moves ${(copied / 1e9).toFixed(1)} GB/s (one thread, read and written)`,
);

// The same place in the longest segment, 2048 tokens: what a query sees depends on that, not on what lies before the segment.
const near = 1000;
const far = near + 49 * 2048;
const contexts = await Promise.all(
  [near, far].map(async (length) => ({ length, session: await open(1), times: [] })),
);
for (const { length, session } of contexts) {
  const start = performance.now();
  await pace(session, [bytes(length, 1)], 8, false);
  console.log(
    `prompt of ${length} tokens read in ${((performance.now() - start) / 1000).toFixed(2)} s; cache ${(session.cache().bytes / 2 ** 20).toFixed(2)} MiB, a dense one ${(session.cache().dense / 2 ** 20).toFixed(2)} MiB`,
  );
}
const each = 128;
for (let round = 0; round < rounds; round++)
  for (const context of round % 2 === 0 ? contexts : [...contexts].reverse())
    context.times.push(await pace(context.session, [[]], each, true));
const [a, b] = contexts.map(({ times }) => median(times));
const ratios = contexts[0].times.map((t, i) => t / contexts[1].times[i]);
const ratio = median(ratios);
for (const { length, times, session } of contexts) {
  console.log(
    `at ${length} … ${session.cache().tokens[0]} tokens: ${median(times).toFixed(3)} ms a token, ${(1000 / median(times)).toFixed(0)} tokens per second (best ${(1000 / Math.min(...times)).toFixed(0)})`,
  );
  session.dispose();
}
console.log(
  `speed at ${far} over that at ${near}: ${ratio.toFixed(3)} (median of ${rounds} rounds of ${each} tokens, in turn): ${ratio >= 0.9 ? "ok" : "MISS"}`,
);
const limit = weightBytes(compiled.program.plan);
console.log(
  `products read ${(limit / 1e6).toFixed(1)} MB of weights for a token: ${(limit / (Math.min(a, b) / 1000) / 1e9).toFixed(1)} GB/s of them at this speed`,
);

for (const batch of [1, 2, 3, 4, 8]) {
  const session = await open(batch);
  const prompts = Array.from({ length: batch }, (_, i) => bytes(100, i));
  await pace(session, prompts, 32, false);
  const ms = median(
    await all(5, () =>
      pace(
        session,
        prompts.map(() => []),
        48,
        true,
      ),
    ),
  );
  console.log(
    `${batch} sequence${batch === 1 ? "" : "s"} at once: ${ms.toFixed(3)} ms a step, ${((1000 * batch) / ms).toFixed(0)} tokens per second`,
  );
  session.dispose();
}
await weights.close();

/** @template T @param {number} times @param {() => Promise<T>} make */
async function all(times, make) {
  const made = [];
  for (let i = 0; i < times; i++) made.push(await make());
  return made;
}

if (options.large) {
  // The paper's 125M model but for its vocabulary, weights drawn: 340 MB of products a token.
  const text = `${readFileSync("examples/paper.heddle", "utf8")}
model paper { kind decoder vocab 256 dim 768 layers 12 ffn 3072 gelu attention paper_32k position xpos base 512 norm sub_ln }`;
  const { spec: paper } = readSpec(text);
  const [made] = compileSpec(paper, { target: "wasm", names: ["paper"], generate: true });
  const { plan } = made.program;
  const next = uniform(5);
  const shapes = new Map(plan.weights.map((w) => [w.name, w.shape]));
  // One file in memory: header, then F32 data.
  let at = 0;
  const header = {};
  for (const [name, shape] of shapes) {
    const size = 4 * shape.reduce((x, y) => x * y, 1);
    header[name] = { dtype: "F32", shape, data_offsets: [at, (at += size)] };
  }
  const head = new TextEncoder().encode(
    JSON.stringify(header).padEnd(Math.ceil(JSON.stringify(header).length / 8) * 8),
  );
  const file = new Uint8Array(8 + head.length + at);
  new DataView(file.buffer).setBigUint64(0, BigInt(head.length), true);
  file.set(head, 8);
  const numbers = new Float32Array(file.buffer, 8 + head.length);
  for (let i = 0; i < numbers.length; i++) numbers[i] = (next() - 0.5) * 0.06;
  const session = await generation(
    { ...modelDefinition(made.item.spec), program: made.program },
    { weights: memorySource(file), threads, device: "wasm" },
  );
  for (const length of [200, 4000]) {
    const start = performance.now();
    await pace(session, [bytes(length, 2)], 1, false);
    const read = (performance.now() - start) / 1000;
    const ms = median(await all(3, () => pace(session, [[]], 8, true)));
    const least = (1000 * weightBytes(plan)) / (copied / 2);
    console.log(
      `125M, ${length} tokens read in ${read.toFixed(1)} s: ${ms.toFixed(1)} ms a token; ${(weightBytes(plan) / 1e6).toFixed(0)} MB of weights at ${(copied / 2e9).toFixed(1)} GB/s read would take ${least.toFixed(1)} ms; cache ${(session.cache().bytes / 2 ** 20).toFixed(1)} MiB in f32`,
    );
  }
  session.dispose();
}
process.exitCode = ratio >= 0.9 ? 0 : 1;
