/**
 * What one core reaches with code of our emitter: the 4 × 8 register tile of the simd machine over operands that stay in
 * the first-level cache, and the cost of a step of a plan on one and two threads.
 *
 *     npx rolldown bench/wasm-peak.ts --platform node -o /tmp/wasm-peak.mjs && node /tmp/wasm-peak.mjs
 *     node --experimental-wasm-relaxed-simd /tmp/wasm-peak.mjs
 */
import { emitModule } from "../codegen/wasm/emit.ts";
import type { Plan, Program } from "../runtime/plan.ts";
import { wasmDevice } from "../runtime/wasm.ts";
import * as x from "../src/expr.ts";
import type { Expr, Kernel, Stmt } from "../src/kernel.ts";

const DEPTH = 256;
const ROUNDS = 64;

/** Each group: ROUNDS products of 4 × DEPTH by DEPTH × 8, into scratch memory. */
const tile: Kernel = {
  name: "tile",
  buffers: [{ name: "out", dtype: "f32", access: "write" }],
  scalars: [],
  tables: [],
  shared: [
    { name: "a", type: "f32", length: 4 * DEPTH },
    { name: "b", type: "f32", length: 8 * DEPTH },
  ],
  workgroup: 1,
  body: [
    forLoop("f", 8 * DEPTH, 4, (f) => [
      x.store("b", f, x.splat(x.f32(0.5))),
      { s: "if", cond: x.lt(f, x.i32(4 * DEPTH)), then: [x.store("a", f, x.splat(x.f32(0.25)))] },
    ]),
    ...range(8).map((j) => x.var_(`acc${j}`, x.splat(x.f32(0)))),
    forLoop("r", ROUNDS, 1, () => [
      x.var_("left", x.i32(0)),
      forLoop("k", 8 * DEPTH, 8, (k) => [
        x.let_("b0", x.load("b", k, "f32x4")),
        x.let_("b1", x.load("b", x.add(k, x.i32(4)), "f32x4")),
        ...range(4).flatMap((i): readonly Stmt[] => [
          x.let_(`a${i}`, x.splat(x.load("a", x.add(x.ref("left"), x.i32(i * DEPTH))))),
          ...range(2).map((h) => {
            const acc = x.ref(`acc${2 * i + h}`, "f32x4");
            return x.set(`acc${2 * i + h}`, x.madd(x.ref(`a${i}`, "f32x4"), x.ref(`b${h}`, "f32x4"), acc));
          }),
        ]),
        x.set("left", x.add(x.ref("left"), x.i32(1))),
      ]),
    ]),
    ...range(8).map((j) =>
      x.store("out", x.add(x.mul(x.group, x.i32(32)), x.i32(4 * j)), x.ref(`acc${j}`, "f32x4")),
    ),
  ],
};

const nothing: Kernel = {
  ...tile,
  name: "nothing",
  shared: [],
  body: [x.store("out", x.mul(x.group, x.i32(32)), x.f32(1))],
};

function range(count: number): number[] {
  return Array.from({ length: count }, (_, i) => i);
}
function forLoop(name: string, to: number, step: number, body: (i: Expr) => readonly Stmt[]): Stmt {
  return { s: "for", name, from: x.i32(0), to: x.i32(to), step, body: body(x.ref(name)) };
}

function programOf(kernel: Kernel, steps: number): Program {
  const base = emitModule([kernel], { relaxed: false });
  const relaxed = emitModule([kernel], { relaxed: true });
  const plan: Plan = {
    format: 1,
    name: kernel.name,
    inputs: [],
    outputs: [{ name: "out", dtype: "f32", shape: ["N", 32] }],
    weights: [],
    tables: [],
    accepts: [],
    kernels: [
      {
        entry: kernel.name,
        title: kernel.name,
        buffers: kernel.buffers,
        scalars: [],
        sharedBytes: kernel.shared.reduce((bytes, s) => bytes + 4 * s.length, 0),
        workgroup: 1,
      },
    ],
    variants: [
      {
        upTo: null,
        schedule: "",
        slots: [],
        steps: range(steps).map((i) => ({
          kernel: 0,
          title: `${kernel.name} ${i}`,
          buffers: [{ in: "output", index: 0 } as const],
          scalars: [],
          grid: "N" as const,
        })),
      },
    ],
  };
  const memoryFlag = { base: base.memoryFlag, relaxed: relaxed.memoryFlag };
  return {
    plan,
    wasm: { base: base.bytes, relaxed: relaxed.bytes, memoryFlag, dataEnd: base.dataEnd },
  };
}

async function best(
  program: Program,
  threads: number,
  N: number,
  runs: number,
): Promise<[number, string, number]> {
  const device = wasmDevice({ threads });
  const executable = await device.compile(program);
  const out = { out: new Float32Array(N * 32) };
  let least = Infinity;
  let first = 0;
  for (let i = 0; i < runs; i++) {
    const start = performance.now();
    await executable.runInto({}, { N, B: 1 }, out);
    const took = performance.now() - start;
    if (i === 0) first = took;
    least = Math.min(least, took);
  }
  await device.dispose();
  return [least, executable.detail, first];
}

for (const threads of [1, 2]) {
  const N = 32;
  const [ms, detail, first] = await best(programOf(tile, 1), threads, N, 400);
  const gflops = (2 * 32 * DEPTH * ROUNDS * N) / ms / 1e6;
  console.log(
    `${detail}: 4x8 tile ${gflops.toFixed(1)} GFLOP/s, first run ${first.toFixed(1)} ms, best ${ms.toFixed(1)} ms`,
  );
}
for (const threads of [1, 2])
  for (const [N, steps] of [[1, 200], [64, 200]] as const) {
    const [ms, detail] = await best(programOf(nothing, steps), threads, N, 300);
    const [one] = await best(programOf(nothing, 1), threads, N, 300);
    console.log(`${detail}: ${(((ms - one) / (steps - 1)) * 1000).toFixed(2)} us per step of ${N} groups`);
  } // prettier-ignore
