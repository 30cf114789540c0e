/** Inputs and weights of no pattern: the same for the same seed and name, whatever else is asked for. */
import type { Dim, Graph, Value } from "../../graph.ts";
import { rounding } from "../../storage.ts";

export type Extent = { readonly N: number; readonly B: number };
export type Tensor = Float32Array | Int32Array;

/** Uniform in [0, 1), from a seed and a name (mulberry32 from an FNV-1a hash). */
function uniform(seed: number, name: string): () => number {
  let state = 2166136261 ^ seed;
  for (let i = 0; i < name.length; i++) state = Math.imul(state ^ name.charCodeAt(i), 16777619);
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Normal with mean 0 and deviation 1. */
function normal(next: () => number): () => number {
  let spare: number | null = null;
  return () => {
    if (spare !== null) {
      const value = spare;
      spare = null;
      return value;
    }
    const radius = Math.sqrt(-2 * Math.log(1 - next()));
    const angle = 2 * Math.PI * next();
    spare = radius * Math.sin(angle);
    return radius * Math.cos(angle);
  };
}

/** Numbers in [0, 1) for choices. */
export const pickFrom = (seed: number): (() => number) => uniform(seed, "choices");

const sizeOf = (shape: readonly Dim[], at: Extent): number =>
  shape.reduce<number>((n, d) => n * (d === "N" ? at.N : d === "B" ? at.B : d), 1);

/** As a device stores it, so that the reference starts from the same numbers. */
const stored = (values: Float32Array, dtype: Value["dtype"]): Float32Array =>
  dtype === "f16" || dtype === "bf16" ? values.map(rounding[dtype]) : values;

/** Inputs by name: integers below `below(name)`, all else normal. */
export function randomInputs(
  graph: Graph,
  below: (name: string) => number,
  at: Extent,
  seed: number,
): ReadonlyMap<string, Tensor> {
  return new Map(
    graph.inputs.map(({ name, dtype, shape }): readonly [string, Tensor] => {
      const next = uniform(seed, `${graph.name} ${name} ${at.N} ${at.B}`);
      const length = sizeOf(shape, at);
      if (dtype === "i32") return [name, Int32Array.from({ length }, () => Math.floor(next() * below(name)))];
      const draw = normal(next);
      return [name, stored(Float32Array.from({ length }, draw), dtype)];
    }),
  );
}

/** Weights by checkpoint name, of a size that keeps values near 1 through every layer. */
export function randomWeights(graph: Graph, seed: number): ReadonlyMap<string, Float32Array> {
  return new Map(
    graph.weights.map(({ name, dtype, shape }) => {
      const draw = normal(uniform(seed, `${graph.name} ${name}`));
      const vector = shape.length === 1;
      const [middle, spread] = vector
        ? [name.endsWith(".weight") ? 1 : 0, 0.1]
        : [0, 1 / Math.sqrt(shape.at(-1) ?? 1)];
      const values = Float32Array.from(
        { length: sizeOf(shape, { N: 1, B: 1 }) },
        () => middle + spread * draw(),
      );
      return [name, stored(values, dtype)];
    }),
  );
}
