/** The plan of schedule `annulus_list`: asked for by a spec, two steps, and exactly the memory that its parts take. */
import { describe, expect, it } from "vitest";
import { arenaBytes } from "../../codegen/plan.ts";
import { compileSpec, readSpec } from "../../src/compile.ts";
import type { Step } from "../../runtime/plan.ts";
import { verifyPlan } from "../../src/verify/plan.ts";
import { rowsOfSpec } from "../schedule/pairs.ts";

const program = (text: string) => {
  const { spec, diagnostics } = readSpec(text);
  if (spec === null) throw new Error(diagnostics.map((d) => d.message).join("\n"));
  const [attention] = spec.attentions;
  const [compiled] = compileSpec(spec, { target: "cuda" });
  if (attention === undefined || compiled === undefined) throw new Error("nothing was compiled");
  return { attention, plan: compiled.program.plan };
};

describe("a plan with one list", () => {
  it.each([
    ["segments of whole dilations", "branches segments [32, 64, 96] dilations [1, 2, 4]", "f32"],
    // 45 is no multiple of 6: its rows begin anew in each segment. Six heads, so that some head has the most rows of any.
    ["segments that are none", "branches segments [20, 45, 64] dilations [1, 6, 4]", "bf16"],
    ["no branch with every row", "branch segment 50 dilation 3 branch segment all dilation 4", "f16"],
  ])("%s: words for one row of headDim and one lse of each row of each branch", (_, branches, dtype) => {
    const text = `attention a { heads 6 head_dim 16 dtype ${dtype} ${branches} }
schedule a on cuda { kind annulus_list rows 16 keys 16 }`;
    const { attention, plan } = program(text);
    expect(plan.variants.map((v) => v.schedule)).toEqual(["annulus_list 16x16"]);
    const [variant] = plan.variants;
    if (variant === undefined) throw new Error("no variant");
    expect(variant.steps.map((s) => s.title)).toEqual(["a: all branches, longest tiles first", "a: merge"]);
    for (const N of [1, 5, 44, 45, 46, 64, 97, 200, 333])
      for (const B of [1, 3]) {
        const most = rowsOfSpec(attention, N).reduce((sum, rows) => {
          const heads = Array.from(
            { length: 6 },
            (_h, h) => [...rows].filter((r) => r.startsWith(`${h} `)).length,
          );
          return sum + Math.max(...heads);
        }, 0);
        expect([N, B, arenaBytes(variant, { N, B })]).toEqual([N, B, 4 * B * 6 * most * (16 + 1)]);
      }
  });

  it("does not verify where parts are merged before they are there, or the merge is left out", () => {
    const text = "attention a { heads 2 head_dim 16 branches segments [32, 64] dilations [1, 2] }";
    const { plan } = program(`${text} schedule a on cuda { kind annulus_list rows 16 keys 16 }`);
    expect(verifyPlan(plan)).toEqual([]);
    const [variant] = plan.variants;
    const [list, merge] = variant?.steps ?? [];
    if (variant === undefined || list === undefined || merge === undefined) throw new Error("no steps");
    const problems = (steps: readonly Step[]) => verifyPlan({ ...plan, variants: [{ ...variant, steps }] });
    expect(problems([merge, list]).join()).toMatch(
      /'a: merge': reads slot \d, which no step before has written/,
    );
    expect(problems([list])).toEqual([
      "variant 0: no step writes output 'out'",
      "variant 0: no step writes output 'lse'",
    ]);
  });

  it("is refused where rows of a tile of the merge would be too far apart", () => {
    const branches = "branches segments [64, 64, 64, 64] dilations [1, 7, 9, 11]";
    const text = `attention a { heads 1 head_dim 16 ${branches} } schedule a on cuda { kind annulus_list }`;
    expect(() => program(text)).toThrow(/least common multiple, 693, which exceeds 512; use 'annulus'/);
  });
});
