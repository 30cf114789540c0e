/** Hand-written programs for the device tests: what they compute is written out once more in TypeScript. */
import { emitModule } from "../../codegen/wasm/module.ts";
import type { Plan, Program } from "../../runtime/plan.ts";
import { xposTable } from "../../runtime/tables.ts";
import * as x from "../../src/expr.ts";
import type { Expr, Kernel } from "../../src/kernel.ts";

export const WIDTH = 8;
const empty = { tables: [], shared: [], scalars: [], workgroup: 1 } as const;
const read = (name: string, dtype: "f32" | "i32" = "f32") => ({ name, dtype, access: "read" }) as const;
const write = (name: string, dtype: "f32" | "i32" = "f32") => ({ name, dtype, access: "write" }) as const;

export function programOf(plan: Plan, kernels: readonly Kernel[]): Program {
  const base = emitModule(kernels, { relaxed: false });
  const relaxed = emitModule(kernels, { relaxed: true });
  const memoryFlag = { base: base.memoryFlag, relaxed: relaxed.memoryFlag };
  const dataEnd = Math.max(base.dataEnd, relaxed.dataEnd);
  return { plan, wasm: { base: base.bytes, relaxed: relaxed.bytes, memoryFlag, dataEnd } };
}
export const planKernel = (k: Kernel): Plan["kernels"][number] => ({
  entry: k.name,
  title: k.name,
  buffers: k.buffers,
  scalars: k.scalars,
  sharedBytes: k.shared.reduce((bytes, s) => bytes + 4 * s.length, 0),
  workgroup: k.workgroup,
});

const n = x.ref("n");
const at = (base: Expr) => x.add(base, x.ref("j"));
const eight = (body: Kernel["body"]): Kernel["body"][number] => ({
  s: "for",
  name: "j",
  from: x.i32(0),
  to: x.i32(WIDTH),
  step: 4,
  body,
});
const rowStart = x.mul(x.group, x.i32(WIDTH));

/** mid[row] = x[row] · w + table[row mod n], by way of a tile in scratch memory. */
const scale: Kernel = {
  ...empty,
  name: "scale",
  buffers: [read("x"), read("w"), read("table"), write("mid")],
  scalars: [{ name: "n", type: "i32" }],
  shared: [
    { name: "odd", type: "f32", length: 3 },
    { name: "tile", type: "f32", length: WIDTH },
  ],
  body: [
    x.store("odd", x.i32(2), x.f32(0.5)),
    eight([x.store("tile", x.ref("j"), x.op("mul", [x.load("x", at(rowStart), "f32x4"), x.load("w", x.ref("j"), "f32x4")]))]),
    x.let_("half", x.load("odd", x.i32(2))),
    eight([
      x.store(
        "mid",
        at(rowStart),
        x.op("add", [
          x.op("mul", [x.load("tile", x.ref("j"), "f32x4"), x.splat(x.ref("half", "f32"))]),
          x.load("table", at(x.mul(x.rem(x.group, n), x.i32(WIDTH))), "f32x4"),
        ]),
      ),
    ]),
  ],
}; // prettier-ignore

/** out[row] = mid[row] + mid[last − row] + shift, count[row] = row; `rows` is N·B. */
const mirror: Kernel = {
  ...empty,
  name: "mirror",
  buffers: [read("mid"), write("out"), write("count", "i32")],
  scalars: [
    { name: "rows", type: "i32" },
    { name: "shift", type: "f32" },
  ],
  tables: [{ name: "steps", type: "f32", values: [0.25, 0.5, 0.75, 1, 1.25, 1.5, 1.75, 2] }],
  body: [
    x.let_("other", x.mul(x.sub(x.sub(x.ref("rows"), x.i32(1)), x.group), x.i32(WIDTH))),
    eight([
      x.store(
        "out",
        at(rowStart),
        x.op("add", [
          x.op("add", [x.load("mid", at(rowStart), "f32x4"), x.load("mid", at(x.ref("other")), "f32x4")]),
          x.op("add", [x.load("steps", x.ref("j"), "f32x4"), x.splat(x.ref("shift", "f32"))]),
        ]),
      ),
    ]),
    x.store("count", x.group, x.group),
  ],
}; // prettier-ignore

const rows = { op: "mul", args: ["B", "N"] } as const;
const table = { kind: "xpos", headDim: WIDTH, base: 512, block: 16, sign: -1 } as const;

export const twoSteps: Program = programOf(
  {
    format: 1,
    name: "two",
    inputs: [{ name: "x", dtype: "f32", shape: ["B", "N", WIDTH] }],
    outputs: [
      { name: "out", dtype: "f32", shape: ["B", "N", WIDTH] },
      { name: "count", dtype: "i32", shape: ["B", "N"] },
    ],
    weights: [{ name: "w", shape: [WIDTH], layout: "rows" }],
    tables: [table],
    accepts: [],
    kernels: [planKernel(scale), planKernel(mirror)],
    variants: [
      {
        upTo: null,
        schedule: "by hand",
        slots: [{ op: "mul", args: [rows, WIDTH] }],
        steps: [
          {
            kernel: 0,
            title: "scale",
            buffers: [
              { in: "input", index: 0 },
              { in: "weight", index: 0 },
              { in: "table", index: 0 },
              { in: "slot", index: 0 },
            ],
            scalars: ["N"],
            grid: rows,
          },
          {
            kernel: 1,
            title: "mirror",
            buffers: [
              { in: "slot", index: 0 },
              { in: "output", index: 0 },
              { in: "output", index: 1 },
            ],
            scalars: [rows, 3],
            grid: rows,
          },
        ],
      },
    ],
  },
  [scale, mirror],
);

/** What `twoSteps` computes, in the same roundings. */
export function twoStepsByHand(input: Float32Array, w: Float32Array, N: number, B: number): Float32Array {
  const f = Math.fround;
  const tables = xposTable(table, N);
  const mid = new Float32Array(input.length);
  for (let i = 0; i < input.length; i++) {
    const row = Math.floor(i / WIDTH) % N;
    mid[i] = f(f(f(input[i]! * w[i % WIDTH]!) * 0.5) + tables[row * WIDTH + (i % WIDTH)]!);
  }
  return Float32Array.from(mid, (value, i) => {
    const other = mid[(N * B - 1 - Math.floor(i / WIDTH)) * WIDTH + (i % WIDTH)]!;
    return f(f(value + other) + f(0.25 * ((i % WIDTH) + 1) + 3));
  });
}

/** One kernel alone with one f32 output `out` of B·N·WIDTH elements, run over `grid` groups. */
export const oneStep = (kernel: Kernel, grid: Plan["variants"][number]["steps"][number]["grid"]): Program =>
  programOf(
    {
      format: 1,
      name: kernel.name,
      inputs: [],
      outputs: [{ name: "out", dtype: "f32", shape: ["B", "N", WIDTH] }],
      weights: [],
      tables: [],
      accepts: [],
      kernels: [planKernel(kernel)],
      variants: [
        {
          upTo: null,
          schedule: "by hand",
          slots: [],
          steps: [
            { kernel: 0, title: kernel.name, buffers: [{ in: "output", index: 0 }], scalars: [], grid },
          ],
        },
      ],
    },
    [kernel],
  );

/** out[row] = row, but for every second row, which it leaves as it was. */
export const forgetful: Program = oneStep(
  {
    ...empty,
    name: "forgetful",
    buffers: [write("out")],
    body: [
      {
        s: "if",
        cond: x.eq(x.rem(x.group, x.i32(2)), x.i32(0)),
        then: [eight([x.store("out", at(rowStart), x.splat(x.float(x.group)))])],
      },
    ],
  },
  rows,
);

/** Writes far outside the memory in its last group. */
export const trapping: Program = oneStep(
  {
    ...empty,
    name: "trapping",
    buffers: [write("out")],
    body: [
      {
        s: "if",
        cond: x.eq(x.group, x.i32(199)),
        then: [x.store("out", x.i32(0x1fffffff), x.f32(1))],
        else: [x.store("out", rowStart, x.f32(1))],
      },
    ],
  },
  200,
);

/**
 * Counts the groups that a thread has run since the program was loaded, each after a long sum. It reads scratch memory
 * that it has not written in this group, which no compiled kernel does.
 */
export const counting: Program = oneStep(
  {
    ...empty,
    name: "counting",
    buffers: [write("out")],
    shared: [{ name: "seen", type: "f32", length: 1 }],
    body: [
      x.var_("sum", x.f32(0)),
      {
        s: "for",
        name: "i",
        from: x.i32(0),
        to: x.i32(5000),
        step: 1,
        body: [x.set("sum", x.op("add", [x.ref("sum", "f32"), x.f32(1)]))],
      },
      x.let_("seen_before", x.load("seen", x.i32(0))),
      x.store("out", rowStart, x.ref("seen_before", "f32")),
      x.store(
        "seen",
        x.i32(0),
        x.op("add", [x.ref("seen_before", "f32"), x.op("div", [x.ref("sum", "f32"), x.f32(5000)])]),
      ),
    ],
  },
  rows,
);
