/** The integer proof of schedule `annulus`: every pair as often as the Spec says, every row of a pass in one tile. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { legal } from "../../src/schedule.ts";
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
