/** The integer proof: pairs and multiplicities of a plan equal those of the Spec, with the geometry that the kernels run. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { legal } from "../../src/schedule.ts";
import { countPairs } from "../../src/planner.ts";
import { difference, pairsOfBranch, pairsOfClass, pairsOfSpec } from "./pairs.ts";
import { randomSpec } from "./specs.ts";

const limits = { sharedBytes: 1 << 24, workgroup: 1, rowStep: 4, keyStep: 8 };
const lengths = fc.oneof(fc.integer({ min: 1, max: 40 }), fc.integer({ min: 41, max: 140 }));
const tileRows = fc.constantFrom(4, 8, 32);

describe("plans attend exactly the pairs of the Spec", () => {
  it("branch, over 3000 random specs and lengths", () => {
    fc.assert(
      fc.property(randomSpec({ maxSegment: 70 }), lengths, tileRows, (spec, N, rows) => {
        const [plan, meant] = [pairsOfBranch(spec, N, rows), pairsOfSpec(spec, N)];
        expect(difference(plan.counts, meant.counts)).toEqual([]);
        expect(difference(plan.rows, meant.rows)).toEqual([]);
      }),
      { numRuns: 3000 },
    );
  });

  it("class, over 3000 random specs and lengths where it is legal; every row is written once", () => {
    let checked = 0;
    fc.assert(
      fc.property(randomSpec({ maxSegment: 70 }), lengths, tileRows, (spec, N, rows) => {
        if (!legal(spec, { kind: "class", rows, keys: 8 }, limits, N).ok) return;
        checked += 1;
        const [plan, meant] = [pairsOfClass(spec, N, rows), pairsOfSpec(spec, N)];
        expect(difference(plan.counts, meant.counts)).toEqual([]);
        expect(difference(plan.rows, meant.rows)).toEqual([]);
        expect(plan.written.size).toBe(spec.heads * N);
        expect([...plan.written.values()].every((times) => times === 1)).toBe(true);
      }),
      { numRuns: 4000 },
    );
    expect(checked).toBeGreaterThan(1000);
  });

  it("counts pairs in closed form", () => {
    fc.assert(
      fc.property(randomSpec({ maxSegment: 70 }), lengths, (drawn, N) => {
        const spec = { ...drawn, align: "segment" as const };
        let sum = 0;
        for (const count of pairsOfSpec(spec, N).counts.values()) sum += count;
        expect(countPairs(spec, N).total).toBe(BigInt(sum));
      }),
      { numRuns: 300 },
    );
  });
});
