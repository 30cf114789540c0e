/** What WebAssembly can do at most on this machine: chains of c = c·x + y in registers, through the same emitter, runtime and threads as kernels. */
import { legalize } from "../../../codegen/legalize.ts";
import { emitModule } from "../../../codegen/wasm/module.ts";
import { wasmOps } from "../../../codegen/wasm/value.ts";
import type { Program } from "../../../runtime/plan.ts";
import { add, f32, group, i32, op, ref } from "../../expr.ts";
import type { Expr, Kernel, Stmt } from "../../kernel.ts";

/** As many as hide the latency of a product and a sum, and fit 16 registers beside x and y. */
const CHAINS = 12;
const LANES = 4;
const STEPS = 100_000;
/** Shared by the threads. */
const GROUPS = 64;

/** Floating-point operations of one run. */
export const PEAK_FLOPS = 2 * LANES * CHAINS * STEPS * GROUPS;

const vector = (value: number): Expr => op("splat", [f32(value)]);
const chain = (c: number): Expr => ref(`c${c}`, "f32x4");

const kernel: Kernel = {
  name: "peak",
  buffers: [{ name: "out", dtype: "f32", access: "write" }],
  scalars: [{ name: "steps", type: "i32" }],
  tables: [],
  shared: [],
  workgroup: 1,
  body: [
    { s: "let", name: "x", value: vector(0.9999) },
    { s: "let", name: "y", value: vector(1e-5) },
    ...Array.from({ length: CHAINS }, (_, c): Stmt => ({
      s: "var",
      name: `c${c}`,
      value: vector(0.5 + c / 64),
    })),
    {
      s: "for",
      name: "i",
      from: i32(0),
      to: ref("steps"),
      step: 1,
      body: Array.from({ length: CHAINS }, (_, c): Stmt => ({
        s: "set",
        name: `c${c}`,
        value: op("madd", [chain(c), ref("x", "f32x4"), ref("y", "f32x4")]),
      })),
    },
    {
      s: "store",
      to: "out",
      index: group,
      value: op("sum", [Array.from({ length: CHAINS }, (_, c) => chain(c)).reduce((a, b) => add(a, b))]),
    },
  ],
};

/** One output `out` [GROUPS]; N and B do not matter. */
export function peakProgram(): Program {
  const legal = legalize(kernel, wasmOps);
  const [base, relaxed] = [emitModule([legal], { relaxed: false }), emitModule([legal], { relaxed: true })];
  return {
    plan: {
      format: 1,
      name: "peak",
      inputs: [],
      outputs: [{ name: "out", dtype: "f32", shape: [GROUPS] }],
      weights: [],
      tables: [],
      accepts: [],
      kernels: [
        {
          entry: kernel.name,
          title: "peak",
          buffers: kernel.buffers,
          scalars: kernel.scalars,
          sharedBytes: 0,
          workgroup: 1,
        },
      ],
      variants: [
        {
          upTo: null,
          schedule: "",
          steps: [
            {
              kernel: 0,
              title: "peak",
              buffers: [{ in: "output", index: 0 }],
              scalars: [STEPS],
              grid: GROUPS,
            },
          ],
          slots: [],
        },
      ],
    },
    wasm: {
      base: base.bytes,
      relaxed: relaxed.bytes,
      memoryFlag: { base: base.memoryFlag, relaxed: relaxed.memoryFlag },
      dataEnd: Math.max(base.dataEnd, relaxed.dataEnd),
    },
  };
}
