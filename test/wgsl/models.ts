/** Random small models for property tests: all that `src/check` accepts of heads, widths, norms, positions and inputs. */
import fc from "fast-check";
import { seal, type ModelShape, type ModelSpec } from "../../src/spec.ts";
import { randomSpec } from "../schedule/specs.ts";

/** Widths that are and are not multiples of four, of a tile, of a group's lanes. */
const width = fc.constantFrom(4, 6, 8, 12, 24, 30, 32, 48, 64, 65, 96);

export const randomModel: fc.Arbitrary<ModelSpec> = fc
  .record({
    attention: randomSpec({ maxSegment: 64, maxBranches: 3, headDims: [4, 6, 8, 16] }),
    kind: fc.constantFrom("decoder" as const, "encoder" as const),
    input: fc.constantFrom("tokens" as const, "tokens" as const, "features" as const),
    vocab: fc.constantFrom(5, 16, 67, 128),
    dim: width,
    layers: fc.integer({ min: 1, max: 2 }),
    ffn: width,
    activation: fc.constantFrom("gelu" as const, "relu" as const, "swish" as const),
    norm: fc.constantFrom("sub_ln" as const, "pre_ln" as const, "post_ln" as const, "deepnorm" as const),
    place: fc.constantFrom("xpos" as const, "learned" as const, "none" as const),
    embedScale: fc.constantFrom(1, 8),
    embedNorm: fc.boolean(),
    head: fc.constantFrom("separate" as const, "tied" as const, "none" as const),
    finalNorm: fc.boolean(),
    patchEmbed: fc.constantFrom(null, 12, 33),
    classToken: fc.boolean(),
    pool: fc.constantFrom("none" as const, "class" as const, "mean" as const),
    states: fc.boolean(),
    classes: fc.constantFrom(0, 3),
    checkpoint: fc.constantFrom("torchscale" as const, "gigapath" as const, "longvit" as const),
    grid: fc.boolean(),
    dtype: fc.constantFrom("f32" as const, "f32" as const, "f16" as const, "bf16" as const),
  })
  .map(({ attention, ffn, activation, place, dtype, states, classes, ...m }): ModelSpec => {
    const causal = m.kind === "decoder";
    const slide = m.kind === "encoder" && m.input === "features";
    const of = m.pool === "class" && !m.classToken ? "mean" : m.pool;
    const pool = m.kind === "decoder" || of === "none" ? null : { of, eps: 1e-6, states, classes };
    const head = pool !== null ? "none" : m.head === "tied" && m.input === "features" ? "separate" : m.head;
    return seal<ModelShape>({
      ...m,
      name: "random_model",
      head,
      vocab: m.input === "features" && head === "none" ? 0 : m.vocab,
      ffn: { dim: ffn, activation },
      attention: seal({ ...attention, name: "random_attention", causal, dtype }),
      xpos: place === "xpos" ? { base: 512 } : null,
      positions: place === "learned" ? { rows: 300 } : null,
      eps: 1e-5,
      patchEmbed: m.input === "features" ? m.patchEmbed : null,
      grid: slide && m.grid && m.dim % 4 === 0 ? { cells: 50, tile: 256 } : null,
      classToken: m.kind === "encoder" && m.classToken,
      pool,
      checkpoint: slide ? m.checkpoint : "torchscale",
    });
  });

/** Tokens that a model needs: the mean of all but a class token is one of at least one. */
export const atLeast = ({ classToken, pool }: ModelSpec, N: number): number =>
  classToken && pool?.of === "mean" ? Math.max(2, N) : N;
