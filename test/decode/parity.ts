/** Decoding on a device beside the forward pass of the same device: models, weights, and the two compared row by row. */
import type { Device } from "../../runtime/device.ts";
import { memorySource, writeSafetensors } from "../../runtime/safetensors.ts";
import { entryOf, variantFor } from "../../runtime/plan.ts";
import type { Program } from "../../runtime/plan.ts";
import { decodingOf } from "../../runtime/generate/decoding.ts";
import { xposRows } from "../../runtime/tables.ts";
import { loadWeights } from "../../runtime/weights.ts";
import { compileSpec, readSpec } from "../../src/compile.ts";
import type { TargetName } from "../../src/compile.ts";
import type { ModelSpec } from "../../src/spec.ts";
import { normal } from "../attention/run.ts";

/** Small models that have between them all branches, offset rules, positions and ways to combine that decoding knows. */
export const MODELS: { readonly [name: string]: string } = {
  nested: `attention a { heads 6 head_dim 8 causal true
    branch segment 4 dilation 1  branch segment 8 dilation 2  branch segment 24 dilation 4  branch segment 48 dilation 6
    offset head % dilation }
  model m { kind decoder vocab 37 dim 48 layers 2 ffn 40 gelu attention a position xpos base 4 norm sub_ln }`,
  torchscale: `attention a { heads 8 head_dim 4 causal true
    branch i in 0..3 { segment 8 * 2 ** i  dilation 2 ** i } compat torchscale }
  model m { kind decoder vocab 29 dim 32 layers 2 ffn 36 swish attention a position learned 256 norm pre_ln }`,
  grouped: `attention a { heads 6 kv_heads 2 head_dim 8 causal true
    branch segment 12 dilation 1  branch segment 36 dilation 3  branch segment 10 dilation 4 }
  model m { kind decoder vocab 37 dim 48 layers 1 ffn 40 relu attention a position xpos base 512 norm deepnorm }`,
  mean: `attention a { heads 4 head_dim 8 causal true combine mean
    branch segment 8 dilation 1  branch segment 24 dilation 2  branch segment 32 dilation 4 }
  model m { kind decoder vocab 37 dim 32 layers 2 ffn 40 gelu attention a norm post_ln }`,
  everything: `attention a { heads 4 head_dim 6 causal true
    branch segment 24 dilation 2  branch segment all dilation 3 }
  model m { kind decoder vocab 37 dim 24 layers 2 ffn 40 gelu attention a position xpos base 512 norm sub_ln }`,
};

/** Segments that leave several tiles of rows to keep and to move: as many tokens as only fast devices have time for. */
export const LONG: typeof MODELS = {
  long: `attention a { heads 2 head_dim 8 causal true
    branch segment 128 dilation 1  branch segment 256 dilation 2 }
  model m { kind decoder vocab 37 dim 16 layers 1 ffn 24 gelu attention a position xpos base 4 norm sub_ln }`,
};

/**
 * In 16 bits with a larger xPos base: blocks of 16 tokens, several in one tile, would scale queries and keys past f16 where the matrix
 * units multiply them (the forward pass of CUDA).
 */
export function modelOf(
  name: string,
  dtype = "",
  of = MODELS,
): { readonly spec: ModelSpec; readonly text: string } {
  const plain = of[name] ?? "";
  const text = (dtype === "f16" ? plain.replace("base 4 ", "base 64 ") : plain).replace(
    "causal true",
    `causal true ${dtype === "" ? "" : `dtype ${dtype}`}`,
  );
  const { spec, diagnostics } = readSpec(text);
  const found = spec?.models[0];
  if (found === undefined) throw new Error(diagnostics.map((d) => d.message).join("\n"));
  return { spec: found, text };
}

/** In chunks of 16 rows on WebAssembly and of 128 on GPUs, so that forward passes and long prompts take several. */
export function programOf(text: string, target: TargetName): Program {
  const { spec } = readSpec(text);
  const wish = { target, names: ["m"], generate: true, chunk: 16 };
  const [compiled] = spec === null ? [] : compileSpec(spec, wish);
  if (compiled === undefined) throw new Error("nothing was compiled");
  return compiled.program;
}

/** A checkpoint of random weights that keeps activations near 1. */
export function checkpointOf(program: Program, seed = 1) {
  const tensors = new Map<string, readonly number[]>();
  for (const { name, shape } of program.plan.weights) tensors.set(name, shape);
  const made = [...tensors].map(([name, shape], i) => {
    const count = shape.reduce((a, b) => a * b, 1);
    const scale = shape.length === 1 ? 0.2 : 1.5 / Math.sqrt(shape.at(-1) ?? 1);
    const shift = shape.length === 1 && name.endsWith("weight") ? 1 : 0;
    return {
      name,
      dtype: "F32" as const,
      shape,
      data: normal(count, seed + i).map((x) => x * scale + shift),
    };
  });
  return memorySource(writeSafetensors(made), "random.safetensors");
}

export const tokensFor = (vocab: number, count: number, seed: number): Int32Array =>
  Int32Array.from(normal(count, seed), (x) => Math.floor(Math.abs(x) * 1e4) % vocab);

/** 3 × the longest segment + 5, of those that end. */
export const lengthFor = (spec: ModelSpec): number =>
  3 * Math.max(1, ...spec.attention.branches.map((b) => b.segment).filter(Number.isFinite)) + 5;

export type Parity = {
  /** Of the logits, over all rows that were decoded. */
  readonly worst: number;
  readonly scale: number;
  readonly rows: number;
  readonly bytes: number;
  /** Chunks that the longest prompt was read in. */
  readonly chunks: number;
};

/**
 * Three sequences of N tokens, of which the first 0, about a third and all but some come as a prompt; then token by token in one batch.
 * Every row that is decoded is compared with that of the forward pass over the whole sequence.
 */
export async function decodeBeside(device: Device, program: Program, spec: ModelSpec): Promise<Parity> {
  const source = checkpointOf(program);
  const executable = await device.compile(program, {
    weights: (set) => loadWeights(program.plan, source, (index, data) => set(index, data)),
  });
  try {
    const decoding = decodingOf(executable);
    const how = program.plan.decoding;
    if (decoding === undefined || how === undefined) throw new Error(`${device.name} does not decode`);
    const N = lengthFor(spec);
    const lanes = 3;
    // Lanes need not be those of the batch.
    const laneOf = [2, 0, 1];
    const prompts = [0, Math.floor(N / 3), Math.max(1, N - 18)];
    await decoding.reserve({ capacity: N, lanes });
    const sequences = prompts.map((_, b) => tokensFor(spec.vocab, N, 50 + b));
    const whole = await Promise.all(
      sequences.map(async (tokens) => (await executable.run({ tokens }, { N, B: 1 }))["logits"]),
    );
    for (const [b, n] of prompts.entries())
      if (n > 0)
        await decoding.run(
          "prefill",
          {
            tokens: (sequences[b] ?? new Int32Array()).slice(0, n),
            place: Int32Array.of(0, laneOf[b] ?? 0, N),
          },
          { N: n, B: 1 },
        );
    let [worst, scale, rows] = [0, 0, 0];
    for (const logits of whole) for (const x of logits ?? []) scale = Math.max(scale, Math.abs(x));
    for (let i = 0; i < N; i++) {
      const active = prompts.flatMap((n, b) => (n + i < N ? [b] : []));
      const at = active.map((b) => (prompts[b] ?? 0) + i);
      const B = active.length;
      const place = Int32Array.of(...at, ...active.map((b) => laneOf[b] ?? 0), ...active.map(() => N));
      const run = { N: 1, B };
      if (how.moves.some((w) => at.some((t) => t > 0 && t % w === 0)))
        await decoding.run("promote", { place }, run);
      const given = Object.fromEntries(
        how.rows.map(({ input, table }) => [input, xposRows(table, B, (b) => at[b] ?? 0)]),
      );
      const tokens = Int32Array.from(active, (b, k) => sequences[b]?.[at[k] ?? 0] ?? 0);
      const { logits } = await decoding.run("step", { tokens, place, ...given }, run);
      active.forEach((b, k) => {
        for (let v = 0; v < spec.vocab; v++) {
          const error = Math.abs(
            (logits?.[k * spec.vocab + v] ?? NaN) - (whole[b]?.[(at[k] ?? 0) * spec.vocab + v] ?? NaN),
          );
          worst = Math.max(worst, Number.isNaN(error) ? Infinity : error);
        }
        rows++;
      });
    }
    const [cut] = variantFor(entryOf(executable.plan, "prefill"), N).chunks ?? [];
    const chunks = cut === undefined ? 1 : Math.ceil((prompts[2] ?? 0) / cut.rows);
    return { worst, scale, rows, bytes: executable.memory().states ?? 0, chunks };
  } finally {
    await executable.dispose();
  }
}

/**
 * A prompt's states are saved, then what the device holds goes (`lose`, or by making the states anew): a step is refused or empty until
 * they are restored, and then gives the bits that it gave before.
 */
export async function saveAndRestore(device: Device, program: Program, spec: ModelSpec, lose?: () => void) {
  const source = checkpointOf(program);
  const executable = await device.compile(program, {
    weights: (set) => loadWeights(program.plan, source, (index, data) => set(index, data)),
  });
  try {
    const decoding = decodingOf(executable);
    const how = program.plan.decoding;
    if (decoding === undefined || how === undefined) throw new Error(`${device.name} does not decode`);
    const tokens = tokensFor(spec.vocab, 20, 7);
    const place = (t: number) => Int32Array.of(t, 0, 40);
    const at = { capacity: 40, lanes: 1 };
    const prefill = () => decoding.run("prefill", { tokens, place: place(0) }, { N: 20, B: 1 });
    const early: unknown = await prefill().then(
      () => "a run without states was not refused",
      (error: unknown) => error,
    );
    await decoding.reserve(at);
    await prefill();
    const given = Object.fromEntries(
      how.rows.map(({ input, table }) => [input, xposRows(table, 1, () => 20)]),
    );
    const step = async () =>
      (await decoding.run("step", { tokens: Int32Array.of(3), place: place(20), ...given }, { N: 1, B: 1 }))[
        "logits"
      ];
    const states: Uint8Array[] = [];
    for (const index of how.states.keys()) states.push(await decoding.read(index));
    const expected = await step();
    let refused: unknown;
    if (lose !== undefined) {
      lose();
      refused = await step().catch((error: unknown) => error);
    }
    await decoding.reserve(at);
    for (const [index, bytes] of states.entries()) await decoding.write(index, bytes);
    const short = await decoding.write(0, new Uint8Array(4)).catch((error: unknown) => error);
    const same = String(await step()) === String(expected);
    // Room for more sequences lies elsewhere; runs at the same length must not use what they were bound to.
    await decoding.reserve({ ...at, lanes: 300 });
    const fresh = { tokens: Int32Array.of(3), place: place(0), ...given };
    await decoding.run("step", fresh, { N: 1, B: 1 });
    await prefill();
    return { same: same && String(await step()) === String(expected), early, refused, short };
  } finally {
    await executable.dispose();
  }
}
