// heddle's side, in Node: programs for WebGPU, as JSON for the process that holds the device.
import { readFileSync } from "node:fs";
import { attentionFlops, baselineMeansTheSame } from "../work.mjs";
import { linearGraph } from "../linear.mjs";
import { attentions, linears, text } from "./works.mjs";

/**
 * @typedef {object} Common
 * @property {string} title
 * @property {"software" | "gpu"} on which kind of device it is for
 * @property {number} flops
 * @property {string} note
 * @property {import("../../runtime/plan.ts").Program} program
 * @property {readonly { name: string, code: string }[]} hands the hand-written shader, as it is and with its inner loops written out
 */
/** @typedef {Pick<import("../../src/spec.ts").AttentionShape, "heads" | "headDim" | "causal" | "branches" | "offsets" | "scale">} Shape */
/** @typedef {Common & { kind: "attention", shape: Shape, length: number }} AttentionWork */
/** @typedef {Common & { kind: "linear", rows: number, depth: number, cols: number }} LinearWork */
/** @typedef {AttentionWork | LinearWork} Work */

const source = (/** @type {string} */ name) => readFileSync(new URL(name, import.meta.url), "utf8");

/**
 * Drivers for GPUs unroll loops of a constant number of turns; not all that play GPU do. So that the hand-written shader competes in
 * the better form, its innermost loops over `counter` are written out too.
 * @param {string} code @param {string} counter @param {number} turns
 */
function unrolled(code, counter, turns) {
  const loop = new RegExp(
    ` *for \\(var ${counter} = 0u; ${counter} < \\w+; ${counter}\\+\\+\\) \\{\\n([^}]*)\\}\\n`,
    "g",
  );
  const name = new RegExp(`\\b${counter}\\b`, "g");
  const written = code.replace(loop, (_, /** @type {string} */ body) =>
    Array.from({ length: turns }, (_turn, i) => `{\n${body.replace(name, `${i}u`)}}\n`).join(""),
  );
  if (written === code) throw new Error(`the hand-written shader has no loop over ${counter}`);
  return written;
}
/** @param {string} code @param {string} counter @param {number} turns */
const both = (code, counter, turns) => [
  { name: "hand-written", code },
  { name: "hand-written, unrolled", code: unrolled(code, counter, turns) },
];

/**
 * Every work for one kind of device.
 * @param {<T>(path: string) => Promise<T>} built imports a module of dist/
 * @param {"software" | "gpu"} on
 * @param {{ quick: boolean, only: string, length: number | null }} wish
 * @returns {Promise<Work[]>}
 */
export async function compileWorks(built, on, { quick, only, length: wished }) {
  /** @type {typeof import("../../src/compile.ts")} */
  const { compileSpec, readSpec } = await built("src/compile.js");
  /** @type {typeof import("../../src/planner.ts")} */
  const { countPairs } = await built("src/planner.js");
  const { spec, diagnostics } = readSpec(text, "bench.heddle");
  if (spec === null) throw new Error(`the specs of bench/webgpu/works.mjs: ${JSON.stringify(diagnostics)}`);

  /** @type {Work[]} */
  const works = [];
  for (const { name, length: lengths, quick: small } of attentions) {
    const length = wished ?? lengths[on];
    const title = `${name} N = ${length}`;
    if ((quick && !small) || !title.includes(only)) continue;
    const [compiled] = compileSpec(spec, { target: "wgsl", names: [name], length });
    if (compiled === undefined || compiled.item.kind !== "attention")
      throw new Error(`no attention '${name}'`);
    const { program, item } = compiled;
    const { heads, headDim, causal, branches, offsets, scale } = item.spec;
    if (!baselineMeansTheSame(item.spec, length)) {
      process.stderr.write(`${title}: not in this run: the hand-written kernel has no torchscale padding\n`);
      continue;
    }
    if (branches[0]?.dilation !== 1)
      throw new Error(`${title}: the hand-written kernel starts with a branch that covers every row`);
    const { total } = countPairs(item.spec, length);
    works.push({
      kind: "attention",
      title,
      on,
      flops: attentionFlops(total, headDim),
      note: `${heads} heads × ${headDim}, ${causal ? "causal" : "not causal"}, ${total} pairs; schedule ${program.plan.variants.map((v) => v.schedule).join()}.`,
      program: { plan: program.plan, webgpu: program.webgpu ?? [] },
      hands: both(
        source("attention.wgsl").replace("HEAD_DIM = 64u", `HEAD_DIM = ${headDim}u`),
        "c",
        headDim / 4,
      ),
      // JSON has no infinity: a segment of all tokens is one of this length.
      shape: {
        heads,
        headDim,
        causal,
        branches: branches.map((b) => ({ ...b, segment: Math.min(b.segment, length) })),
        offsets,
        scale,
      },
      length,
    });
  }
  for (const { rows: sizes, depth, cols, quick: small } of linears) {
    const rows = wished ?? sizes[on];
    const title = `linear ${rows} × ${depth} → ${cols}`;
    if ((quick && !small) || !title.includes(only)) continue;
    works.push({
      kind: "linear",
      title,
      on,
      flops: 2 * rows * depth * cols,
      note: "With bias; heddle's weights packed beforehand.",
      program: await compileLinear(built, depth, cols),
      hands: both(source("linear.wgsl"), "r", 4),
      rows,
      depth,
      cols,
    });
  }
  return works;
}

/**
 * A linear layer alone: the chain of src/compile.ts for a graph of one node.
 * @param {<T>(path: string) => Promise<T>} built @param {number} depth @param {number} cols
 * @returns {Promise<import("../../runtime/plan.ts").Program>}
 */
async function compileLinear(built, depth, cols) {
  /** @type {typeof import("../../codegen/lower/index.ts")} */
  const { lower } = await built("codegen/lower/index.js");
  /** @type {typeof import("../../codegen/simplify.ts")} */
  const { simplify } = await built("codegen/simplify.js");
  /** @type {typeof import("../../codegen/unroll.ts")} */
  const { unroll } = await built("codegen/unroll.js");
  /** @type {typeof import("../../codegen/legalize.ts")} */
  const { legalize } = await built("codegen/legalize.js");
  /** @type {typeof import("../../codegen/plan.ts")} */
  const { makePlan } = await built("codegen/plan.js");
  /** @type {typeof import("../../codegen/wgsl/emit.ts")} */
  const { emitShader } = await built("codegen/wgsl/emit.js");
  /** @type {typeof import("../../codegen/wgsl/expression.ts")} */
  const { wgslOps } = await built("codegen/wgsl/expression.js");
  /** @type {typeof import("../../codegen/wgsl/target.ts")} */
  const { GPU_TILINGS, gpuMachine, WGSL_VARIANTS } = await built("codegen/wgsl/target.js");

  const graph = linearGraph(depth, cols);
  const none = () => {
    throw new Error("a linear has no schedule");
  };
  const webgpu = WGSL_VARIANTS.map((variant) => {
    const launches = graph.nodes.flatMap((node) =>
      lower(node, graph, none, GPU_TILINGS).map((launch) => ({
        ...launch,
        kernel: simplify(legalize(simplify(unroll(simplify(gpuMachine(variant)(launch.kernel)))), wgslOps)),
      })),
    );
    const { plan, kernels } = makePlan({
      name: "linear",
      graph,
      variants: [{ upTo: null, schedule: "", launches }],
    });
    return { features: variant.features, plan, shaders: kernels.map((kernel) => emitShader(kernel)) };
  });
  const plan = webgpu.at(-1)?.plan;
  if (plan === undefined) throw new Error("there is no variant for WebGPU");
  return { plan, webgpu };
}
