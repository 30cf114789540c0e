import { expect, test } from "vitest";
import { read } from "../../grammar/index.ts";
import * as builder from "../../src/builder.ts";
import { check } from "../../src/check.ts";
import { firstUncovered, headList, newBudget } from "../../src/check/coverage.ts";
import { isError } from "../../src/diagnostic.ts";
import type { AttentionSpec, ModelSpec, Spec } from "../../src/spec.ts";
import fc from "fast-check";
import { plainModel } from "../plain-model.ts";
import { example } from "./programs.ts";

const run = (text: string) => {
  const { ast, diagnostics } = read(text);
  const checked = check(ast);
  return { spec: checked.spec, codes: [...diagnostics, ...checked.diagnostics].map((d) => d.code) };
};
const specOf = (text: string): Spec => {
  const { spec, codes } = run(text);
  if (spec === null) throw new Error(codes.join());
  return spec;
};
const first = (text: string): AttentionSpec => {
  const [a] = specOf(text).attentions;
  if (a === undefined) throw new Error("no attention");
  return a;
};
const attention = (fields: string) => `attention a { heads 4 head_dim 16\n${fields}\n}`;
const dense = "branch segment all dilation 1";
const modelOf = (fields: string, of = "causal true"): ModelSpec => {
  const { models } = specOf(
    `${attention(`${dense}\n${of}`)}\nmodel m { dim 64 layers 2 ffn 8 attention a\n${fields} }`,
  );
  if (models[0] === undefined) throw new Error("no model");
  return models[0];
};

test("defaults of an attention", () => {
  expect(first(attention(dense))).toEqual({
    name: "a",
    heads: 4,
    headDim: 16,
    kvHeads: 4,
    causal: false,
    branches: [{ segment: Infinity, dilation: 1 }],
    offsets: [[0, 0, 0, 0]],
    padding: "masked",
    align: "segment",
    combine: "softmax",
    gradient: "full",
    scale: 0.25,
    dtype: "f32",
  });
});

test("the default offset is head % dilation", () => {
  const a = first(attention("branch segment 8 dilation 3\nbranch segment 8 dilation 1"));
  expect(a.offsets).toEqual([
    [0, 1, 2, 0],
    [0, 0, 0, 0],
  ]);
});

test("every field says what it says", () => {
  const a = first(
    attention(
      `${dense} kv_heads 2 causal true padding zero align ceil combine mean gradient detached scale 2 / head_dim dtype bf16`,
    ),
  );
  expect(a).toMatchObject({ kvHeads: 2, causal: true, padding: "zero", align: "ceil", combine: "mean" });
  expect(a).toMatchObject({ gradient: "detached", scale: 0.125, dtype: "bf16" });
});

test("compat torchscale, and each of its choices overridden on either side of it", () => {
  const two = `${dense} branch segment 8 dilation 3`;
  const compat = { padding: "zero", align: "ceil", gradient: "detached" };
  const blocks = [
    [0, 0, 0, 0],
    [0, 0, 1, 1],
  ];
  expect(first(attention(`${two} compat torchscale`))).toMatchObject({ ...compat, offsets: blocks });
  const turns = [
    [0, 0, 0, 0],
    [0, 1, 2, 0],
  ];
  const overrides = [
    ["padding masked", { ...compat, padding: "masked", offsets: blocks }],
    ["align segment", { ...compat, align: "segment", offsets: blocks }],
    ["gradient full", { ...compat, gradient: "full", offsets: blocks }],
    ["offset head % dilation", { ...compat, offsets: turns }],
    ["offsets [[0, 0, 0, 0], [0, 1, 2, 0]]", { ...compat, offsets: turns }],
  ] as const;
  for (const [field, expected] of overrides) {
    expect(first(attention(`${two} ${field} compat torchscale`))).toMatchObject(expected);
    expect(first(attention(`${two} compat torchscale ${field}`))).toMatchObject(expected);
  }
});

test("torchscale's offsets, from the examples of semantics.md 1.1", () => {
  const offsets = (heads: number, r: number) =>
    first(
      `attention a { heads ${heads} head_dim 2 ${dense} branch segment 24 dilation ${r} compat torchscale }`,
    ).offsets[1];
  expect(offsets(12, 2)).toEqual([0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1]);
  expect(offsets(12, 6)).toEqual([0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]);
  expect(offsets(12, 12)).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]);
  expect(offsets(5, 4)).toEqual([0, 0, 1, 1, 2]);
  expect(offsets(3, 8)).toEqual([0, 1, 2]);
});

test("the block rule can be written out with floor", () => {
  const rule = "offset floor(head / ceil(heads / dilation))";
  const spelled = first(
    attention(`${dense} branch segment 9 dilation 3 branch segment 16 dilation 4 ${rule}`),
  );
  const word = first(
    attention(`${dense} branch segment 9 dilation 3 branch segment 16 dilation 4 compat torchscale`),
  );
  expect(spelled.offsets).toEqual(word.offsets);
});

test("ranges hold both ends and lets may stand in any order", () => {
  const a = first(
    `${attention("branch i in 1..n { segment w * 2 ** i dilation max(1, i) }")} let n = 2 + 1 let w = n * 4 + 4`,
  );
  expect(a.branches).toEqual([
    { segment: 32, dilation: 1 },
    { segment: 64, dilation: 2 },
    { segment: 128, dilation: 3 },
  ]);
});

test("arithmetic", () => {
  const value = (e: string) => first(attention(`${dense} scale 1000 + (${e})`)).scale - 1000;
  expect(value("2 ** 3 ** 2")).toBe(512);
  expect(value("-2 ** 2")).toBe(-4);
  expect(value("(-2) ** 2")).toBe(4);
  expect(value("2 ** -1")).toBe(0.5);
  expect(value("2 ** -1 ** 2")).toBe(0.5);
  expect(value("7 - 2 - 1")).toBe(4);
  expect(value("12 / 3 / 2")).toBe(2);
  expect(value("-7 % 3")).toBe(2);
  expect(value("7 % -3")).toBe(-2);
  expect(value("2 + 3 * 4")).toBe(14);
  expect(value("--3")).toBe(3);
  expect(value("min(3, 1, 2) + max(4, 5) * floor(1.5) - ceil(0.2) + sqrt(16)")).toBe(9);
  expect(value("1e-1 * 10")).toBe(1);
});

test("defaults of a decoder and of an encoder", () => {
  const { attention: used, ...decoder } = modelOf("kind decoder vocab 9");
  expect(used.name).toBe("a");
  expect(decoder).toEqual({
    name: "m",
    kind: "decoder",
    input: "tokens",
    vocab: 9,
    dim: 64,
    layers: 2,
    ffn: { dim: 8, activation: "gelu" },
    xpos: null,
    positions: null,
    norm: "sub_ln",
    embedScale: 1,
    embedNorm: false,
    head: "separate",
    finalNorm: true,
    eps: 1e-5,
    ...plainModel,
  });
  expect(modelOf("kind encoder input features", "")).toMatchObject({
    head: "none",
    vocab: 0,
    input: "features",
  });
  expect(modelOf("kind encoder vocab 9", "")).toMatchObject({ head: "separate", vocab: 9 });
  expect(modelOf("kind encoder vocab 9 input features", "")).toMatchObject({ head: "separate", vocab: 9 });
});

test("fields of slide and image encoders", () => {
  const front = "kind encoder input features patch_embed 1536 position grid 1000";
  expect(
    modelOf(`${front} tile 512 class_token true pool class states all checkpoint gigapath`, ""),
  ).toMatchObject({
    patchEmbed: 1536,
    grid: { cells: 1000, tile: 512 },
    classToken: true,
    pool: { of: "class", eps: 1e-6, states: true, classes: 0 },
    head: "none",
    checkpoint: "gigapath",
  });
  expect(modelOf(`${front} pool mean classes 1 + 1 checkpoint longvit`, "")).toMatchObject({
    grid: { cells: 1000, tile: 256 },
    classToken: false,
    pool: { of: "mean", eps: 1e-5, states: false, classes: 2 },
  });
  expect(modelOf(`${front} pool mean pool_eps 1e-3`, "").pool).toMatchObject({ eps: 1e-3 });
  expect(modelOf("kind encoder vocab 9 pool mean", "")).toMatchObject({ head: "none", vocab: 9 });
  const built = builder.model("m", {
    kind: "encoder",
    input: "features",
    patchEmbed: 1536,
    dim: 64,
    layers: 2,
    ffn: 8,
    attention: builder.attention("a", { heads: 8, headDim: 8, branches: [{ segment: "all", dilation: 1 }] }),
    position: { grid: { cells: 7, tile: 3 } },
    classToken: true,
    pool: "mean",
    poolEps: 1e-4,
    states: "all",
    classes: 5,
    checkpoint: "gigapath",
  });
  const used = builder.attention("a", { heads: 8, headDim: 8, branches: [{ segment: "all", dilation: 1 }] });
  const { spec } = check(builder.program([used, built]));
  expect(spec?.models[0]).toMatchObject({
    patchEmbed: 1536,
    grid: { cells: 7, tile: 3 },
    classToken: true,
    pool: { of: "mean", eps: 1e-4, states: true, classes: 5 },
    checkpoint: "gigapath",
  });
});

test("fields of a model", () => {
  const m = modelOf(
    "kind decoder vocab 9 position xpos position learned 130 norm post_ln embed_scale sqrt(dim) embed_norm true head tied eps 1e-6",
  );
  expect(m).toMatchObject({ xpos: { base: 512 }, positions: { rows: 130 }, norm: "post_ln", embedScale: 8 });
  expect(m).toMatchObject({ embedNorm: true, head: "tied", finalNorm: false, eps: 1e-6 });
  for (const norm of ["pre_ln", "sub_ln"])
    expect(modelOf(`kind decoder vocab 9 norm ${norm}`).finalNorm).toBe(true);
  for (const norm of ["post_ln", "deepnorm"])
    expect(modelOf(`kind decoder vocab 9 norm ${norm}`).finalNorm).toBe(false);
  expect(modelOf("kind decoder vocab 9 norm deepnorm final_norm true").finalNorm).toBe(true);
  expect(modelOf("kind decoder vocab 9 position xpos base 64").xpos).toEqual({ base: 64 });
  expect(modelOf("kind decoder vocab 9 position none")).toMatchObject({ xpos: null, positions: null });
});

test("schedules", () => {
  const text = `${attention(dense)} schedule a on wgsl { kind class rows 64 keys 32 } schedule a on wasm { }`;
  expect(specOf(text).schedules).toEqual([
    { attention: "a", target: "wgsl", kind: "class", rows: 64, keys: 32 },
    { attention: "a", target: "wasm" },
  ]);
});

test("the example of language.md", () => {
  const { spec, codes } = run(example);
  expect(codes).toEqual(["align-moves-rows"]);
  expect(spec?.attentions.map((a) => a.name)).toEqual(["paper_32k", "gigapath", "small"]);
  expect(spec?.attentions[1]?.branches[3]).toEqual({ segment: 185363, dilation: 8 });
  expect(spec?.models[0]?.attention).toBe(spec?.attentions[2]);
});

test("warnings leave the Spec, errors take it", () => {
  expect(run(attention("branch segment 8 dilation 2"))).toMatchObject({ codes: ["uncovered-heads"] });
  expect(run(attention("branch segment 8 dilation 2")).spec).not.toBeNull();
  expect(run(attention("branch segment 8 dilation 9")).spec).toBeNull();
});

test("the limits of size hold exactly", () => {
  const heads = (n: number) => run(`attention a { heads ${n} head_dim 1 ${dense} }`).codes;
  expect(heads(65536)).toEqual([]);
  expect(heads(65537)).toEqual(["out-of-range"]);
  const dims = (n: number) => run(`attention a { heads 1 head_dim ${n} ${dense} }`).codes;
  expect([dims(1024), dims(1025)]).toEqual([[], ["out-of-range"]]);
  const branches = (n: number) =>
    run(`attention a { heads 1 head_dim 1 branch i in 1..${n} { segment 1 + i dilation 1 } }`).codes;
  expect([branches(4096), branches(4097)]).toEqual([[], ["too-many-branches"]]);
  const split = run(
    `attention a { heads 1 head_dim 1 branch i in 1..4096 { segment 1 + i dilation 1 } branch segment 5000 dilation 1 }`,
  );
  expect(split.codes).toEqual(["too-many-branches"]);
  const segment = (w: string) => run(attention(`branch segment ${w} dilation 1`)).codes;
  expect([segment("2 ** 31 - 1"), segment("2 ** 31")]).toEqual([[], ["number-too-large"]]);
});

test("covered means covered: the search agrees with counting over a long sequence", () => {
  const branch = fc.record({
    segment: fc.integer({ min: 1, max: 12 }),
    dilation: fc.integer({ min: 1, max: 6 }),
  });
  const legal = fc
    .array(
      branch.filter((b) => b.dilation <= b.segment),
      { minLength: 1, maxLength: 4 },
    )
    .chain((bs) =>
      fc.record({ bs: fc.constant(bs), os: fc.tuple(...bs.map((b) => fc.nat({ max: b.dilation - 1 }))) }),
    );
  let bare = 0;
  fc.assert(
    fc.property(legal, fc.constantFrom("segment" as const, "ceil" as const), ({ bs, os }, align) => {
      const covers = (p: number) =>
        bs.some((b, i) => {
          const length = align === "ceil" ? Math.ceil(b.segment / b.dilation) * b.dilation : b.segment;
          return (p % length) % b.dilation === os[i];
        });
      // 27720 = lcm(1 … 12) is a period of every such pattern.
      const token = Array.from({ length: 27720 }, (_, p) => p).find((p) => !covers(p)) ?? null;
      if (token !== null) bare++;
      expect(firstUncovered(bs, os, align, newBudget())).toBe(token);
    }),
    { numRuns: 400 },
  );
  expect(bare).toBeGreaterThan(50);
});

test("heads are listed in runs", () => {
  expect(headList([3])).toBe("head 3");
  expect(headList([0, 1, 2, 5, 7, 8])).toBe("heads 0 to 2, 5, 7 and 8");
});

test("no Spec without every error being told, also in programs of the builder's kind", () => {
  const { spec, diagnostics } = check({ items: [], span: { path: "program" } });
  expect(spec).toMatchObject({ attentions: [], models: [], schedules: [] });
  expect(diagnostics.map((d) => d.code)).toEqual(["empty-program"]);
  expect(diagnostics.some(isError)).toBe(false);
});

test("one wrong branch hides neither the offsets of the others nor what a model asks of the attention", () => {
  const { codes } = run(`attention a { heads 10 kv_heads 4 head_dim 64 causal true
    branch segment 8 dilation 16
    branch segment 64 dilation 2
    offset head }
  model m { kind encoder vocab 9 dim 512 layers 2 ffn 1024 attention a }`);
  expect([...codes].sort()).toEqual(
    [
      "dilation-exceeds-segment",
      "dim-mismatch",
      "encoder-causal",
      "kv-heads-divide",
      "offset-outside",
    ].sort(),
  );
});

test("a misspelt causal is one problem, not two", () => {
  const { codes } = run(`attention a { heads 1 head_dim 4 casual true branch segment all dilation 1 }
  model m { kind decoder vocab 9 dim 4 layers 1 ffn 8 attention a }`);
  expect(codes).toEqual(["unknown-field"]);
});
