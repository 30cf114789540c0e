import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { AttentionNode } from "../../codegen/lower/attention/tiles.ts";
import type { Launch } from "../../codegen/lower/launch.ts";
import { simt, simtSharedBytes } from "../../codegen/machine/simt.ts";
import { isInterpretError } from "../../src/interpret.ts";
import type { Expr, Kernel, Stmt } from "../../src/kernel.ts";
import { seal, type AttentionShape, type AttentionSpec } from "../../src/spec.ts";
import { nestedSpec, randomSpec } from "../schedule/specs.ts";
import { hold, launchesOf, nodeOf, run, scheduled } from "./simt-attention.ts";

const machine = (lanes: number) => simt({ lanes, sharedBytes: 1 << 16 });
const specOf = (shape: Partial<AttentionShape>): AttentionSpec =>
  seal<AttentionShape>({
    name: "trial",
    heads: 1,
    headDim: 8,
    kvHeads: 1,
    causal: true,
    branches: [{ segment: Infinity, dilation: 1 }],
    offsets: [[0]],
    padding: "masked",
    align: "segment",
    combine: "softmax",
    gradient: "full",
    scale: 0.35,
    dtype: "f32",
    ...shape,
  });

/** Rows × keys of a tile, and lengths around their edges. */
const tiles = fc.constantFrom([4, 4], [8, 16], [16, 8], [8, 12]);
const lengths = fc.oneof(
  fc.integer({ min: 1, max: 48 }),
  fc.constantFrom(3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33),
);
const small = randomSpec({ maxSegment: 48, maxBranches: 4 }).filter((s) => s.heads <= 3);
const nested = nestedSpec({ maxSegment: 48 }).filter((s) => s.heads <= 3);

describe("attention on a grid of lanes", () => {
  it.each(["branch", "class", "annulus", "annulus_list"] as const)(
    "%s equals the reference on random specs",
    (kind) => {
      let held = 0;
      let worst = 0;
      fc.assert(
        fc.property(
          kind.startsWith("annulus") ? nested : small,
          lengths,
          tiles,
          fc.constantFrom(32, 64),
          fc.boolean(),
          (spec, N, [rows = 0, keys = 0], lanes, decays) => {
            const schedule = scheduled(spec, { kind, rows, keys }, N);
            if (schedule === null) return;
            const node = nodeOf(spec, decays && spec.headDim % 2 === 0 ? { base: 512, block: 8 } : undefined);
            const launches = launchesOf(node, schedule).map((l) => ({
              ...l,
              kernel: machine(lanes)(l.kernel),
            }));
            const at = { N, B: 1 };
            worst = Math.max(worst, hold(node, run(node, launches, at), at));
            held += 1;
          },
        ),
        { numRuns: kind === "branch" ? 24 : 32 },
      );
      expect(held).toBeGreaterThan(10);
      expect(worst).toBeGreaterThan(0);
    },
  );

  it.each(["branch", "class", "annulus"] as const)(
    "%s equals the reference when operands are read in slices and tiles share memory",
    (kind) => {
      let held = 0;
      fc.assert(
        fc.property(
          kind === "annulus" ? nested : small,
          lengths,
          tiles,
          fc.constantFrom({ depth: 8, values: 1 }, { depth: 8, values: 4 }, { depth: 16, values: 8 }),
          fc.boolean(),
          (spec, N, [rows = 0, keys = 0], tiling, decays) => {
            const schedule = scheduled(spec, { kind, rows, keys }, N);
            if (schedule === null) return;
            // A future key grows without bound; where there is none, rows of a tile may be too far apart for one product.
            const base = spec.causal ? 0.25 : 512;
            const node = nodeOf(spec, decays && spec.headDim % 2 === 0 ? { base, block: 8 } : undefined);
            const launches = launchesOf(node, schedule, tiling).map((l) => ({
              ...l,
              // As little memory as the kernel can do with.
              kernel: simt({ lanes: 32, sharedBytes: simtSharedBytes(l.kernel, 32) })(l.kernel),
            }));
            const at = { N, B: 1 };
            hold(node, run(node, launches, at), at);
            held += 1;
          },
        ),
        { numRuns: 40 },
      );
      expect(held).toBeGreaterThan(10);
    },
  );

  it("fits the figures it is planned with: head width 64, tiles of 32 × 32", () => {
    const node = nodeOf(specOf({ headDim: 64 }));
    const schedule = scheduled(node.spec, { kind: "dense", rows: 32, keys: 32 }, 70);
    if (schedule === null) throw new Error("dense is legal here");
    const [launch] = launchesOf(node, schedule);
    if (launch === undefined) throw new Error("dense is one launch");
    expect(simtSharedBytes(launch.kernel, 64)).toBeLessThanOrEqual(32768);
    const kernel = machine(64)(launch.kernel);
    // Operands are there; partial maxima; what the rows' owners made of them; weights and their partial sums.
    expect(barriersPerLoop(kernel.body, "j0")).toEqual([4]);
    // Every product of a lane's block: multiply-adds against values and vectors loaded.
    for (const { madds, floats, loads } of productsIn(kernel.body)) {
      expect(madds / loads).toBeGreaterThanOrEqual(8);
      expect(madds / floats).toBeGreaterThanOrEqual(2);
    }
    expect(productsIn(kernel.body)).toHaveLength(2);
    const at = { N: 70, B: 2 };
    hold(node, run(node, [{ ...launch, kernel }], at), at);
  });
});

const barriersPerLoop = (body: readonly Stmt[], name: string): readonly number[] =>
  body.flatMap((s) => {
    if (s.s === "if") return [s.then, s.else ?? []].flatMap((b) => barriersPerLoop(b, name));
    if (s.s !== "for") return [];
    return s.name === name ? [count(s.body)] : barriersPerLoop(s.body, name);
  });
const count = (body: readonly Stmt[]): number =>
  body.reduce(
    (n, s) => n + (s.s === "barrier" ? 1 : s.s === "for" ? count(s.body) : s.s === "if" ? count(s.then) : 0),
    0,
  );

/** Multiply-adds, floats loaded and loads of each innermost loop that has any. */
function productsIn(body: readonly Stmt[]): readonly { madds: number; floats: number; loads: number }[] {
  return body.flatMap((s) => {
    if (s.s === "if") return productsIn([...s.then, ...(s.else ?? [])]);
    if (s.s !== "for") return [];
    const inner = productsIn(s.body);
    if (inner.length > 0) return inner;
    const total = { madds: 0, floats: 0, loads: 0 };
    const visit = (e: Expr): void => {
      const width = e.type === "f32x4" ? 4 : 1;
      if (e.e === "load") [total.loads, total.floats] = [total.loads + 1, total.floats + width];
      if (e.e !== "op") return;
      if (e.op === "madd") total.madds += width;
      e.args.forEach(visit);
    };
    for (const t of s.body) if (t.s === "let" || t.s === "set") visit(t.value);
    return total.madds > 0 ? [total] : [];
  });
}

describe("barriers", () => {
  const barriers = (body: readonly Stmt[]): number =>
    body.reduce((n, s) => {
      if (s.s === "for") return n + barriers(s.body);
      if (s.s === "if") return n + barriers(s.then) + barriers(s.else ?? []);
      return n + (s.s === "barrier" ? 1 : 0);
    }, 0);
  /** The body without its barrier number `index`. */
  const without = (body: readonly Stmt[], index: number): readonly Stmt[] => {
    let seen = 0;
    const walk = (b: readonly Stmt[]): readonly Stmt[] =>
      b.flatMap((s): readonly Stmt[] => {
        if (s.s === "barrier") return seen++ === index ? [] : [s];
        if (s.s === "for") return [{ ...s, body: walk(s.body) }];
        if (s.s !== "if") return [s];
        const { cond } = s;
        // oxlint-disable-next-line unicorn/no-thenable
        const taken: Stmt = { s: "if", cond, then: walk(s.then) };
        return [s.else === undefined ? taken : { ...taken, else: walk(s.else) }];
      });
    return walk(body);
  };

  const fails = (
    node: AttentionNode,
    launches: readonly Launch<Kernel>[],
    at: { N: number; B: number },
  ): boolean => {
    try {
      run(node, launches, at);
      return false;
    } catch (e) {
      // The lanes run one after another: what a lane reads too early another has not written yet.
      if (isInterpretError(e) && (e.kind === "race" || e.kind === "uninitialised")) return true;
      throw e;
    }
  };
  const withoutKeys = (l: Launch<Kernel>): Launch<Kernel> => {
    const walk = (body: readonly Stmt[]): readonly Stmt[] =>
      body.map((s): Stmt => {
        if (s.s === "for") return s.name === "j0" ? { ...s, to: s.from } : { ...s, body: walk(s.body) };
        // oxlint-disable-next-line unicorn/no-thenable
        return s.s === "if" ? { ...s, then: walk(s.then) } : s;
      });
    return { ...l, kernel: { ...l.kernel, body: walk(l.kernel.body) } };
  };

  type Case = readonly [string, Partial<AttentionShape>, "branch" | "class" | "annulus", decay?: boolean];
  const cases: readonly Case[] = [
    ["dense", {}, "branch"],
    [
      "two branches",
      {
        branches: [
          { segment: 16, dilation: 1 },
          { segment: Infinity, dilation: 2 },
        ],
        offsets: [[0], [1]],
      },
      "branch",
    ],
    [
      "mean",
      {
        combine: "mean",
        branches: [
          { segment: 16, dilation: 1 },
          { segment: 32, dilation: 2 },
        ],
        offsets: [[0], [0]],
      },
      "branch",
    ],
    [
      "zero padding",
      { causal: false, padding: "zero", branches: [{ segment: 31, dilation: 2 }], offsets: [[1]] },
      "branch",
    ],
    ["decay", {}, "branch", true],
    [
      "folds",
      {
        causal: false,
        branches: [
          { segment: 16, dilation: 1 },
          { segment: 32, dilation: 2 },
          { segment: Infinity, dilation: 4 },
        ],
        offsets: [[0], [0], [0]],
      },
      "class",
    ],
    [
      "folds and decay",
      {
        branches: [
          { segment: 16, dilation: 1 },
          { segment: 32, dilation: 2 },
        ],
        offsets: [[0], [1]],
      },
      "class",
      true,
    ],
    [
      "rings and folds",
      {
        causal: false,
        branches: [
          { segment: 16, dilation: 1 },
          { segment: 32, dilation: 2 },
          { segment: Infinity, dilation: 4 },
        ],
        offsets: [[0], [0], [0]],
      },
      "annulus",
    ],
    [
      "rings that cross, no period divides a tile of keys",
      {
        branches: [
          { segment: 10, dilation: 1 },
          { segment: 27, dilation: 3 },
        ],
        offsets: [[0], [1]],
        padding: "zero",
        causal: false,
      },
      "annulus",
    ],
  ];
  it.each(cases.map((c) => ({ title: c[0], case: c })))(
    "are all needed: dropping any one is seen, $title",
    (each) => {
      const [, shape, kind, decay] = each.case;
      const node = nodeOf(specOf(shape), decay === true ? { base: 512, block: 8 } : undefined);
      const schedule = scheduled(node.spec, { kind, rows: 8, keys: 8 }, 40);
      if (schedule === null) throw new Error("this schedule is legal here");
      const launches = launchesOf(node, schedule).map((l) => ({ ...l, kernel: machine(32)(l.kernel) }));
      const at = { N: 40, B: 1 };
      hold(node, run(node, launches, at), at);
      expect(fails(node, launches.map(withoutKeys), at)).toBe(false);
      const kernels = [...new Set(launchesOf(node, schedule).map((l) => l.kernel.name))];
      const unseen: string[] = [];
      let dropped = 0;
      for (const name of kernels) {
        const whole = launches.find((l) => l.kernel.name === name)?.kernel;
        for (let i = 0; whole !== undefined && i < barriers(whole.body); i++) {
          const broken: Kernel = { ...whole, body: without(whole.body, i) };
          const mutated = launches.map((l) => (l.kernel.name === name ? { ...l, kernel: broken } : l));
          dropped += 1;
          // A barrier may stand for groups without keys, which this geometry does not make but the kernel cannot rule out.
          if (!fails(node, mutated, at) && !fails(node, mutated.map(withoutKeys), at))
            unseen.push(`${name}: barrier ${i}`);
        }
      }
      expect(unseen).toEqual([]);
      expect(dropped).toBeGreaterThan(2);
    },
  );
});
