import fc from "fast-check";
import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import type { PlanWeight } from "../../runtime/plan.ts";
import { memorySource, readHeader, writeSafetensors } from "../../runtime/safetensors.ts";
import type { TensorToWrite } from "../../runtime/safetensors.ts";
import { checkWeights, loadWeights, packPanels } from "../../runtime/weights.ts";
import type { WeightsError } from "../../runtime/weights.ts";
import { modelGraph } from "../../src/model.ts";
import { goldenPath, modelCases } from "../golden.ts";

const weight = (name: string, shape: number[], layout: PlanWeight["layout"] = "rows"): PlanWeight => ({
  name,
  shape,
  layout,
});
const filled = (name: string, shape: number[]): TensorToWrite => {
  const count = shape.reduce((product, dim) => product * dim, 1);
  return { name, shape, dtype: "F32", data: Float32Array.from({ length: count }, (_x, i) => i + 1) };
};
const plan = {
  weights: [
    weight("embed_tokens.weight", [5, 4]),
    weight("layers.0.ffn.fc1.weight", [3, 4], "panels"),
    weight("layers.0.ffn.fc1.bias", [3]),
    weight("embed_tokens.weight", [5, 4], "panels"),
  ],
  accepts: [
    { name: "output_projection.weight", shape: [5, 4] },
    { name: "layers.0.self_attn.xpos.scale", shape: [2] },
  ],
};
const complete = [
  filled("embed_tokens.weight", [5, 4]),
  filled("layers.0.ffn.fc1.weight", [3, 4]),
  filled("layers.0.ffn.fc1.bias", [3]),
];
const check = async (tensors: readonly TensorToWrite[]) =>
  checkWeights(plan, await readHeader(memorySource(writeSafetensors(tensors)))).map(({ message }) => message);

describe("checkWeights", () => {
  it("accepts a complete checkpoint, with and without the known extras", async () => {
    expect(await check(complete)).toEqual([]);
    expect(await check([...complete, filled("output_projection.weight", [5, 4])])).toEqual([]);
  });

  it("names each missing, extra and misshapen tensor", async () => {
    const tensors = [
      filled("embed_tokens.weight", [4, 5]),
      filled("layers.0.ffn.fc_1.weight", [3, 4]),
      filled("layers.0.self_attn.xpos.scale", [3]),
      filled("something.else.entirely", [1]),
      { name: "layers.0.ffn.fc1.bias", shape: [3], dtype: "I32", data: new Int32Array(3) } as const,
    ];
    expect((await check(tensors)).sort()).toEqual([
      "'embed_tokens.weight' is [4, 5] in the checkpoint; the model needs [5, 4]. It looks transposed.",
      "'layers.0.ffn.fc1.bias' is I32 in the checkpoint; a weight must be F32, F16, BF16 or F64.",
      "'layers.0.self_attn.xpos.scale' is [3] in the checkpoint; the model needs [2].",
      "The checkpoint has no 'layers.0.ffn.fc1.weight' [3, 4]. Did you mean its 'layers.0.ffn.fc_1.weight'?",
      "The checkpoint's 'layers.0.ffn.fc_1.weight' [3, 4] is not part of the model. Did you mean 'layers.0.ffn.fc1.weight', which is missing?",
      "The checkpoint's 'something.else.entirely' [1] is not part of the model.",
    ]);
  });

  it("tells a prefix on either side", async () => {
    const prefixed = complete.map((tensor) => ({ ...tensor, name: `model.decoder.${tensor.name}` }));
    const messages = await check(prefixed);
    expect(messages).toHaveLength(6);
    for (const message of messages)
      expect(message).toContain("Its names begin with 'model.decoder.', which the model's do not.");

    const long = plan.weights.map((one) => ({ ...one, name: `encoder.${one.name}` }));
    const header = await readHeader(memorySource(writeSafetensors(complete)));
    for (const { message } of checkWeights({ weights: long, accepts: [] }, header))
      expect(message).toContain("Its names lack the prefix 'encoder.' of the model's.");
  });

  it("finds any one removed, renamed or reshaped tensor of a real model, and nothing else", async () => {
    const [d1] = await modelCases();
    if (d1 === undefined) throw new Error("no d1");
    const graph = modelGraph(d1.spec);
    const wanted = {
      weights: graph.weights.map(({ name, shape }) => weight(name, [...shape])),
      accepts: graph.ignored,
    };
    const header = await readHeader(memorySource(readFileSync(goldenPath(d1.weightsFile))));
    expect(checkWeights(wanted, header)).toEqual([]);
    fc.assert(
      fc.property(
        fc.nat(graph.weights.length - 1),
        fc.constantFrom("drop", "rename", "reshape", "widen"),
        (at, how) => {
          const name = graph.weights[at]?.name ?? "";
          const tensors = new Map(header.tensors);
          const entry = tensors.get(name);
          if (entry === undefined) throw new Error(name);
          tensors.delete(name);
          if (how === "rename") tensors.set(`${name}_`, { ...entry, name: `${name}_` });
          const [rows = 1, ...rest] = entry.shape;
          if (how === "reshape") tensors.set(name, { ...entry, shape: [2, rows / 2, ...rest] });
          if (how === "widen") tensors.set(name, { ...entry, shape: [rows, 2, ...rest] });
          const problems = checkWeights(wanted, { ...header, tensors });
          const kinds = {
            drop: ["missing"],
            rename: ["missing", "extra"],
            reshape: ["shape"],
            widen: ["shape"],
          }[how];
          expect(problems.map(({ kind }) => kind)).toEqual(kinds);
          expect(problems[0]?.name).toBe(name);
        },
      ),
    );
  });
});

it("a tensor with more axes is taken where its rows are those of the weight", () => {
  const named = (shape: readonly number[]) => ({
    tensors: new Map([["w", { name: "w", dtype: "F32" as const, shape, start: 0, end: 4 * 96 }]]),
    metadata: new Map(),
  });
  const problems = (wanted: readonly number[], found: readonly number[]) =>
    checkWeights({ weights: [{ name: "w", shape: wanted, layout: "rows" }], accepts: [] }, {
      ...named(found),
    } as never).map(({ kind }) => kind);
  // A convolution whose patches are rows of features; a class token and positions behind axes of one.
  for (const [wanted, found] of [
    [
      [8, 12],
      [8, 3, 2, 2],
    ],
    [[12], [1, 1, 12]],
    [
      [8, 12],
      [1, 8, 12],
    ],
  ] as const)
    expect(problems(wanted, found), String(found)).toEqual([]);
  for (const [wanted, found] of [
    [
      [8, 12],
      [12, 8],
    ],
    [
      [8, 12],
      [4, 2, 12],
    ],
    [
      [8, 12],
      [8, 3, 2, 3],
    ],
    [[8, 12], [96]],
    [[12], [12, 1]],
    [[12], [3, 4]],
    [
      [8, 12],
      [1, 12, 8],
    ],
  ] as const)
    expect(problems(wanted, found), String(found)).toEqual(["shape"]);
});

describe("packPanels", () => {
  it("puts element (k, j) at ⌊j/8⌋·in·8 + k·8 + j mod 8 and zeros beyond", () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 30 }), fc.integer({ min: 1, max: 9 }), (out, inputs) => {
        const rows = Float32Array.from({ length: out * inputs }, (_x, i) => i + 1);
        const packed = packPanels(rows, out, inputs);
        const expected = new Float32Array(Math.ceil(out / 8) * 8 * inputs);
        for (let j = 0; j < out; j++)
          for (let k = 0; k < inputs; k++)
            expected[Math.floor(j / 8) * inputs * 8 + k * 8 + (j % 8)] = rows[j * inputs + k] ?? NaN;
        expect(packed).toEqual(expected);
      }),
    );
  });
});

describe("loadWeights", () => {
  it("hands over every weight in its layout, reading each tensor once", async () => {
    const bytes = writeSafetensors([...complete, filled("output_projection.weight", [5, 4])]);
    const { dataStart } = await readHeader(memorySource(bytes));
    let read = 0;
    const source = {
      size: bytes.length,
      read: (start: number, end: number) => {
        if (start >= dataStart) read += end - start;
        return Promise.resolve(bytes.subarray(start, end));
      },
    };
    const got = new Map<number, Float32Array>();
    await loadWeights(plan, source, (index, data) => {
      got.set(index, data.slice());
    });
    const rows = Float32Array.from({ length: 20 }, (_x, i) => i + 1);
    expect(got.get(0)).toEqual(rows);
    expect(got.get(1)).toEqual(packPanels(rows.slice(0, 12), 3, 4));
    expect(got.get(2)).toEqual(rows.slice(0, 3));
    expect(got.get(3)).toEqual(packPanels(rows, 5, 4));
    expect(read).toBe((20 + 12 + 3) * 4);
  });

  it("throws every problem at once, before anything is handed over", async () => {
    const source = memorySource(writeSafetensors(complete.slice(1)), "w.safetensors");
    let called = 0;
    const error = await loadWeights({ ...plan, weights: [...plan.weights, weight("z", [1])] }, source, () => {
      called++;
    }).catch((caught: unknown) => caught as WeightsError);
    expect(called).toBe(0);
    expect((error as WeightsError).name).toBe("WeightsError");
    expect((error as WeightsError).problems.map(({ name }) => name).sort()).toEqual([
      "embed_tokens.weight",
      "z",
    ]);
    expect((error as WeightsError).message).toContain("w.safetensors does not fit the model:\n  ");
  });
});
