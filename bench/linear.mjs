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
 * @param {import("../runtime/plan.ts").NativeVectors | null} vectors for native code too, where not null
 * @returns {Promise<import("../runtime/plan.ts").Program>}
 */
export async function compileLinear(built, { depth, cols }, vectors) {
  /** @type {typeof import("../codegen/lower/index.ts")} */
  const { lower } = await built("codegen/lower/index.js");
  /** @type {typeof import("../codegen/distribute.ts")} */
  const { distribute } = await built("codegen/distribute.js");
  /** @type {typeof import("../codegen/machine/simd.ts")} */
  const { simd, simdMachine } = await built("codegen/machine/simd.js");
  /** @type {typeof import("../codegen/native/target.ts")} */
  const { NATIVE_VARIANTS, nativeTilings } = await built("codegen/native/target.js");
  /** @type {typeof import("../codegen/native/expression.ts")} */
  const { nativeOps } = await built("codegen/native/expression.js");
  /** @type {typeof import("../codegen/native/emit.ts")} */
  const { emitNative } = await built("codegen/native/emit.js");
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
  const planFor = (
    /** @type {typeof simd} */ machine,
    /** @type {import("../codegen/legalize.ts").Supported} */ ops,
    /** @type {import("../codegen/lower/tilings.ts").Tilings | undefined} */ tilings,
  ) => {
    const launches = graph.nodes.flatMap((node) =>
      lower(
        node,
        graph,
        () => {
          throw new Error("a linear has no schedule");
        },
        tilings,
      ).map((launch) => ({
        ...launch,
        kernel: legalize(simplify(unroll(simplify(distribute(machine)(launch.kernel)))), ops),
      })),
    );
    return makePlan({ name: "linear", graph, variants: [{ upTo: null, schedule: "", launches }] });
  };
  const { plan, kernels } = planFor(simd, wasmOps, undefined);
  const variant = NATIVE_VARIANTS.find((v) => v.vectors === vectors);
  const native = [variant].flatMap((v) => {
    if (v === undefined) return [];
    const made = planFor(simdMachine(v.shape), nativeOps, nativeTilings(v));
    const { code, scratchBytes } = emitNative(
      made.kernels.map((kernel) => ({ kernel, title: kernel.name })),
      "linear",
    );
    return [
      { vectors: v.vectors, panel: v.shape.lanes * v.shape.vectors, scratchBytes, plan: made.plan, code },
    ];
  });
  const [base, relaxed] = [emitModule(kernels, { relaxed: false }), emitModule(kernels, { relaxed: true })];
  return {
    plan,
    native,
    wasm: {
      base: base.bytes,
      relaxed: relaxed.bytes,
      memoryFlag: { base: base.memoryFlag, relaxed: relaxed.memoryFlag },
      dataEnd: Math.max(base.dataEnd, relaxed.dataEnd),
    },
  };
}
