// A linear layer alone as a Program. compileSpec compiles attentions and models; this is the same chain of passes for a graph of
// one node, so that the kernel can be measured without a model around it. Keep it in step with src/compile.ts.

/**
 * @typedef {object} LinearWork
 * @property {number} rows @property {number} depth @property {number} cols
 * @property {Float32Array} x [rows, depth] @property {Float32Array} w [cols, depth] @property {Float32Array} bias [cols]
 */

/** A graph of one linear layer. @param {number} depth @param {number} cols @returns {import("../src/graph.ts").Graph} */
export function linearGraph(depth, cols) {
  return {
    name: "linear",
    inputs: [{ id: "x", name: "x", dtype: "f32", shape: ["B", "N", depth] }],
    weights: [
      { id: "weight", name: "weight", dtype: "f32", shape: [cols, depth] },
      { id: "bias", name: "bias", dtype: "f32", shape: [cols] },
    ],
    aliases: [],
    ignored: [],
    values: [{ id: "out", dtype: "f32", shape: ["B", "N", cols] }],
    nodes: [{ op: "linear", out: "out", x: "x", weight: "weight", bias: "bias" }],
    outputs: [{ name: "out", value: "out" }],
    hidden: [],
  };
}

/**
 * @param {<T>(path: string) => Promise<T>} built imports a module of dist/
 * @param {LinearWork} work
 * @returns {Promise<import("../runtime/plan.ts").Program>}
 */
export async function compileLinear(built, { depth, cols }) {
  /** @type {typeof import("../codegen/lower/index.ts")} */
  const { lower } = await built("codegen/lower/index.js");
  /** @type {typeof import("../codegen/distribute.ts")} */
  const { distribute } = await built("codegen/distribute.js");
  /** @type {typeof import("../codegen/machine/simd.ts")} */
  const { simd } = await built("codegen/machine/simd.js");
  /** @type {typeof import("../codegen/simplify.ts")} */
  const { simplify } = await built("codegen/simplify.js");
  /** @type {typeof import("../codegen/unroll.ts")} */
  const { unroll } = await built("codegen/unroll.js");
  /** @type {typeof import("../codegen/legalize.ts")} */
  const { legalize } = await built("codegen/legalize.js");
  /** @type {typeof import("../codegen/plan.ts")} */
  const { makePlan } = await built("codegen/plan.js");
  /** @type {typeof import("../codegen/wasm/module.ts")} */
  const { emitModule } = await built("codegen/wasm/module.js");
  /** @type {typeof import("../codegen/wasm/value.ts")} */
  const { wasmOps } = await built("codegen/wasm/value.js");

  const graph = linearGraph(depth, cols);
  const launches = graph.nodes.flatMap((node) =>
    lower(node, graph, () => {
      throw new Error("a linear has no schedule");
    }).map((launch) => ({
      ...launch,
      kernel: legalize(simplify(unroll(simplify(distribute(simd)(launch.kernel)))), wasmOps),
    })),
  );
  const { plan, kernels } = makePlan({
    name: "linear",
    graph,
    variants: [{ upTo: null, schedule: "", launches }],
  });
  const [base, relaxed] = [emitModule(kernels, { relaxed: false }), emitModule(kernels, { relaxed: true })];
  return {
    plan,
    wasm: {
      base: base.bytes,
      relaxed: relaxed.bytes,
      memoryFlag: { base: base.memoryFlag, relaxed: relaxed.memoryFlag },
      dataEnd: Math.max(base.dataEnd, relaxed.dataEnd),
    },
  };
}
