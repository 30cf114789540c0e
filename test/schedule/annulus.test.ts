/** The integer proof of schedule `annulus`: every pair as often as the Spec says, every row of a pass in one tile. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { readSpec } from "../../src/compile.ts";
import { countPairs, executedPairs } from "../../src/planner.ts";
import { legal } from "../../src/schedule.ts";
import type { AttentionSpec } from "../../src/spec.ts";
import { pairsOfAnnulus, pairsOfSpec, rowsOfSpec } from "./pairs.ts";
import { nestedSpec, randomSpec } from "./specs.ts";

const limits = { sharedBytes: 1 << 24, workgroup: 1, rowStep: 4, keyStep: 8 };
const difference = (a: ReadonlyMap<string, number>, b: ReadonlyMap<string, number>): string[] =>
  [...new Set([...a.keys(), ...b.keys()])].filter((k) => (a.get(k) ?? 0) !== (b.get(k) ?? 0)).slice(0, 3);

const lengths = fc.oneof(fc.integer({ min: 1, max: 40 }), fc.integer({ min: 41, max: 140 }));
const tileRows = fc.constantFrom(4, 4, 8, 12);

describe("annulus plans attend exactly the pairs of the Spec", () => {
  it.each([
    ["any specs", randomSpec({ maxSegment: 70 }), 2800, 1900],
    ["specs whose grids lie inside one another", nestedSpec({ maxSegment: 70 }), 3200, 3200],
  ] as const)("%s", (_, specs, numRuns, least) => {
    const seen = new Map<string, number>();
    let checked = 0;
    fc.assert(
      fc.property(specs, lengths, tileRows, (spec, N, rows) => {
        if (!legal(spec, { kind: "annulus", rows, keys: 8 }, limits, N).ok) {
          expect(spec.combine).toBe("mean");
          return;
        }
        checked += 1;
        const [plan, meant] = [pairsOfAnnulus(spec, N, rows), pairsOfSpec(spec, N)];
        expect(difference(plan.counts, meant.counts)).toEqual([]);
        expect(difference(plan.rows, meant.rows)).toEqual([]);
        // No two tiles of a launch write the same row, and none is left out.
        rowsOfSpec(spec, N).forEach((rowsOfBranch, b) => {
          const written = plan.written.get(b) ?? new Map<string, number>();
          expect(written.size).toBe(rowsOfBranch.size);
          expect([...written].filter(([row, times]) => times !== 1 || !rowsOfBranch.has(row))).toEqual([]);
        });
        for (const part of plan.seen) seen.set(part, (seen.get(part) ?? 0) + 1);
      }),
      { numRuns },
    );
    console.log(`annulus, ${checked} plans: ${JSON.stringify([...seen])}`);
    expect(checked).toBeGreaterThanOrEqual(least);
    for (const part of ["child", "folded", "threefold", "crossing", "cut", "idle"])
      expect(seen.get(part), part).toBeGreaterThan(50);
  });
});

const attentionOf = (text: string): AttentionSpec => {
  const found = readSpec(`attention a { ${text} }`).spec?.attentions[0];
  if (found === undefined) throw new Error("the spec is wrong");
  return found;
};
const longnet =
  "heads 12 head_dim 64 branches segments [2048, 4096, 8192, 16384, 32768] dilations [1, 2, 4, 6, 12]";
const gigapath =
  "heads 16 head_dim 48 branches segments [1024, 5792, 32768, 185363, 1048576] dilations [1, 2, 4, 8, 16]";
const paper = "offset head % dilation";
const torchscale = "compat torchscale";

describe("tiles of 128 × 128 compute few pairs for each that the Spec has", () => {
  it.each([
    ["LongNet", 32768, `${longnet} ${paper}`, 0.8],
    ["LongNet, causal", 32768, `${longnet} ${paper} causal true`, 0.83],
    ["LongNet, torchscale", 32768, `${longnet} ${torchscale}`, 0.84],
    ["LongNet, torchscale, causal", 32768, `${longnet} ${torchscale} causal true`, 0.88],
    ["GigaPath", 10000, `${gigapath} ${torchscale}`, 0.9],
    ["GigaPath, its grids nested", 10000, `${gigapath} ${paper}`, 0.82],
    ["GigaPath", 65536, `${gigapath} ${torchscale}`, 0.92],
  ] as const)("%s at %i", (_, N, text, most) => {
    const spec = attentionOf(text);
    const work = executedPairs(spec, { kind: "annulus", rows: 128, keys: 128 }, N);
    expect(work / Number(countPairs(spec, N).total)).toBeLessThanOrEqual(most);
  });
});

it("says why it cannot be used", () => {
  const why = (text: string) => {
    const found = legal(attentionOf(text), { kind: "annulus", rows: 16, keys: 16 }, limits, 64);
    return found.ok ? "" : found.why;
  };
  const two = "heads 2 head_dim 8 branch segment 16 dilation 1 branch segment 32 dilation 2";
  expect(why(two)).toBe("");
  expect(why(`${two} combine mean`)).toContain("'combine mean' weighs each branch by itself");
  expect(why("heads 1 head_dim 8 branch i in 1..17 { segment 16 * i dilation 1 }")).toBe(
    "17 branches exceed 16 passes",
  );
});
