// heddle's side: programs through the compiler of dist/, runs on its WebAssembly and native devices as an embedding program would start them.
import { access, readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import v8 from "node:v8";
import { compileLinear } from "./linear.mjs";
import { peakModule } from "./wasm-peak.mjs";

/**
 * A piece of work on one variant and a number of threads.
 * @typedef {object} Ready
 * @property {() => Promise<number>} run one run, its inputs copied in and its results copied out; its time in ns
 * @property {() => { readonly [name: string]: Float32Array }} outputs of the last run
 * @property {() => void} end
 */
/** @typedef {"wasm" | "wasm relaxed" | "native"} Variant */
/** @typedef {{ on: (variant: Variant, threads: number) => Promise<Ready> }} Work */

/** @template T @param {string} path below dist/ @returns {Promise<T>} */
async function built(path) {
  const url = new URL(`../dist/${path}`, import.meta.url);
  try {
    await access(url);
  } catch {
    throw new Error(`dist/${path} is not there: npm run build`);
  }
  return import(url.href);
}

/**
 * @param {string} text spec with the attentions to measure
 * @param {() => number} now the clock, in ns
 */
export async function openHeddle(text, now) {
  /** @type {typeof import("../src/compile.ts")} */
  const { compileSpec, readSpec } = await built("src/compile.js");
  /** @type {typeof import("../src/planner.ts")} */
  const { countPairs } = await built("src/planner.js");
  /** @type {typeof import("../runtime/wasm.ts")} */
  const { wasmDevice } = await built("runtime/wasm.js");
  /** @type {typeof import("../runtime/native.ts")} */
  const { inspectHost, nativeDevice } = await built("runtime/native.js");
  /** @type {typeof import("../runtime/weights.ts")} */
  const { loadWeights, packPanels } = await built("runtime/weights.js");
  /** @type {typeof import("../runtime/plan.ts")} */
  const { variantFor } = await built("runtime/plan.js");
  /** @type {typeof import("../runtime/node.ts")} */
  const { fileSource } = await built("runtime/node.js");

  /** @type {string[]} */
  const missing = [];
  // Node 20 has relaxed SIMD behind a flag of V8; later ones have it anyway and ignore the flag.
  if (!WebAssembly.validate(peakModule(true))) v8.setFlagsFromString("--experimental-wasm-relaxed-simd");
  const relaxed = WebAssembly.validate(peakModule(true));
  if (!relaxed) missing.push("relaxed SIMD: this Node has none");

  const host = await inspectHost().catch((/** @type {Error} */ error) => {
    missing.push(error.message);
    return null;
  });
  /** @type {readonly Variant[]} */
  const variants = [
    "wasm",
    ...(relaxed ? /** @type {const} */ (["wasm relaxed"]) : []),
    ...(host === null ? [] : /** @type {const} */ (["native"])),
  ];
  /** What programs are compiled for. */
  const targets = {
    target: /** @type {readonly ("wasm" | "native")[]} */ (host === null ? ["wasm"] : ["wasm", "native"]),
    vectors: host === null ? [] : [host.vectors],
  };

  /** One device for each variant and number of threads, kept so that its workers are started once. @type {Map<string, import("../runtime/device.ts").Device>} */
  const devices = new Map();
  const deviceFor = async (/** @type {Variant} */ variant, /** @type {number} */ count) => {
    const key = `${variant} ${count}`;
    const device =
      devices.get(key) ??
      (variant === "native"
        ? await nativeDevice({ threads: count })
        : wasmDevice({ threads: count, relaxed: variant === "wasm relaxed" }));
    devices.set(key, device);
    return device;
  };

  /**
   * @param {import("../runtime/plan.ts").Program} program
   * @param {import("../runtime/tensors.ts").Tensors} inputs
   * @param {number} length
   * @param {(executable: import("../runtime/device.ts").Executable) => Promise<void>} setWeights
   * @returns {Work}
   */
  const workOf = (program, inputs, length, setWeights) => ({
    on: async (variant, count) => {
      const executable = await (await deviceFor(variant, count)).compile(program);
      const simd = variant === "wasm" ? "SIMD128" : variant === "native" ? "lanes" : "relaxed SIMD";
      const asked = `${simd}, ${count} thread`;
      if (!executable.detail.includes(asked))
        throw new Error(`the device does not do what was asked (${asked}): ${executable.detail}`);
      await setWeights(executable);
      const at = { N: length, B: 1 };
      const into = await executable.run(inputs, at);
      return {
        run: async () => {
          const start = now();
          await executable.runInto(inputs, at, into);
          return now() - start;
        },
        outputs: () => /** @type {{ readonly [name: string]: Float32Array }} */ (into),
        end: () => void executable.dispose(),
      };
    },
  });

  const read = readSpec(text, "bench.heddle");
  if (read.spec === null) throw new Error(`the specs of bench/work.mjs: ${JSON.stringify(read.diagnostics)}`);
  const spec = read.spec;

  return {
    missing,
    relaxed,
    variants,

    /** An attention at one length, with the schedule that the planner picks for it. @param {string} name @param {number} length */
    attention(name, length) {
      const [compiled] = compileSpec(spec, { ...targets, names: [name] });
      if (compiled === undefined || compiled.item.kind !== "attention")
        throw new Error(`no attention '${name}'`);
      const { program, item } = compiled;
      return {
        spec: item.spec,
        pairs: countPairs(item.spec, length).total,
        schedule: [program.plan, ...(program.native ?? []).map((n) => n.plan)]
          .map((plan) => variantFor(plan, length).schedule)
          .join(", native "),
        with: (/** @type {{ q: Float32Array, k: Float32Array, v: Float32Array }} */ inputs) =>
          workOf(program, inputs, length, async () => {}),
      };
    },

    /**
     * One linear layer: a graph of a single node through the same passes as a model's.
     * @param {import("./linear.mjs").LinearWork} work @returns {Promise<Work>}
     */
    async linear(work) {
      const program = await compileLinear(built, work, targets.vectors[0] ?? null);
      return workOf(program, { x: work.x }, work.rows, async (executable) => {
        for (const [index, { name, layout }] of program.plan.weights.entries()) {
          const data = name === "bias" ? work.bias : work.w;
          await executable.setWeight(
            index,
            layout === "panels" ? packPanels(data, work.cols, work.depth) : data,
          );
        }
      });
    },

    /** The trained model of examples/jargon on its own text, or the reason why it cannot be measured. @param {number} length */
    async jargon(length) {
      const at = (/** @type {string} */ path) =>
        fileURLToPath(new URL(`../examples/${path}`, import.meta.url));
      const [source, bytes] = await Promise.all([
        readFile(at("jargon.heddle"), "utf8").catch(() => null),
        readFile(at("jargon/jargon.txt")).catch(() => null),
      ]);
      if (source === null || bytes === null) return "examples/jargon is not there";
      const model = readSpec(source, "jargon.heddle");
      if (model.spec === null)
        throw new Error(`examples/jargon.heddle: ${JSON.stringify(model.diagnostics)}`);
      const [compiled] = compileSpec(model.spec, { ...targets, names: ["jargon"] });
      if (compiled === undefined || compiled.item.kind !== "model") throw new Error("no model 'jargon'");
      const { program, item } = compiled;
      const tokens = Int32Array.from(bytes.subarray(0, length));
      return {
        spec: item.spec,
        pairs: countPairs(item.spec.attention, length).total,
        work: workOf(program, { tokens }, length, async (executable) => {
          const weights = await fileSource(at("jargon/jargon.safetensors"));
          try {
            await loadWeights(program.plan, weights, (index, data) => executable.setWeight(index, data));
          } finally {
            await weights.close();
          }
        }),
      };
    },

    end: () => Promise.all([...devices.values()].map((device) => device.dispose())),
  };
}
