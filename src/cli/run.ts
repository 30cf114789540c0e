/** `heddle run`: a model with a checkpoint, on tokens of a file or the bytes of a text. */
import { modelDefinition } from "../../codegen/ts/definition.ts";
import { bitsOver } from "../../runtime/bits.ts";
import type { Bits } from "../../runtime/bits.ts";
import type { Checkpoint } from "../../runtime/checkpoint.ts";
import { inputError } from "../../runtime/input-error.ts";
import { positionsFit, tokensOf } from "../../runtime/inputs.ts";
import { model } from "../../runtime/model.ts";
import { writeWhole } from "../../runtime/node.ts";
import { writeSafetensors } from "../../runtime/safetensors.ts";
import type { TensorToWrite } from "../../runtime/safetensors.ts";
import { loadWeights } from "../../runtime/weights.ts";
import { compileSpec } from "../compile.ts";
import { modelGraph } from "../model.ts";
import { runReference } from "../reference.ts";
import type { ModelSpec, Spec } from "../spec.ts";
import { exitCodes, usageError } from "./failure.ts";
import type { ExitCode } from "./failure.ts";
import { gpuOptions, openCudaDevice, targetsFor } from "./gpu.ts";
import { grouped, progressOn, traceTo } from "./io.ts";
import type { Io } from "./io.ts";
import { readBytes } from "./read-file.ts";
import { checkedSpec, modelNamed } from "./spec-file.ts";
import type { Format } from "./spec-file.ts";
import { axes, floats, integers, withTensors } from "./tensors.ts";
import type { TensorFile } from "./tensors.ts";
import { openWeights } from "./weights.ts";
import type { Renames } from "./weights.ts";

export const runDevices = ["auto", "wasm", "webgpu", "cuda", "reference"] as const;

export type RunOptions = {
  readonly weights: string;
  readonly rename?: Renames;
  readonly inputs?: string;
  readonly text?: string;
  readonly output?: string;
  readonly hidden: boolean;
  readonly bits: boolean;
  readonly window?: number;
  readonly device: (typeof runDevices)[number];
  readonly threads?: number;
  readonly json: boolean;
  readonly format: Format;
};

/** Tokens [B, N] or features [B, N, dim]. */
type Inputs = { readonly data: Int32Array | Float32Array; readonly N: number; readonly B: number };
type Outputs = { readonly result: Float32Array; readonly hidden?: Float32Array };
/** A model ready to run, whatever computes it. */
type Runner = {
  readonly forward: (inputs: Inputs) => Promise<Outputs>;
  readonly bits: (
    tokens: Int32Array,
    window: number,
    progress: (done: number, of: number) => void,
  ) => Promise<Bits>;
  readonly dispose: () => Promise<void>;
};

export async function run(path: string, name: string, options: RunOptions, io: Io): Promise<ExitCode> {
  if ((options.inputs === undefined) === (options.text === undefined))
    throw usageError("give either --inputs or --text");
  if (options.output === undefined && !options.bits)
    throw usageError("there is nothing to do: give --output for a file, --bits for a figure, or both");
  if (options.hidden && options.output === undefined) throw usageError("--hidden needs --output");
  const file = await checkedSpec(path, options.format, io);
  if (file === null) return exitCodes.diagnostics;
  const found = modelNamed(file.spec, name, path);
  const scores = found.input === "tokens" && found.head !== "none";
  if (options.bits && !scores)
    throw inputError(`model '${name}' has no head over tokens, so there are no bits to measure`);
  const inputs = await readInputs(found, options);

  const progress = progressOn(io);
  try {
    progress.say(`compiling ${name}`);
    const runner = await runnerOf(file.spec, found, inputs, options, io, progress.say);
    try {
      if (options.output !== undefined) {
        progress.say(`${name} on ${grouped(inputs.B * inputs.N)} tokens`);
        await writeOutputs(options.output, found, inputs, await runner.forward(inputs));
      }
      if (options.bits) {
        const figure = await measure(runner, found, inputs, options, progress.say);
        progress.end();
        io.out(options.json ? `${JSON.stringify(figure)}\n` : figureText(figure));
      }
    } finally {
      await runner.dispose();
    }
  } finally {
    progress.end();
  }
  return exitCodes.ok;
}

async function readInputs(spec: ModelSpec, { inputs, text }: RunOptions): Promise<Inputs> {
  if (text !== undefined) {
    if (spec.input !== "tokens" || spec.vocab !== 256)
      throw inputError(
        `--text reads bytes, for a vocabulary of 256; model '${spec.name}' takes ${spec.input === "tokens" ? `a vocabulary of ${spec.vocab}` : "features"}`,
      );
    const bytes = await readBytes(text);
    if (bytes.length === 0) throw inputError(`'${text}' is empty`);
    return { data: Int32Array.from(bytes), N: bytes.length, B: 1 };
  }
  const path = inputs ?? "";
  return withTensors(path, async (file) => {
    const tokens = spec.input === "tokens";
    const entry = file.entry(spec.input, tokens ? integers : floats);
    const { batch: B = 0, N = 0 } = axes(entry, path, tokens ? ["batch", "N"] : ["batch", "N", spec.dim]);
    await refuseMask(file);
    return { data: await file.read(entry), N, B };
  });
}

/** A mask that hides something would be ignored, and the numbers be wrong without a word. */
async function refuseMask(file: TensorFile): Promise<void> {
  for (const name of ["padding_mask", "encoder_padding_mask"]) {
    const entry = file.has(name);
    if (entry === undefined) continue;
    const masked = Array.from(await file.read(entry)).filter((bit) => bit !== 0).length;
    if (masked > 0)
      throw inputError(
        `'${name}' of ${file.path} hides ${masked} tokens; this version has no padding masks. Run the sequences one by one, each at its own length`,
      );
  }
}

async function runnerOf(
  spec: Spec,
  found: ModelSpec,
  inputs: Inputs,
  options: RunOptions,
  io: Io,
  say: (text: string) => void,
): Promise<Runner> {
  const weights = await openWeights(options.weights, options.rename);
  try {
    if (options.device === "reference") {
      const runner = await referenceRunner(found, weights, say);
      await weights.close();
      return runner;
    }
    const trace = traceTo(io);
    const [compiled] = compileSpec(spec, {
      target: await targetsFor(options.device, io.env),
      names: [found.name],
      hidden: options.hidden,
      ...(options.bits ? {} : { length: inputs.N }),
      ...(trace === undefined ? {} : { trace }),
    });
    if (compiled === undefined) throw new Error("heddle: internal: nothing was compiled");
    const definition = { ...modelDefinition(found, compiled.hidden), program: compiled.program };
    const session = await model(definition).create({
      weights,
      device: options.device,
      webgpu: gpuOptions,
      cuda: () => openCudaDevice(io.env),
      ...(options.threads === undefined ? {} : { threads: options.threads }),
      warmup: (done, of) => say(`kernel ${done} of ${of}`),
      progress: (done, of) => say(`weight ${done} of ${of}`),
    });
    return {
      forward: async ({ data, N, B }) => {
        const made = await session.forward(Float32Array.from(data), { batch: B, length: N });
        const result = "logits" in made ? made.logits : made.out;
        return made.hidden === undefined ? { result } : { result, hidden: made.hidden };
      },
      bits: (tokens, window, progress) => session.bits(tokens, { window, progress }),
      dispose: async () => {
        session.dispose();
        await weights.close();
      },
    };
  } catch (error) {
    await weights.close();
    throw error;
  }
}

/** Device `reference`: the graph in f64. */
async function referenceRunner(
  spec: ModelSpec,
  source: Checkpoint,
  say: (text: string) => void,
): Promise<Runner> {
  const graph = modelGraph(spec);
  const wanted = {
    weights: graph.weights.map(({ name, shape }) => ({ name, shape, layout: "rows" as const })),
    accepts: [
      ...graph.aliases.flatMap(({ alias, of }) =>
        graph.weights.filter((w) => w.name === of).map(({ shape }) => ({ name: alias, shape, sameAs: of })),
      ),
      ...graph.ignored,
    ],
  };
  const weights = new Map<string, Float32Array>();
  await loadWeights(wanted, source, (_, data, weight) => {
    weights.set(weight.name, data.slice());
    say(`weight ${weights.size} of ${wanted.weights.length}`);
  });
  const forward = ({ data, N, B }: Inputs): Outputs => {
    positionsFit({ name: spec.name, positions: spec.positions?.rows ?? null }, N);
    if (spec.input === "tokens") tokensOf(data, N, spec.vocab);
    const { outputs, hidden } = runReference(graph, { [spec.input]: data }, weights, { N, B });
    const layer = B * N * spec.dim;
    const stacked = new Float32Array(hidden.length * layer);
    hidden.forEach((h, i) => stacked.set(h, i * layer));
    const result = outputs[spec.head === "none" ? "out" : "logits"];
    return { result: Float32Array.from(result ?? []), hidden: stacked };
  };
  return {
    forward: (inputs) => Promise.resolve(forward(inputs)),
    bits: (tokens, window, progress) => {
      const logits = (data: Int32Array) => Promise.resolve(forward({ data, N: data.length, B: 1 }).result);
      return bitsOver(tokens, spec.vocab, window, logits, progress);
    },
    dispose: () => Promise.resolve(),
  };
}

async function writeOutputs(path: string, spec: ModelSpec, inputs: Inputs, made: Outputs): Promise<void> {
  const { N, B } = inputs;
  const [name, width] = spec.head === "none" ? ["out", spec.dim] : ["logits", spec.vocab];
  const tensors: TensorToWrite[] = [{ name, dtype: "F32", shape: [B, N, width], data: made.result }];
  if (made.hidden !== undefined)
    tensors.push({
      name: "hidden",
      dtype: "F32",
      shape: [spec.layers + 1, B, N, spec.dim],
      data: made.hidden,
    });
  await writeWhole(path, writeSafetensors(tensors));
}

type Figure = {
  /** Mean bits per token over all predicted tokens. */
  readonly bits: number;
  readonly predicted: number;
  readonly window: number;
  /** Mean of each window; of all sequences of a batch, one after the other. */
  readonly windows: readonly number[];
  readonly seconds: number;
};

/** Without `--window`: the longest segment, which is what the model can look back on, or the whole sequence. */
function windowOf(spec: ModelSpec, N: number): number {
  const longest = Math.max(...spec.attention.branches.map((b) => b.segment));
  return Math.min(longest, N - 1, spec.positions === null ? Infinity : spec.positions.rows - 2);
}

async function measure(
  runner: Runner,
  spec: ModelSpec,
  { data, N, B }: Inputs,
  { window }: RunOptions,
  say: (text: string) => void,
): Promise<Figure> {
  if (N < 2) throw inputError(`there is nothing to predict in a sequence of ${N} token`);
  const W = window ?? windowOf(spec, N);
  const start = performance.now();
  const windows: number[] = [];
  let sum = 0;
  for (let b = 0; b < B; b++) {
    const tokens = Int32Array.from(data.subarray(b * N, (b + 1) * N));
    const found = await runner.bits(tokens, W, (done, of) =>
      say(`window ${done} of ${of}${B > 1 ? `, sequence ${b + 1} of ${B}` : ""}`),
    );
    windows.push(...found.windows);
    sum += found.mean * (N - 1);
  }
  const predicted = B * (N - 1);
  return {
    bits: sum / predicted,
    predicted,
    window: W,
    windows,
    seconds: (performance.now() - start) / 1000,
  };
}

const figureText = ({ bits, predicted, window, windows, seconds }: Figure): string =>
  `${bits.toFixed(5)} bits per token, mean of ${grouped(predicted)} predicted tokens in ${windows.length} ` +
  `window${windows.length === 1 ? "" : "s"} of ${grouped(window)} (${seconds.toFixed(1)} s, ` +
  `${grouped(Math.round(predicted / seconds))} tokens per second)\n`;
