/** `heddle run`: a model with a checkpoint, on tokens of a file or the bytes of a text. */
import { modelDefinition } from "../../codegen/ts/definition.ts";
import { bitsOver } from "../../runtime/bits.ts";
import type { Bits } from "../../runtime/bits.ts";
import type { Checkpoint } from "../../runtime/checkpoint.ts";
import { inputError } from "../../runtime/input-error.ts";
import { forward, rowsFor } from "../../runtime/forward.ts";
import type { Forward, ForwardInputs, Pass } from "../../runtime/forward.ts";
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
import { generate } from "./generate.ts";
import type { GenerateOptions } from "./generate.ts";
import { gpuOptions, openCudaDevice, targetsFor } from "./gpu.ts";
import { openNativeDevice, vectorsFor } from "./native.ts";
import { grouped, progressOn, traceTo } from "./io.ts";
import type { Io } from "./io.ts";
import { checkedSpec, modelNamed } from "./spec-file.ts";
import type { Format } from "./spec-file.ts";
import { readInputs } from "./model-inputs.ts";
import { openWeights } from "./weights.ts";
import type { Renames } from "./weights.ts";

export const runDevices = ["auto", "wasm", "native", "webgpu", "cuda", "reference"] as const;

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
  readonly linear: "own" | "cublaslt";
  readonly json: boolean;
  readonly format: Format;
};

/** A model ready to run, whatever computes it. */
type Runner = {
  readonly forward: (inputs: ForwardInputs) => Promise<Forward>;
  readonly bits: (
    tokens: Int32Array,
    window: number,
    progress: (done: number, of: number) => void,
  ) => Promise<Bits>;
  readonly dispose: () => Promise<void>;
};

export async function run(
  path: string,
  name: string,
  options: RunOptions & GenerateOptions,
  io: Io,
): Promise<ExitCode> {
  if (options.prompt !== undefined || options.generate !== undefined)
    return generate(path, name, options, io);
  if ((options.inputs === undefined) === (options.text === undefined))
    throw usageError("give either --inputs or --text, or --prompt");
  if (options.output === undefined && !options.bits)
    throw usageError("there is nothing to do: give --output for a file, --bits for a figure, or both");
  if (options.hidden && options.output === undefined) throw usageError("--hidden needs --output");
  const file = await checkedSpec(path, options.format, io);
  if (file === null) return exitCodes.diagnostics;
  const found = modelNamed(file.spec, name, path);
  const scores = found.input === "tokens" && found.head !== "none" && found.pool === null;
  if (options.bits && !scores)
    throw inputError(`model '${name}' has no head over tokens, so there are no bits to measure`);
  const inputs = await readInputs(found, options);

  const progress = progressOn(io);
  try {
    progress.say(`compiling ${name}`);
    const runner = await runnerOf(file.spec, found, inputs, options, io, progress.say);
    try {
      if (options.output !== undefined) {
        progress.say(`${name} on ${grouped(inputs.batch * inputs.length)} tokens`);
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

async function runnerOf(
  spec: Spec,
  found: ModelSpec,
  inputs: ForwardInputs,
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
      ...(await vectorsFor(options.device)),
      ...(options.bits ? {} : { length: rowsFor(modelDefinition(found), inputs.length) }),
      ...(trace === undefined ? {} : { trace }),
    });
    if (compiled === undefined) throw new Error("heddle: internal: nothing was compiled");
    const definition = { ...modelDefinition(found, compiled.hidden), program: compiled.program };
    const session = await model(definition).create({
      weights,
      device: options.device,
      webgpu: gpuOptions,
      cuda: () => openCudaDevice(io.env, { linear: options.linear }),
      native: () =>
        openNativeDevice(io.env, options.threads === undefined ? {} : { threads: options.threads }),
      ...(options.threads === undefined ? {} : { threads: options.threads }),
      warmup: (done, of) => say(`kernel ${done} of ${of}`),
      progress: (done, of) => say(`weight ${done} of ${of}`),
    });
    return {
      forward: async ({ input, ...given }) => {
        const made = await session.forward(Float32Array.from(input), given);
        return { ...made, result: "logits" in made ? made.logits : made.out };
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
  const definition = modelDefinition(spec);
  const pass: Pass = async (at, inputs) => {
    const named = Object.fromEntries(graph.inputs.map(({ name }, i) => [name, inputs[i] ?? []]));
    const { outputs, hidden } = runReference(graph, named, weights, at);
    const stacked = (arrays: readonly Float64Array[]) =>
      Float32Array.from(arrays.flatMap((a) => Array.from(a)));
    const states = Array.from(
      { length: spec.layers + 1 },
      (_, i) => outputs[`state.${i}`] ?? new Float64Array(),
    );
    return {
      result: Float32Array.from(outputs[definition.output] ?? []),
      ...(definition.states === true ? { states: stacked(states) } : {}),
      hidden: stacked(hidden),
    };
  };
  const run = (inputs: ForwardInputs) => forward(definition, inputs, pass);
  return {
    forward: run,
    bits: (tokens, window, progress) => {
      const logits = async (input: Int32Array) =>
        (await run({ input, length: input.length, batch: 1 })).result;
      return bitsOver(tokens, spec.vocab, window, logits, progress);
    },
    dispose: () => Promise.resolve(),
  };
}

async function writeOutputs(
  path: string,
  spec: ModelSpec,
  { batch: B, length }: ForwardInputs,
  made: Forward,
): Promise<void> {
  const definition = modelDefinition(spec);
  const N = rowsFor(definition, length);
  const { output: name, pooled } = definition;
  const width = name === "out" ? spec.dim : (definition.classes ?? spec.vocab);
  const shape = pooled === true ? [B, width] : [B, N, width];
  const tensors: TensorToWrite[] = [{ name, dtype: "F32", shape, data: made.result }];
  if (made.states !== undefined)
    tensors.push({ name: "states", dtype: "F32", shape: [spec.layers + 1, B, spec.dim], data: made.states });
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
  { input, length: N, batch: B }: ForwardInputs,
  { window }: RunOptions,
  say: (text: string) => void,
): Promise<Figure> {
  if (N < 2) throw inputError(`there is nothing to predict in a sequence of ${N} token`);
  const W = window ?? windowOf(spec, N);
  const start = performance.now();
  const windows: number[] = [];
  let sum = 0;
  for (let b = 0; b < B; b++) {
    const tokens = Int32Array.from({ length: N }, (_, n) => input[b * N + n] ?? 0);
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
