/** Runs lowered launches through the simd machine, on the interpreter and as WebAssembly, bound as a device would. */
import { distribute } from "../../codegen/distribute.ts";
import type { Launch } from "../../codegen/lower/launch.ts";
import { simd } from "../../codegen/machine/simd.ts";
import { legalize } from "../../codegen/legalize.ts";
import { simplify } from "../../codegen/simplify.ts";
import { unroll } from "../../codegen/unroll.ts";
import { wasmOps } from "../../codegen/wasm/value.ts";
import { emitModule } from "../../codegen/wasm/module.ts";
import { sizeOf } from "../../runtime/plan.ts";
import type { PlanTable } from "../../runtime/plan.ts";
import { interpret } from "../../src/interpret.ts";
import type { Graph, Node, ValueId } from "../../src/graph.ts";
import type { Kernel, TileKernel } from "../../src/kernel.ts";
import { placed } from "../../src/reference/sequence.ts";
import { rotate } from "../../src/reference/xpos.ts";
import { verified, verifiedTiles } from "../../src/verify.ts";

/** A checkpoint matrix [outs, ins] as panels of 8 outputs. */
export function panelsOf(weight: ArrayLike<number>, outs: number, ins: number): Float32Array {
  const packed = new Float32Array(Math.ceil(outs / 8) * 8 * ins);
  for (let j = 0; j < outs; j++)
    for (let k = 0; k < ins; k++)
      packed[Math.floor(j / 8) * ins * 8 + k * 8 + (j % 8)] = weight[j * ins + k] ?? NaN;
  return packed;
}

/** A table by its meaning: what the rotation makes of (1, 0) in every pair is (cos·f, sin·f), and what a grid adds to zeros. */
export function tableOf(table: PlanTable, N: number): Float32Array {
  if (table.kind === "sincos") {
    const places = Float64Array.from({ length: table.rows }, (_, p) => p);
    const zeros = new Float64Array(table.rows * 2 * table.width);
    const both = placed(zeros, places, places, 2 * table.width, table.rows);
    return Float32Array.from({ length: table.rows * table.width }, (_, i) => {
      const [p, d] = [Math.floor(i / table.width), i % table.width];
      return both[p * 2 * table.width + d] ?? NaN;
    });
  }
  const { headDim, base, block, sign } = table;
  const ones = Float64Array.from({ length: N * headDim }, (_, i) => (i % 2 === 0 ? 1 : 0));
  return Float32Array.from(rotate(ones, { B: 1, N, heads: 1, headDim, base, block, sign }));
}

const distributed = new WeakMap<TileKernel, Kernel>();
const kernelOf = (tiles: TileKernel): Kernel => {
  const known = distributed.get(tiles) ?? verified(distribute(simd)(verifiedTiles(tiles)));
  distributed.set(tiles, known);
  return known;
};

type Arrays = { readonly [name: string]: Float32Array | Int32Array };
/** Runs all groups of a kernel on given arrays. */
export type Device = (
  kernel: Kernel,
  launch: {
    readonly buffers: Arrays;
    readonly scalars: { readonly [name: string]: number };
    readonly groups: number;
  },
) => void;

/** The sources are checked without the DOM library, which is where WebAssembly is typed. */
type Module = { readonly module: unique symbol };
type Memory = { readonly buffer: ArrayBuffer };
const { WebAssembly } = globalThis as unknown as {
  readonly WebAssembly: {
    readonly Module: new (bytes: Uint8Array) => Module;
    readonly Memory: new (d: { initial: number; maximum: number }) => Memory;
    readonly Instance: new (
      module: Module,
      imports: { env: { memory: Memory } },
    ) => { readonly exports: { readonly [name: string]: unknown } };
  };
};

const modules = new WeakMap<Kernel, { readonly module: Module; readonly scratch: number }>();
function moduleOf(kernel: Kernel) {
  const known = modules.get(kernel);
  if (known !== undefined) return known;
  const legal = verified(legalize(unroll(simplify(kernel)), wasmOps));
  const { bytes, scratch } = emitModule([legal], { relaxed: false });
  const made = { module: new WebAssembly.Module(bytes), scratch: scratch.get(kernel.name) ?? 0 };
  modules.set(kernel, made);
  return made;
}

/** One thread of WebAssembly; every array is copied in and out. */
export const wasm: Device = (kernel, { buffers, scalars, groups }) => {
  const { module, scratch } = moduleOf(kernel);
  let top = 1 << 16;
  const place = (bytes: number): number => {
    const at = top;
    top += Math.ceil(bytes / 64) * 64;
    return at;
  };
  const pointers = kernel.buffers.map((b) => place(buffers[b.name]?.byteLength ?? 0));
  const stack = place(scratch);
  const memory = new WebAssembly.Memory({ initial: Math.ceil(top / 65536), maximum: 65536 });
  const view = (i: number, from: Float32Array | Int32Array) =>
    from instanceof Int32Array
      ? new Int32Array(memory.buffer, pointers[i], from.length)
      : new Float32Array(memory.buffer, pointers[i], from.length);
  // Scratch is full of NaN, so that reading what nobody wrote shows.
  new Uint8Array(memory.buffer, stack).fill(255);
  const arrays = kernel.buffers.map((b) => buffers[b.name] ?? new Float32Array());
  arrays.forEach((a, i) => view(i, a).set(a));
  const { exports } = new WebAssembly.Instance(module, { env: { memory } });
  const entry = exports[kernel.name];
  if (typeof entry !== "function") throw new Error(`no export ${kernel.name}`);
  entry(0, groups, stack, ...pointers, ...kernel.scalars.map((s) => scalars[s.name]));
  arrays.forEach((a, i) => kernel.buffers[i]?.access !== "read" && a.set(view(i, a)));
};

export const devices: { readonly [name: string]: Device } = { interpreter: interpret, wasm };

/** Values by id, f32 or i32; those that launches write are allocated full of NaN. */
export function run(
  graph: Graph,
  launches: readonly Launch<TileKernel>[],
  given: ReadonlyMap<ValueId, Float32Array | Int32Array>,
  at: { readonly N: number; readonly B: number },
  device: Device = interpret,
): ReadonlyMap<ValueId, Float32Array | Int32Array> {
  const memory = new Map(given);
  const lengthOf = (id: ValueId): number => {
    const value = [...graph.values, ...graph.inputs, ...graph.weights].find((v) => v.id === id);
    if (value === undefined) throw new Error(`no value ${id}`);
    return value.shape.reduce<number>((n, d) => n * (d === "N" ? at.N : d === "B" ? at.B : d), 1);
  };
  for (const { kernel, bind, scalars, grid } of launches) {
    const buffers: Record<string, Float32Array | Int32Array> = {};
    for (const [name, binding] of Object.entries(bind)) {
      if ("table" in binding) {
        buffers[name] = tableOf(binding.table, at.N);
        continue;
      }
      const known = memory.get(binding.value) ?? new Float32Array(lengthOf(binding.value)).fill(NaN);
      memory.set(binding.value, known);
      const weight = graph.weights.find((w) => w.id === binding.value);
      if (binding.layout === "panels") {
        const [outs = 0, ins = 0] = weight?.shape ?? [];
        buffers[name] = panelsOf(known, outs, ins);
      } else buffers[name] = known;
    }
    const values = Object.fromEntries(
      Object.entries(scalars).map(([name, size]) => [name, sizeOf(size, at)]),
    );
    device(kernelOf(kernel), { buffers, scalars: values, groups: sizeOf(grid, at) });
  }
  return memory;
}

/** A graph of one node. */
export function graphOf(node: Node, parts: Pick<Graph, "inputs" | "weights" | "values">): Graph {
  return {
    name: "one",
    ...parts,
    aliases: [],
    ignored: [],
    nodes: [node],
    outputs: [{ name: "out", value: node.out }],
    hidden: [],
  };
}

/** Numbers of no pattern between −1 and 1; the same for the same seed. */
export function noise(length: number, seed: number): Float32Array {
  let state = Math.imul(seed, 2654435761) + 12345;
  return Float32Array.from({ length }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) | 0;
    return (state >>> 8) / (1 << 23) - 1;
  });
}
