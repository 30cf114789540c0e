/**
 * The kernels that keep, move and read the cache on the interpreter of the kernel IR: whatever leaves its bounds, reads what nobody wrote,
 * or meets another lane's or group's writes is an error; and what they compute is what the f64 cache says.
 */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { distribute } from "../../codegen/distribute.ts";
import { lower } from "../../codegen/lower/index.ts";
import { CPU_TILINGS } from "../../codegen/lower/tilings.ts";
import type { Tilings } from "../../codegen/lower/tilings.ts";
import { simd } from "../../codegen/machine/simd.ts";
import { simt } from "../../codegen/machine/simt.ts";
import { GPU_TILINGS } from "../../codegen/wgsl/target.ts";
import { sizeOf } from "../../runtime/plan.ts";
import type { Graph, Node } from "../../src/graph.ts";
import { interpret } from "../../src/interpret.ts";
import type { Kernel, TileKernel } from "../../src/kernel.ts";
import { cacheElements, decodeToken, promote, referenceCache, remember } from "../../src/reference/decode.ts";
import { reachOf } from "../../src/decode/reach.ts";
import { seal, type AttentionShape, type AttentionSpec } from "../../src/spec.ts";
import { verified, verifiedTiles } from "../../src/verify.ts";
import { normal } from "../attention/run.ts";
import { nestedSpec, randomSpec } from "../schedule/specs.ts";

type Values = { readonly [name: string]: Float32Array | Int32Array };

const graphOf = (spec: AttentionSpec): Graph => {
  const row = (id: string, heads: number) =>
    ({ id, name: id, dtype: "f32", shape: ["B", 1, heads * spec.headDim] }) as const;
  const inputs = [row("q", spec.heads), row("k", spec.kvHeads), row("v", spec.kvHeads)];
  return {
    name: "decode",
    inputs: [...inputs, { id: "place", name: "place", dtype: "i32", shape: [3, "B"] }],
    weights: [],
    aliases: [],
    ignored: [],
    values: [row("out", spec.heads)],
    nodes: [],
    outputs: [],
    hidden: [],
    states: [{ id: "cache", dtype: "f32", elements: 1, perToken: 1 }],
  };
};

/** Runs a node's launches on the interpreter. */
function interpreted(
  node: Node,
  graph: Graph,
  machine: (kernel: TileKernel) => Kernel,
  tilings: Tilings,
  values: Values,
  at: { readonly N: number; readonly B: number },
): void {
  const none = () => {
    throw new Error("nothing here has a schedule");
  };
  const between = new Map<string, Float32Array>();
  for (const { kernel, bind, scalars, grid, temporaries = [] } of lower(node, graph, none, tilings)) {
    for (const { id, shape } of temporaries)
      if (!between.has(id)) {
        const size = shape.reduce<number>((n, d) => n * (d === "B" ? at.B : d === "N" ? at.N : d), 1);
        between.set(id, new Float32Array(size).fill(NaN));
      }
    const known = made.get(machine) ?? new Map<string, Kernel>();
    made.set(machine, known);
    const key = JSON.stringify(kernel);
    const ready = known.get(key) ?? verified(machine(verifiedTiles(kernel)));
    known.set(key, ready);
    const buffers = Object.entries(bind).map(([name, b]) => {
      const found = "value" in b ? (values[b.value] ?? between.get(b.value)) : undefined;
      if (found === undefined) throw new Error(`nothing is bound to ${name}`);
      return [name, found] as const;
    });
    const groups = sizeOf(grid, at);
    if (groups > 0)
      interpret(ready, {
        buffers: Object.fromEntries(buffers),
        scalars: Object.fromEntries(Object.entries(scalars).map(([name, size]) => [name, sizeOf(size, at)])),
        groups,
      });
  }
}
const made = new Map<(kernel: TileKernel) => Kernel, Map<string, Kernel>>();

/** More groups than keys at times, so that some have none. */
const parts = ({ combine, branches }: AttentionSpec) => (combine === "mean" && branches.length > 1 ? 1 : 3);
const machines: readonly (readonly [string, (kernel: TileKernel) => Kernel, Tilings])[] = [
  ["simd", distribute(simd), CPU_TILINGS],
  ["simt", simt({ lanes: 16, sharedBytes: 16384 }), GPU_TILINGS],
  ["simt with exchange", simt({ lanes: 64, sharedBytes: 16384, exchange: true }), GPU_TILINGS],
  ["simd, split", distribute(simd), { ...CPU_TILINGS, decodeParts: parts, decodeKeys: () => 2 }],
  [
    "simt, split",
    simt({ lanes: 16, sharedBytes: 16384, exchange: true }),
    { ...GPU_TILINGS, decodeParts: parts, decodeKeys: () => 4 },
  ],
];

const causal: fc.Arbitrary<AttentionSpec> = fc
  .oneof(randomSpec({ maxSegment: 12, headDims: [4, 6] }), nestedSpec({ maxSegment: 24, headDims: [4] }))
  .map((spec) => seal<AttentionShape>({ ...spec, causal: true }));

describe.each(machines)("on %s", (_, machine, tilings) => {
  it("prompts, moves and steps of random specs are those of the f64 cache", () => {
    let [worst, steps] = [0, 0];
    fc.assert(
      fc.property(causal, fc.integer({ min: 0, max: 1e6 }), fc.boolean(), (spec, seed, fades) => {
        const capacity = Math.min(48, reachOf(spec).tokens);
        const B = 2;
        const { heads, kvHeads, headDim } = spec;
        const decay = fades && headDim % 2 === 0 ? { base: 8, block: 4 } : undefined;
        const [wide, narrow] = [heads * headDim, kvHeads * headDim];
        const graph = graphOf(spec);
        const cache = new Float32Array(cacheElements(spec, B, capacity)).fill(NaN);
        const meant = referenceCache(spec, { lanes: B, capacity }, decay);
        // The second lane has the first prompt, and the other way round.
        const prompts = [Math.floor(capacity / 2), Math.max(1, capacity - 14)];
        prompts.forEach((N, b) => {
          const [k, v] = [normal(N * narrow, seed + b), normal(N * narrow, seed + b + 5)];
          const place = Int32Array.of(0, 1 - b, capacity);
          const node: Node = { op: "remember", out: "cache", k: "k", v: "v", place: "place", spec };
          interpreted(node, graph, machine, tilings, { k, v, place, cache }, { N, B: 1 });
          remember(meant, 1 - b, Float64Array.from(k), Float64Array.from(v), N);
        });
        for (let i = 0; i < 12; i++) {
          const at = prompts.map((n) => Math.min(n + i, capacity - 1));
          // What has no room any more is left out.
          if (prompts.some((n) => n + i >= capacity)) break;
          const place = Int32Array.of(...at, 1, 0, capacity, capacity);
          const [q, k, v] = [wide, narrow, narrow].map((w, j) => normal(B * w, seed + 100 * i + j));
          if (q === undefined || k === undefined || v === undefined) return;
          const out = new Float32Array(B * wide).fill(NaN);
          const values = { q, k, v, place, cache, out };
          const move: Node = { op: "promote", out: "cache", place: "place", spec };
          interpreted(move, graph, machine, tilings, values, { N: 1, B });
          const fade = decay === undefined ? {} : { decay };
          const node: Node = {
            op: "decode",
            out: "out",
            q: "q",
            k: "k",
            v: "v",
            place: "place",
            state: "cache",
            spec,
            ...fade,
          };
          interpreted(node, graph, machine, tilings, values, { N: 1, B });
          for (let b = 0; b < B; b++) {
            const part = (x: Float32Array) =>
              Float64Array.from(x.slice((b * x.length) / B, ((b + 1) * x.length) / B));
            promote(meant, 1 - b, at[b] ?? 0);
            const { out: expected } = decodeToken(meant, 1 - b, at[b] ?? 0, {
              q: part(q),
              k: part(k),
              v: part(v),
            });
            expected.forEach((x, d) => {
              const error = Math.abs((out[b * wide + d] ?? NaN) - x);
              worst = Math.max(worst, Number.isNaN(error) ? Infinity : error);
            });
          }
          steps++;
          expect(worst).toBeLessThan(1e-5);
        }
      }),
      { numRuns: 40, seed: 9 },
    );
    console.log(`${steps} steps on the interpreter, largest difference ${worst.toExponential(1)}`);
    expect(steps).toBeGreaterThan(200);
  });
});
