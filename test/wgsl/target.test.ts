/** What the planner believes of WebGPU, held to what the machine makes: workgroup storage for every head width. */
import { describe, expect, it } from "vitest";
import { MOST_LANES, WGSL_VARIANTS, wgslTarget } from "../../codegen/wgsl/target.ts";
import { compileSpec, readSpec } from "../../src/compile.ts";
import { choose } from "../../src/planner.ts";
import type { ScheduleKind } from "../../src/schedule.ts";

const compiled = (headDim: number, schedule: ScheduleKind) => {
  const { spec } = readSpec(`attention wide { heads 2 head_dim ${headDim} causal true
  branch segment 16 dilation 1 branch segment 32 dilation 2 compat torchscale }`);
  const [found] = spec === null ? [] : compileSpec(spec, { target: "wgsl", schedule });
  const attention = spec?.attentions[0];
  if (found === undefined || attention === undefined) throw new Error("a valid spec");
  const variants = (found.program.webgpu ?? []).map(({ plan }, v) => {
    const limits = WGSL_VARIANTS[v];
    if (limits === undefined) throw new Error(`no variant ${v}`);
    return { kernels: plan.kernels, target: wgslTarget(limits) };
  });
  return { attention, variants };
};

describe("an attention of any head width", () => {
  // Around fours, powers of two, and the widths of published models.
  it.each([1, 2, 3, 4, 5, 7, 8, 16, 31, 32, 48, 64, 80, 96, 128, 160, 192, 256, 257, 320, 512, 513, 768])(
    "%i fits on every device",
    (headDim) => {
      for (const kind of [
        "branch",
        "class",
        ...(headDim === 128 || headDim === 768 ? ["annulus_list" as const] : []),
      ] as const) {
        const { attention, variants } = compiled(headDim, kind);
        expect(variants.length).toBeGreaterThan(1);
        for (const { kernels, target } of variants) {
          for (const { entry, sharedBytes, workgroup } of kernels) {
            expect(sharedBytes, entry).toBeLessThanOrEqual(16384);
            expect(workgroup, entry).toBeLessThanOrEqual(MOST_LANES);
          }
          const sizes = kernels.map(({ entry }) => /(\d+)x(\d+)/.exec(entry)).find((found) => found !== null);
          const [, rows, keys] = sizes ?? [];
          const choice = { kind, rows: Number(rows), keys: Number(keys) };
          const declared = Math.max(...kernels.map((k) => k.sharedBytes));
          expect(target.limits.attentionBytes?.(attention, choice), JSON.stringify(choice)).toBe(declared);
        }
      }
    },
  );

  it("or is refused with numbers", () => {
    for (const kind of ["branch", "class"] as const)
      expect(() => compiled(1024, kind)).toThrow(
        /cannot compute attention 'wide': tiles of 4 rows × 4 keys need \d+ bytes, the target has 16384/,
      );
  });
});

describe("an attention of very many heads and branches", () => {
  const spec = (heads: number, branches: number) =>
    readSpec(`attention many { heads ${heads} head_dim 8 causal true
      ${Array.from({ length: branches }, (_, i) => `branch segment ${3 * 2 ** (i + 2)} dilation ${i + 1}`).join("\n")}
      offset head % dilation }`).spec;
  const compile = (heads: number, branches: number, schedule?: ScheduleKind) => {
    const found = spec(heads, branches);
    if (found === null) throw new Error("a valid spec");
    return compileSpec(found, {
      target: "wgsl",
      length: 4096,
      ...(schedule === undefined ? {} : { schedule }),
    });
  };
  it("is planned around what a uniform cannot hold", () => {
    expect(() => compile(512, 12, "annulus")).toThrow(
      /'annulus' looks up \d+ bytes for 512 heads and 12 branches, the target has 61440/,
    );
    expect(compile(512, 12)[0]?.program.webgpu?.length).toBeGreaterThan(0);
  });
  it("or is refused with numbers", () =>
    expect(() => compile(2048, 8)).toThrow(/looks up 65536 bytes for 2048 heads and 8 branches/));
});

it("takes one list of tiles where a spec asks for it, never by itself", () => {
  const branches = "branches segments [2048, 4096, 8192, 16384, 32768] dilations [1, 2, 4, 6, 12]";
  const [attention] = readSpec(`attention a { heads 12 head_dim 64 ${branches} }`).spec?.attentions ?? [];
  const [limits] = WGSL_VARIANTS;
  if (attention === undefined || limits === undefined) throw new Error("a valid spec");
  for (const N of [300, 10_000])
    expect(choose(attention, N, wgslTarget(limits)).chosen.kind).not.toBe("annulus_list");
  expect(choose(attention, 300, wgslTarget(limits), { kind: "annulus_list" }).chosen.kind).toBe(
    "annulus_list",
  );
});
