import fc from "fast-check";
import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import type { PlanWeight } from "../../runtime/plan.ts";
import { memorySource, readHeader, writeSafetensors } from "../../runtime/safetensors.ts";
import type { TensorToWrite } from "../../runtime/safetensors.ts";
import { checkpoint } from "../../runtime/sources.ts";
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

const bytesIn = (of: Float32Array | undefined) => new Uint8Array(of?.slice().buffer ?? new ArrayBuffer(0));

describe("loadWeights through one memory", () => {
  const half: TensorToWrite = {
    name: "h.weight",
    dtype: "F16",
    shape: [13, 100_000],
    data: Float32Array.from({ length: 1_300_000 }, (_x, i) => (i % 2048) - 1024),
  };
  const tied = filled("e.weight", [11, 7]);
  const bytes = writeSafetensors([half, tied, filled("z.bias", [3])]);
  const wanted = {
    weights: [
      weight("e.weight", [11, 7], "panels"),
      weight("h.weight", [13, 100_000], "panels"),
      weight("e.weight", [11, 7]),
      weight("z.bias", [3]),
      weight("e.weight", [11, 7], "panels"),
    ],
    accepts: [],
  };

  it("gives every layout of a tensor after larger ones, padded with zeros", async () => {
    const got = new Map<number, Float32Array>();
    const buffers = new Set<ArrayBufferLike>();
    await loadWeights(wanted, memorySource(bytes), (index, data) => {
      got.set(index, data.slice());
      buffers.add(data.buffer);
    });
    expect(buffers.size).toBe(1);
    const data = tied.data as Float32Array;
    expect(got.get(2)).toEqual(data);
    expect(got.get(0)).toEqual(packPanels(data, 11, 7));
    expect(got.get(4)).toEqual(packPanels(data, 11, 7));
    // Compared as bytes: a million elements one by one take seconds.
    const panels = packPanels(half.data as Float32Array, 13, 100_000);
    expect(Buffer.compare(bytesIn(got.get(1)), bytesIn(panels))).toBe(0);
    expect(got.get(3)).toEqual(Float32Array.from([1, 2, 3]));
  });

  it("tells bytes as they arrive, up to all that are read", async () => {
    const seen: (readonly [number, number])[] = [];
    await loadWeights(wanted, memorySource(bytes), () => undefined, {
      bytes: (done, of) => void seen.push([done, of]),
    });
    const of = 2_600_000 + 4 * (77 + 3);
    expect(seen.at(-1)).toEqual([of, of]);
    expect(seen.length).toBeGreaterThan(4);
    for (const [i, [done, total]] of seen.entries()) {
      expect(total).toBe(of);
      expect(done).toBeGreaterThan(seen[i - 1]?.[0] ?? 0);
    }
  });

  it("ends where a signal says so: between pieces, and before the first", async () => {
    let reads = 0;
    const stop = new AbortController();
    const slow = {
      ...memorySource(bytes),
      read: async (start: number, end: number) => {
        if (++reads === 5) stop.abort(new Error("enough"));
        return bytes.subarray(start, end);
      },
    };
    const given: number[] = [];
    const loading = loadWeights(wanted, slow, (index) => void given.push(index), { signal: stop.signal });
    await expect(loading).rejects.toThrow("enough");
    expect(reads).toBe(5);
    const again = loadWeights(wanted, slow, () => undefined, { signal: stop.signal });
    await expect(again).rejects.toThrow("enough");
    expect(reads).toBe(5);
  });

  it("compares tied tensors by pieces, whatever their types", async () => {
    const count = 1_200_000;
    const numbers = Float32Array.from({ length: count }, (_x, i) => (i % 2048) - 1024);
    const plan = {
      weights: [weight("e", [count])],
      accepts: [{ name: "head", shape: [count], sameAs: "e" }],
    };
    const file = (head: TensorToWrite["data"], dtype: "F32" | "F16") =>
      memorySource(
        writeSafetensors([
          { name: "e", dtype: "F32", shape: [count], data: numbers },
          { name: "head", dtype, shape: [count], data: head as Float32Array },
        ]),
      );
    const load = (source: ReturnType<typeof file>) => loadWeights(plan, source, () => undefined);
    await load(file(numbers, "F32"));
    await load(file(numbers, "F16"));
    for (const at of [0, (1 << 20) - 1, 1 << 20, count - 1]) {
      const other = numbers.map((x, i) => (i === at ? x + 1 : x));
      await expect(load(file(other, "F32")), String(at)).rejects.toThrow(
        "'head' differs from 'e' in the checkpoint; the model ties them.",
      );
    }
  });
});

describe("renames that are told", () => {
  const problems = async (tensors: readonly TensorToWrite[]) =>
    checkWeights(plan, await readHeader(memorySource(writeSafetensors(tensors))));
  const under = (rename: (name: string) => string) => complete.map((t) => ({ ...t, name: rename(t.name) }));
  const repairs = async (tensors: readonly TensorToWrite[]) => [
    ...new Set((await problems(tensors)).map(({ rename }) => JSON.stringify(rename))),
  ];

  it.each([
    ["a path too many", (name: string) => `model.decoder.${name}`, { from: "model.decoder.", to: "" }],
    ["a path too few", (name: string) => name.replace("layers.0.", ""), { from: "", to: "layers.0." }],
    [
      "another path",
      (name: string) => name.replace("layers.0.ffn.", "blocks.0.mlp."),
      { from: "blocks.0.mlp.", to: "layers.0.ffn." },
    ],
    [
      "a name",
      (name: string) => name.replace("embed_tokens", "embed_token"),
      { from: "embed_token.weight", to: "embed_tokens.weight" },
    ],
  ])("%s", async (_what, rename, repair) => {
    const tensors = under(rename);
    expect(await repairs(tensors)).toEqual([JSON.stringify(repair)]);
    // And it repairs: under that rename nothing is wrong any more.
    const source = memorySource(writeSafetensors(tensors));
    const opened = await checkpoint(source, { rename: { [repair.from]: repair.to } });
    const wrong = checkWeights(plan, opened).map(({ name }) => name);
    expect(wrong).toEqual(repair.from === "" ? ["embed_tokens.weight", "layers.0.embed_tokens.weight"] : []);
  });

  it("not where the shapes differ, and not where nothing is alike", async () => {
    const [embed, ...rest] = complete;
    if (embed === undefined) throw new Error("no tensors");
    const misshapen = filled("embed_token.weight", [5, 5]);
    expect((await problems([...rest, misshapen])).map(({ rename }) => rename)).toEqual([
      undefined,
      undefined,
    ]);
    const other = filled("something.else.entirely", [5, 4]);
    expect((await problems([...rest, other])).map(({ rename }) => rename)).toEqual([undefined, undefined]);
  });
});
