// The pieces of work: who competes on each, and whether their outputs agree.
import { attentionLine } from "./native.mjs";
import { attentionPeers } from "./peers.mjs";
import { normal } from "./random.mjs";
import { distance, measure } from "./rounds.mjs";
import { FLOPS, startPeak } from "./wasm-peak.mjs";
import { attentionFlops, baselineMeansTheSame, modelFlops } from "./work.mjs";

/** @typedef {import("./rounds.mjs").Contender} Contender */
/** @typedef {import("./report.mjs").Result} Result */
/**
 * @typedef {object} Bench
 * @property {Awaited<ReturnType<typeof import("./heddle.mjs").openHeddle>>} heddle
 * @property {import("./native.mjs").Native | null} native
 * @property {import("./peers.mjs").Peers | null} peers
 * @property {import("./exchange.mjs").Exchange} exchange
 * @property {(what: string) => void} lacks says what is not in this run
 * @property {readonly number[]} threads
 * @property {{ rounds: number, warmNs: number }} pace
 * @property {() => number} now the clock, in ns
 */

/** Largest difference between two contenders' outputs, relative to the largest value. */
const LIMIT = 2e-5;

/** WebAssembly's own peaks on each number of threads. @param {Pick<Bench, "heddle" | "threads" | "now">} bench */
export function wasmPeaks({ heddle, threads, now }) {
  const started = threads.flatMap((t) =>
    (heddle.relaxed ? [false, true] : [false]).map((relaxed) => ({
      relaxed,
      t,
      peak: startPeak(relaxed, t, now),
    })),
  );
  return {
    contenders: started.map(({ relaxed, t, peak }) => ({
      name: relaxed ? "peak wasm madd" : "peak wasm mul+add",
      threads: t,
      flops: t * FLOPS,
      run: peak.run,
    })),
    end: () => Promise.all(started.map(({ peak }) => peak.end())),
  };
}

/**
 * A probe answers in units per ns; as a contender it takes the time of 1e9 units.
 * @param {import("./native.mjs").Native} native @param {string} name @param {number} t @returns {Contender}
 */
const nativePeak = (native, name, t) => ({
  name: `peak ${name}`,
  threads: t,
  flops: 1e9,
  run: async () => 1e9 / ((await native.ask(`peak ${name} ${t}`)).value ?? NaN),
});

/**
 * The machine itself.
 * @param {Bench} bench @param {readonly Contender[]} wasm
 */
export async function measurePeaks({ native, threads, pace }, wasm) {
  const probes = /** @type {const} */ ([
    ["fma256", "FMA, 256 bits", "GFLOP/s"],
    ["mulAdd256", "multiply and add, 256 bits", "GFLOP/s"],
    ["fma512", "FMA, 512 bits", "GFLOP/s"],
    ["fma128", "FMA, 128 bits", "GFLOP/s"],
    ["mulAdd128", "multiply and add, 128 bits", "GFLOP/s"],
    ["exp", "exponentials, 256 bits", "per ns"],
    ["copy", "memory copied", "GB/s"],
  ]);
  const contenders = [...wasm];
  if (native !== null)
    for (const [name] of probes)
      if ((await native.ask(`peak ${name} 1`)).value !== null)
        contenders.push(...threads.map((t) => nativePeak(native, name, t)));
  return (await measure(contenders, pace)).map((m) => {
    const probe = probes.find(([name]) => `peak ${name}` === m.name);
    return {
      name: probe?.[1] ?? `${m.name.slice("peak ".length)}, 128 bits`,
      unit: probe?.[2] ?? "GFLOP/s",
      threads: m.threads,
      values: m.gflops,
    };
  });
}

/**
 * heddle's contenders for one piece of work, and the outputs of each variant on the most threads.
 * @param {Bench} bench @param {import("./heddle.mjs").Work} work @param {number} flops
 */
async function heddleOn({ heddle, threads }, work, flops) {
  /** @type {Contender[]} */
  const contenders = [];
  /** @type {{ name: string, outputs: () => { readonly [name: string]: Float32Array } }[]} */
  const outputs = [];
  /** @type {(() => void)[]} */
  const ends = [];
  for (const name of heddle.variants)
    for (const t of threads) {
      const ready = await work.on(name, t);
      contenders.push({ name, threads: t, flops, run: ready.run });
      ends.push(ready.end);
      if (t === threads.at(-1)) outputs.push({ name, outputs: ready.outputs });
    }
  return { contenders, outputs, end: () => ends.forEach((end) => end()) };
}

const nothing = new Float32Array();

/**
 * @param {Bench} bench @param {string} title @param {{ name: string, length: number }} job
 * @param {readonly Contender[]} peaks WebAssembly's, measured in the same rounds: they show how many processors were free
 * @returns {Promise<Result>}
 */
export async function attentionJob(bench, title, { name, length }, peaks) {
  const { heddle, native, peers, exchange, threads, pace, lacks } = bench;
  const work = heddle.attention(name, length);
  const { spec } = work;
  const flops = attentionFlops(work.pairs, spec.headDim);
  const count = length * spec.heads * spec.headDim;
  const [q, k, v] = [normal(count, 1), normal(count, 2), normal(count, 3)];
  const mine = await heddleOn(bench, work.with({ q, k, v }), flops);
  const contenders = [...mine.contenders, ...peaks];
  const files = { q: exchange.put("q", q), k: exchange.put("k", k), v: exchange.put("v", v) };
  if (native !== null) {
    if (!baselineMeansTheSame(spec, length))
      throw new Error(`${title}: the baseline has no torchscale padding`);
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
  const others = peers === null ? [] : await attentionPeers(peers, title, spec, length, files, lacks);
  if (peers !== null)
    for (const { name: peer } of others)
      for (const t of threads)
        contenders.push({
          name: peer,
          threads: t,
          flops,
          run: async () => (await peers.ask({ op: "run", id: "attention", contender: peer, threads: t })).ns,
        });
  const measured = await measure(contenders, pace);
  /** @type {Result["checks"]} */
  const checks = [];
  for (const { name: peer, same } of others) {
    if (!same) continue;
    const path = exchange.path("peer");
    await peers?.ask({ op: "output", id: "attention", contender: peer, path });
    const [first] = mine.outputs;
    checks.push({
      name: peer,
      against: first?.name ?? "",
      distance: distance(exchange.get("peer", count), first?.outputs()["out"] ?? nothing),
      limit: LIMIT,
    });
  }
  await peers?.ask({ op: "drop", id: "attention" });
  if (native !== null) {
    const outOf = async (/** @type {string} */ id) => {
      await native.ask(`write ${id} ${exchange.path("out")} ${exchange.path("lse")}`);
      return { out: exchange.get("out", count), lse: exchange.get("lse", length * spec.heads) };
    };
    const [plain, folded] = [await outOf("plain"), await outOf("folded")];
    checks.push({
      name: "c++ out",
      against: "c++ folded",
      distance: distance(plain.out, folded.out),
      limit: LIMIT,
    });
    for (const { name: variant, outputs } of mine.outputs)
      for (const tensor of /** @type {const} */ (["out", "lse"]))
        checks.push({
          name: `${variant} ${tensor}`,
          against: "c++",
          distance: distance(outputs()[tensor] ?? nothing, plain[tensor]),
          limit: LIMIT,
        });
    await native.ask("drop plain");
    await native.ask("drop folded");
  }
  mine.end();
  const note = `${spec.heads} heads × ${spec.headDim}, ${spec.causal ? "causal" : "not causal"}, ${work.pairs} pairs; schedule ${work.schedule}.`;
  return { group: "attention", title, flops, note, measured, checks };
}

/**
 * @param {Bench} bench @param {string} title
 * @param {{ rows: number, depth: number, cols: number }} job
 * @param {readonly Contender[]} peaks WebAssembly's, measured in the same rounds
 * @returns {Promise<Result>}
 */
export async function linearJob(bench, title, { rows, depth, cols }, peaks) {
  const { heddle, native, exchange, threads, pace } = bench;
  const flops = 2 * rows * depth * cols;
  const [x, w, bias] = [normal(rows * depth, 4), normal(cols * depth, 5, depth ** -0.5), normal(cols, 6)];
  const mine = await heddleOn(bench, await heddle.linear({ rows, depth, cols, x, w, bias }), flops);
  const contenders = [...mine.contenders, ...peaks];
  if (native !== null) {
    const files = [exchange.put("x", x), exchange.put("w", w), exchange.put("bias", bias)];
    const wide = (await native.ask("peak fma512 1")).value !== null;
    await native.ask(`linear linear ${rows} ${depth} ${cols} ${files.join(" ")}`);
    for (const t of threads)
      contenders.push(
        { name: "c++", threads: t, flops, run: async () => (await native.ask(`run linear ${t}`)).ns },
        nativePeak(native, "fma256", t),
        ...(wide ? [nativePeak(native, "fma512", t)] : []),
      );
  }
  const measured = await measure(contenders, pace);
  /** @type {Result["checks"]} */
  const checks = [];
  if (native !== null) {
    await native.ask(`write linear ${exchange.path("out")}`);
    const out = exchange.get("out", rows * cols);
    for (const { name, outputs } of mine.outputs)
      checks.push({
        name,
        against: "c++",
        distance: distance(outputs()["out"] ?? nothing, out),
        limit: LIMIT,
      });
    await native.ask("drop linear");
  }
  mine.end();
  return { group: "linear", title, flops, note: "With bias; weights packed beforehand.", measured, checks };
}

/**
 * The trained model of examples/jargon on its own text, or the reason why it cannot be measured.
 * @param {Bench} bench @param {string} title @param {number} length
 * @param {readonly Contender[]} peaks as in attentionJob
 * @returns {Promise<Result | string>}
 */
export async function modelJob(bench, title, length, peaks) {
  const { heddle, pace } = bench;
  const found = await heddle.jargon(length);
  if (typeof found === "string") return found;
  const { spec } = found;
  const flops = modelFlops(spec, length, found.pairs);
  const mine = await heddleOn(bench, found.work, flops);
  const measured = await measure([...mine.contenders, ...peaks], pace);
  const [base, ...others] = mine.outputs;
  const logits = (/** @type {typeof mine.outputs[number]} */ of) => of.outputs()["logits"] ?? nothing;
  const checks =
    base === undefined
      ? []
      : others.map((other) => ({
          name: `${other.name} logits`,
          against: base.name,
          distance: distance(logits(other), logits(base)),
          limit: LIMIT,
        }));
  mine.end();
  const note =
    `Decoder, ${spec.layers} layers × ${spec.dim}, ${spec.attention.heads} heads, whole forward pass to logits; ` +
    "FLOPs of its matrix products and attentions.";
  return { group: "model", title, flops, note, measured, checks };
}
