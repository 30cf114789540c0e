/** The integer proof of schedules `annulus` and `annulus_list`: every pair as often as the Spec says, every row of a pass in one tile. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { readSpec } from "../../src/compile.ts";
import { sizeOf } from "../../runtime/plan.ts";
import { listTurn, numbers, partBase, sizes } from "../../src/geometry.ts";
import { countPairs, executedPairs, listPassesAt } from "../../src/planner.ts";
import { launchesOf } from "../../src/planner/grid.ts";
import { legal } from "../../src/schedule.ts";
import type { AttentionSpec } from "../../src/spec.ts";
import { difference, pairsOfAnnulus, pairsOfList, pairsOfSpec, rowsOfSpec } from "./pairs.ts";
import { nestedSpec, randomSpec } from "./specs.ts";

const limits = { sharedBytes: 1 << 24, workgroup: 1, rowStep: 4, keyStep: 8 };
const lengths = fc.oneof(fc.integer({ min: 1, max: 40 }), fc.integer({ min: 41, max: 140 }));
const tileRows = fc.constantFrom(4, 4, 8, 12);

const proven = { annulus: 0, annulus_list: 0 };

describe("annulus plans attend exactly the pairs of the Spec", () => {
  it.each([
    ["any specs", randomSpec({ maxSegment: 70 }), 3000],
    ["specs whose grids lie inside one another", nestedSpec({ maxSegment: 70 }), 3300],
  ] as const)("%s", (_, specs, numRuns) => {
    const seen = new Map<string, number>();
    const sequences = fc.constantFrom(1, 1, 1, 2);
    fc.assert(
      fc.property(specs, lengths, tileRows, sequences, (spec, N, rows, B) => {
        const verdict = legal(spec, { kind: "annulus", rows, keys: 8 }, limits, N);
        if (!verdict.ok) {
          expect(spec.combine).toBe("mean");
          return;
        }
        proven.annulus += 1;
        const [plan, meant] = [pairsOfAnnulus(spec, N, rows), pairsOfSpec(spec, N)];
        const covered = rowsOfSpec(spec, N);
        expect(difference(plan.counts, meant.counts)).toEqual([]);
        expect(difference(plan.rows, meant.rows)).toEqual([]);
        // No two tiles of a launch write the same row, and none is left out.
        covered.forEach((rowsOfBranch, b) => {
          const written = plan.written.get(b) ?? new Map<string, number>();
          expect(written.size).toBe(rowsOfBranch.size);
          expect([...written].filter(([row, times]) => times !== 1 || !rowsOfBranch.has(row))).toEqual([]);
        });
        for (const part of plan.seen) seen.set(part, (seen.get(part) ?? 0) + 1);

        const listed = legal(spec, { kind: "annulus_list", rows, keys: 8 }, limits, N);
        if (!listed.ok) {
          expect(listed.why).toMatch(/least common multiple, \d+, which exceeds 512/);
          return;
        }
        proven.annulus_list += 1;
        const at = { N, B };
        const list = pairsOfList(spec, at, listed.schedule);
        expect(difference(list.counts, meant.counts)).toEqual([]);
        expect(difference(list.rows, meant.rows)).toEqual([]);
        // Each row of each branch is left once, at a place of its own, from where the merge takes it once for the same row.
        expect(list.written.size).toBe(B * covered.reduce((sum, { size }) => sum + size, 0));
        const astray = [...list.written].filter(
          ([place, left]) => left.length !== 1 || list.read.get(place)?.join() !== left.join(),
        );
        expect(astray).toEqual([]);
        expect(list.read.size).toBe(list.written.size);
        // The merge writes each row of the result once.
        expect(list.merged.size).toBe(B * spec.heads * N);
        expect([...list.merged].filter(([, times]) => times !== 1)).toEqual([]);
        // Places lie within what the plan sets aside for a head of a sequence, no more than a row of each segment above what is there.
        const room = partBase(numbers(spec), spec, spec.branches.length, N);
        const places = [...list.written.keys()].map((key) => Number(key.split(" ")[2]));
        expect(Math.max(-1, ...places)).toBeLessThan(room);
        expect(sizeOf(partBase(sizes, spec, spec.branches.length, "N"), at)).toBe(room);
        const segments = spec.branches.reduce(
          (sum, { segment }) => sum + Math.ceil(N / Math.min(segment, N)),
          0,
        );
        expect(B * spec.heads * (room - segments)).toBeLessThanOrEqual(list.written.size);
        // A pass is not come back to.
        const turns = list.passes.filter((pass, i) => i === 0 || pass !== list.passes[i - 1]);
        expect(new Set(turns).size).toBe(turns.length);
      }),
      { numRuns },
    );
    console.log(`${JSON.stringify(proven)} plans so far: ${JSON.stringify([...seen])}`);
    for (const part of ["child", "folded", "threefold", "crossing", "cut", "idle"])
      expect(seen.get(part), part).toBeGreaterThan(50);
  });

  it("for five thousand specs of each form", () => {
    expect(proven.annulus).toBeGreaterThanOrEqual(5000);
    expect(proven.annulus_list).toBeGreaterThanOrEqual(5000);
  });
});

/** When the last of so many processors ends, each of which takes the next tile when it has done one. */
function makespan(lengths: readonly number[], processors: number): number {
  const ends = new Float64Array(processors);
  for (const length of lengths) {
    let next = 0;
    for (let p = 1; p < processors; p++) if ((ends[p] ?? 0) < (ends[next] ?? 0)) next = p;
    ends[next] = (ends[next] ?? 0) + length;
  }
  return Math.max(...ends);
}

describe("the list ends on 264 processors nearly when one sorted to its last tile would, and sooner than launches in a chain", () => {
  it.each([
    ["LongNet", 32768, false, 1.01],
    ["LongNet", 32768, true, 1.03],
    ["GigaPath", 10000, false, 1.01],
    ["GigaPath", 10000, true, 1.09],
    ["GigaPath", 65536, true, 1.01],
  ] as const)("%s at %i, causal %s", (name, N, causal, most) => {
    const spec = attentionOf(`${name === "LongNet" ? longnet : gigapath} ${torchscale} causal ${causal}`);
    const choice = { rows: 128, keys: 128 };
    const lengthsOf = (kind: "annulus" | "annulus_list") =>
      launchesOf(spec, { kind, ...choice }, N).map(({ groups, of }) =>
        Array.from({ length: groups }, (_, g) => of(g).keyTiles),
      );
    const [list = []] = lengthsOf("annulus_list");
    const sorted = makespan(
      [...list].sort((a, b) => b - a),
      264,
    );
    const chain = lengthsOf("annulus").reduce((sum, lengths) => sum + makespan(lengths, 264), 0);
    const of = [makespan(list, 264), chain].map((end) => (end / sorted).toFixed(3));
    console.log(`${name} ${N}${causal ? " causal" : ""}, of one sorted: list ${of[0]}, chain ${of[1]}`);
    expect(makespan(list, 264)).toBeLessThan(most * sorted);
    expect(makespan(list, 264)).toBeLessThan(chain);

    const passes = listPassesAt(spec, choice, { N, B: 1 });
    const byPass = new Map<number, number[]>();
    list.forEach((tiles, group) => {
      const { pass } = listTurn(numbers(spec), spec, { group, sequences: spec.heads, passes });
      const known = byPass.get(pass);
      if (known === undefined) byPass.set(pass, [tiles]);
      else known.push(tiles);
    });
    // Counted, not by the formula: a range of keys that begins or ends inside a tile makes one tile more.
    const longest = [...byPass.values()].map((tiles) => Math.max(...tiles));
    longest.slice(1).forEach((tiles, p) => expect(tiles).toBeLessThanOrEqual((longest[p] ?? 0) + 1));
    // The half of a causal pass that runs first has the longer tiles.
    const sum = (tiles: readonly number[]) => tiles.reduce((x, y) => x + y, 0);
    for (const tiles of byPass.values()) {
      const half = Math.floor(tiles.length / 2);
      if (causal && sum(tiles) > 0)
        expect(sum(tiles.slice(0, half))).toBeGreaterThan(1.1 * sum(tiles.slice(tiles.length - half)));
    }
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
    for (const kind of ["annulus", "annulus_list"] as const) {
      const work = executedPairs(spec, { kind, rows: 128, keys: 128 }, N);
      expect(work / Number(countPairs(spec, N).total), kind).toBeLessThanOrEqual(most);
    }
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
