/** Prov-GigaPath's golden slides, and padded sequences, as a stranger would run them. */
import { readFileSync, writeFileSync } from "node:fs";
import { afterAll, describe, expect, it } from "vitest";
import { memorySource, readHeader, readTensor, writeSafetensors } from "../../runtime/safetensors.ts";
import type { TensorToWrite } from "../../runtime/safetensors.ts";
import { readSpec } from "../../src/compile.ts";
import { modelGraph } from "../../src/model.ts";
import { compare } from "../../src/tolerance.ts";
import { goldenPath, goldenTensors, manifest, tensor } from "../golden.ts";
import { slideInputs, slideSpec } from "../slides.ts";
import { folder, heddle } from "./session.ts";

const here = folder();
afterAll(here.remove);
const worst: string[] = [];
afterAll(() => console.log(`worst of scale: ${worst.join(", ")}`));

async function read(path: string, name: string): Promise<{ shape: readonly number[]; data: Float32Array }> {
  const source = memorySource(readFileSync(path), path);
  const entry = (await readHeader(source)).tensors.get(name);
  if (entry === undefined) throw new Error(`${path} has no '${name}'`);
  return { shape: entry.shape, data: Float32Array.from(await readTensor(source, entry)) };
}
const f32 = (name: string, shape: readonly number[], data: Float32Array): TensorToWrite => ({
  name,
  dtype: "F32",
  shape,
  data,
});

describe.each(manifest.gigapath)("$id", (c) => {
  const { encoder: e, n_tiles: N } = c;
  // The f64 reference of a long slide takes its time and says nothing more.
  const devices = N > 1000 ? ["wasm"] : ["wasm", "reference"];
  const runs = devices.flatMap(
    (d) =>
      [
        ["class", "cls", d],
        ["mean", "pool", d],
      ] as const,
  );
  it.each(runs)(
    "pool %s equals Prov-GigaPath's %s on %s",
    { timeout: 60_000 },
    async (pool, name, device) => {
      const io = await goldenTensors(c.io);
      const [spec, inputs, output] = [
        here.at(`${c.id}.heddle`),
        here.at(`${c.id}.in`),
        here.at(`${c.id}.out`),
      ];
      writeFileSync(spec, slideSpec(c, pool));
      writeFileSync(inputs, slideInputs(c, io));
      const weights = goldenPath(c.weights);
      const common = ["run", spec, "slide", "--weights", weights, "--inputs", inputs, "--output", output];
      const ran = await heddle([...common, "--device", device, "--hidden"]);
      expect(ran.code, ran.err).toBe(0);
      const [out, states] = [await read(output, "out"), await read(output, "states")];
      expect(out.shape).toEqual([1, e.embed_dim]);
      expect(states.shape).toEqual([e.layers + 1, 1, e.embed_dim]);
      expect((await read(output, "hidden")).shape).toEqual([e.layers + 1, 1, N + 1, e.embed_dim]);
      const terms = e.layers * e.ffn;
      const one = compare(out.data, tensor(io, `out_${name}`), { dtype: "f32", terms });
      const all = compare(states.data, tensor(io, `all_layers_${name}`), { dtype: "f32", terms });
      worst.push(
        `${c.id} ${name} ${device} ${Math.max(one.worst / one.scale, all.worst / all.scale).toExponential(1)}`,
      );
      expect(one, "out").toMatchObject({ ok: true });
      expect(all, "states").toMatchObject({ ok: true });
    },
  );
});

const encoder = `attention a {
  heads 4  head_dim 4
  branches segments [6, 16, 40] dilations [1, 2, 4]
  PADDING
}
model m { kind encoder  FRONT  dim 16  layers 2  ffn 24 swish  attention a  BACK }
`;
const noise = (length: number, seed: number): Float32Array =>
  Float32Array.from({ length }, (_, i) => Math.sin(12.9898 * (i + 1) + 78.233 * seed) * 0.5);

describe("padded sequences", () => {
  const lengths = [17, 23, 9, 23];
  const [B, N, vocab] = [lengths.length, 23, 11];
  const tokens = Int32Array.from({ length: B * N }, (_, i) => (i * i * 7 + 3 * i) % vocab);
  const mask = Int32Array.from({ length: B * N }, (_, i) =>
    i % N < (lengths[Math.floor(i / N)] ?? 0) ? 0 : 1,
  );
  /** Weights of no pattern for the model of a spec. */
  const weightsOf = (spec: string): string => {
    const found = readSpec(readFileSync(spec, "utf8")).spec?.models[0];
    if (found === undefined) throw new Error(`${spec} has no model`);
    const sizeOf = (shape: readonly number[]) => shape.reduce((a, b) => a * b, 1);
    const { weights } = modelGraph(found);
    writeFileSync(
      `${spec}.weights`,
      writeSafetensors(weights.map((w, i) => f32(w.name, w.shape, noise(sizeOf(w.shape), i)))),
    );
    return `${spec}.weights`;
  };
  const ran = async (spec: string, weights: string, tensors: readonly TensorToWrite[], device = "wasm") => {
    const [inputs, output] = [here.at("padded.in"), here.at("padded.out")];
    writeFileSync(inputs, writeSafetensors(tensors));
    const ended = await heddle(
      ["run", spec, "m", "--weights", weights, "--inputs", inputs, "--output", output, "--hidden"].concat([
        "--device",
        device,
      ]),
    );
    return { ...ended, read: (name: string) => read(output, name) };
  };
  const ints = (name: string, shape: readonly number[], data: Int32Array): TensorToWrite => ({
    name,
    dtype: "I32",
    shape,
    data,
  });

  it.each(["wasm", "reference"])("run at their own length where padding is masked, on %s", async (device) => {
    const spec = here.at("masked.heddle");
    writeFileSync(
      spec,
      encoder.replace("PADDING", "").replace("FRONT", `vocab ${vocab}`).replace("BACK", ""),
    );
    const weights = weightsOf(spec);
    const all = await ran(
      spec,
      weights,
      [ints("tokens", [B, N], tokens), ints("padding_mask", [B, N], mask)],
      device,
    );
    expect(all.code, all.err).toBe(0);
    const [logits, hidden] = [await all.read("logits"), await all.read("hidden")];
    expect(logits.shape).toEqual([B, N, vocab]);
    for (const [b, n] of lengths.entries()) {
      const alone = await ran(
        spec,
        weights,
        [ints("tokens", [1, n], tokens.slice(b * N, b * N + n))],
        device,
      );
      const row = (data: Float32Array, width: number, from: number) =>
        data.slice(from * width, (from + N) * width);
      const padded = row(logits.data, vocab, b * N);
      expect(
        compare(padded.slice(0, n * vocab), (await alone.read("logits")).data, { dtype: "f32", terms: 24 }),
      ).toMatchObject({ ok: true });
      expect(padded.slice(n * vocab).every((x) => x === 0)).toBe(true);
      const last = row(hidden.data, 16, (2 * B + b) * N);
      const own = (await alone.read("hidden")).data.slice(2 * n * 16);
      expect(compare(last.slice(0, n * 16), own, { dtype: "f32", terms: 24 })).toMatchObject({ ok: true });
      expect(last.slice(n * 16).every((x) => x === 0)).toBe(true);
    }
  });

  it("pool each over its own tiles, with coordinates", async () => {
    const spec = here.at("pooled.heddle");
    const front = "input features  patch_embed 6";
    const back = "position grid 9 tile 10  class_token true  pool mean  states all  classes 3";
    writeFileSync(spec, encoder.replace("PADDING", "").replace("FRONT", front).replace("BACK", back));
    const weights = weightsOf(spec);
    const features = noise(B * N * 6, 50);
    const coords = Float32Array.from({ length: B * N * 2 }, (_, i) => (i * 13) % 90);
    const given = (b: number, n: number) => [
      f32("features", [1, n, 6], features.slice(b * N * 6, (b * N + n) * 6)),
      f32("coords", [1, n, 2], coords.slice(b * N * 2, (b * N + n) * 2)),
    ];
    const all = await ran(spec, weights, [
      f32("features", [B, N, 6], features),
      f32("coords", [B, N, 2], coords),
      ints("padding_mask", [B, N], mask),
    ]);
    expect(all.code, all.err).toBe(0);
    const [logits, states] = [await all.read("logits"), await all.read("states")];
    expect([logits.shape, states.shape]).toEqual([
      [B, 3],
      [3, B, 16],
    ]);
    for (const [b, n] of lengths.entries()) {
      const alone = await ran(spec, weights, given(b, n));
      expect(
        compare(logits.data.slice(b * 3, b * 3 + 3), (await alone.read("logits")).data, {
          dtype: "f32",
          terms: 24,
        }),
      ).toMatchObject({ ok: true });
      const own = (await alone.read("states")).data;
      const mine = [0, 1, 2].flatMap((l) =>
        Array.from(states.data.slice((l * B + b) * 16, (l * B + b + 1) * 16)),
      );
      expect(compare(mine, own, { dtype: "f32", terms: 24 })).toMatchObject({ ok: true });
    }
  });

  it("say what is wrong with a mask or with coordinates", async () => {
    const spec = here.at("wrong.heddle");
    writeFileSync(
      spec,
      encoder
        .replace("PADDING", "")
        .replace("FRONT", "input features")
        .replace("BACK", "position grid 9 tile 10"),
    );
    const weights = weightsOf(spec);
    const features = f32("features", [1, 3, 16], noise(48, 1));
    const told = async (...more: readonly TensorToWrite[]) =>
      (await ran(spec, weights, [features, ...more])).err;
    const coords = f32("coords", [1, 3, 2], new Float32Array([0, 0, 10, 89, 5, 90]));
    expect(await told()).toMatch(/has no tensor 'coords'/);
    expect(await told(coords)).toContain(
      "tile 2 has y = 90, outside the grid of 9 cells of 10 pixels: coordinates go from 0 to 89",
    );
    const good = f32("coords", [1, 3, 2], new Float32Array(6));
    expect(await told(good, ints("padding_mask", [1, 3], new Int32Array([1, 0, 0])))).toMatch(
      /the padding mask hides token 0 of sequence 0: padding must stand at the end/,
    );
    expect(await told(good, ints("padding_mask", [1, 3], new Int32Array([1, 1, 1])))).toMatch(
      /the padding mask hides all of sequence 0/,
    );
    expect(await told(good, ints("padding_mask", [1, 2], new Int32Array(2)))).toMatch(
      /must be \[batch = 1, N = 3\]/,
    );
  });
});
