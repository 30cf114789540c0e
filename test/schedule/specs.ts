/** Random attention specs for property tests. */
import fc from "fast-check";
import { seal, type AttentionShape, type AttentionSpec, type Branch } from "../../src/spec.ts";

export type SpecLimits = {
  readonly maxSegment?: number;
  readonly maxDilation?: number;
  readonly maxBranches?: number;
  readonly headDims?: readonly number[];
};

const table = (branches: number, heads: number, dilations: readonly number[]) =>
  fc.tuple(
    ...Array.from({ length: branches }, (_, b) =>
      fc.array(fc.integer({ min: 0, max: (dilations[b] ?? 1) - 1 }), { minLength: heads, maxLength: heads }),
    ),
  );

/** 1–6 branches, dilations up to 17, segments that need not be multiples, all offset rules, paddings, alignments and combines. */
export const randomSpec = (limits: SpecLimits = {}): fc.Arbitrary<AttentionSpec> => {
  const maxSegment = limits.maxSegment ?? 96;
  const branch = fc
    .tuple(
      fc.oneof(
        { weight: 4, arbitrary: fc.integer({ min: 1, max: maxSegment }) },
        {
          weight: 3,
          arbitrary: fc.constantFrom(8, 16, 32, 64, 12, 24, 48, 96).filter((w) => w <= maxSegment),
        },
        { weight: 1, arbitrary: fc.constant(Infinity) },
      ),
      fc.oneof(fc.constantFrom(1, 1, 2, 4, 3, 6, 8), fc.integer({ min: 1, max: limits.maxDilation ?? 17 })),
    )
    .map(([segment, dilation]) => ({ segment, dilation: Math.min(dilation, segment) }));
  return fc
    .record({
      branches: fc.oneof(
        { weight: 8, arbitrary: fc.array(branch, { minLength: 1, maxLength: limits.maxBranches ?? 6 }) },
        {
          weight: 1,
          arbitrary: fc.constant<{ segment: number; dilation: number }[]>([
            { segment: Infinity, dilation: 1 },
          ]),
        },
      ),
      groups: fc.integer({ min: 1, max: 3 }),
      kvHeads: fc.integer({ min: 1, max: 3 }),
      headDim: fc.constantFrom(...(limits.headDims ?? [4, 6, 8, 16])),
      causal: fc.boolean(),
      padding: fc.constantFrom("masked" as const, "zero" as const),
      align: fc.constantFrom("segment" as const, "ceil" as const),
      combine: fc.constantFrom("softmax" as const, "softmax" as const, "softmax" as const, "mean" as const),
      rule: fc.constantFrom("modulo", "block", "random"),
    })
    .chain((s) => {
      const heads = s.groups * s.kvHeads;
      const dilations = s.branches.map((b) => b.dilation);
      const offsets =
        s.rule === "random"
          ? table(s.branches.length, heads, dilations)
          : fc.constant(
              dilations.map((r) =>
                Array.from({ length: heads }, (_, h) =>
                  s.rule === "modulo" ? h % r : Math.floor(h / Math.ceil(heads / r)),
                ),
              ),
            );
      return offsets.map((rows): AttentionSpec =>
        seal<AttentionShape>({
          name: "random",
          heads,
          headDim: s.headDim,
          kvHeads: s.kvHeads,
          causal: s.causal,
          branches: s.branches,
          offsets: rows,
          padding: s.padding,
          align: s.align,
          combine: s.combine,
          gradient: "full",
          scale: 1 / Math.sqrt(s.headDim),
          dtype: "f32",
        }),
      );
    });
};

/** Dilations that divide one another along chains and trees. */
const families: readonly (readonly number[])[] = [
  [1, 2, 4, 8],
  [1, 2, 4, 6, 12],
  [1, 1, 2, 2, 4],
  [2, 4, 8, 12],
  [1, 3, 6, 2, 12],
];

/**
 * Specs on which schedules that share pairs have much to share: grids inside one another, segments that mostly begin where the grids
 * of smaller dilations do, and some that do not, like GigaPath's 5792.
 */
export const nestedSpec = (limits: SpecLimits = {}): fc.Arbitrary<AttentionSpec> => {
  const most = limits.maxSegment ?? 96;
  const branch = (dilation: number) =>
    fc
      .oneof(
        { weight: 4, arbitrary: fc.integer({ min: 1, max: 8 }).map((n) => n * dilation) },
        { weight: 4, arbitrary: fc.integer({ min: 1, max: 8 }).map((n) => n * 12) },
        { weight: 2, arbitrary: fc.integer({ min: dilation, max: most }) },
        { weight: 1, arbitrary: fc.constant(Infinity) },
      )
      .map((w) => (w === Infinity ? w : Math.max(dilation, Math.min(w, most))))
      .map((segment): Branch => ({ segment, dilation }));
  const branches = fc
    .constantFrom(...families)
    .chain((all) => fc.shuffledSubarray([...all], { minLength: 2 }))
    .chain((some) => fc.tuple(...some.map(branch)));
  const rest = randomSpec({ ...limits, maxBranches: 1 });
  return fc.record({ branches, rest, rule: fc.constantFrom("modulo", "modulo", "block") }).map((s) => {
    const { heads } = s.rest;
    const offset = (h: number, r: number) =>
      s.rule === "modulo" ? h % r : Math.floor(h / Math.ceil(heads / r));
    return seal<AttentionShape>({
      ...s.rest,
      combine: "softmax",
      branches: s.branches,
      offsets: s.branches.map(({ dilation }) => Array.from({ length: heads }, (_, h) => offset(h, dilation))),
    });
  });
};
