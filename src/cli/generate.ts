/** `heddle run … --prompt TEXT --generate N`: a model's continuation of a text, as it comes. */
import { InvalidArgumentError, Option } from "commander";
import type { Command } from "commander";
import { modelReach } from "../../codegen/decode.ts";
import { modelDefinition } from "../../codegen/ts/definition.ts";
import { bytes, cl100k, generation } from "../../runtime/generate.ts";
import type { GenerationSession, Tokenizer } from "../../runtime/generate.ts";
import { inputError } from "../../runtime/input-error.ts";
import { compileSpec } from "../compile.ts";
import type { ModelSpec } from "../spec.ts";
import { exitCodes, usageError } from "./failure.ts";
import type { ExitCode } from "./failure.ts";
import { gpuOptions, openCudaDevice, targetsFor } from "./gpu.ts";
import { openNativeDevice, vectorsFor } from "./native.ts";
import { grouped, progressOn, traceTo } from "./io.ts";
import type { Io } from "./io.ts";
import { count, seed } from "./options.ts";
import type { RunOptions } from "./run.ts";
import { checkedSpec, modelNamed } from "./spec-file.ts";
import { openWeights } from "./weights.ts";

export type GenerateOptions = {
  readonly prompt?: string;
  readonly generate?: number;
  readonly temperature?: number;
  readonly topK?: number;
  readonly topP?: number;
  readonly repetitionPenalty?: number;
  readonly seed?: number;
  readonly stop?: readonly string[];
};

const real = (text: string): number => {
  const value = Number(text);
  if (text.trim() === "" || !Number.isFinite(value)) throw new InvalidArgumentError("It must be a number.");
  return value;
};

/** Options of `heddle run` for generation. */
export const generateOptions = (command: Command): Command =>
  command
    .option("--prompt <text>", "a text to continue")
    .addOption(new Option("--generate <n>", "tokens to continue it by (default: 256)").argParser(count))
    .addOption(new Option("--temperature <t>", "0: the likeliest token (default: 1)").argParser(real))
    .addOption(new Option("--top-k <k>", "draw from the k likeliest tokens").argParser(count))
    .addOption(
      new Option("--top-p <p>", "draw from the likeliest tokens of this probability").argParser(real),
    )
    .addOption(new Option("--repetition-penalty <x>", "above 1: fewer repetitions").argParser(real))
    .addOption(new Option("--seed <n>", "the same seed draws the same tokens (default: 0)").argParser(seed))
    .option("--stop <text...>", "texts that end the continuation");

/** The vocabulary of the LongNet paper, with its special tokens. */
const CL100K = 100_277;

async function tokenizerFor({ name, vocab }: ModelSpec): Promise<Tokenizer> {
  if (vocab === 256) return bytes;
  if (vocab >= CL100K && vocab < CL100K + 1024) return cl100k();
  throw inputError(
    `the command line knows bytes (a vocabulary of 256) and cl100k_base (${CL100K}); model '${name}' has ${vocab}: use heddle/runtime/generate with a tokenizer of your own`,
  );
}

/** Writes what the model says to `out` as it comes, then its speed and the size of its cache to `err`. */
export async function generate(
  path: string,
  name: string,
  options: RunOptions & GenerateOptions,
  io: Io,
): Promise<ExitCode> {
  const { prompt, device } = options;
  if (prompt === undefined) throw usageError("--generate needs --prompt");
  for (const [flag, given] of [
    ["--inputs", options.inputs],
    ["--text", options.text],
    ["--output", options.output],
    ["--bits", options.bits ? true : undefined],
  ] as const)
    if (given !== undefined) throw usageError(`${flag} does not go with --prompt`);
  if (device === "reference") throw usageError("--device reference does not generate");
  const file = await checkedSpec(path, options.format, io);
  if (file === null) return exitCodes.diagnostics;
  const found = modelNamed(file.spec, name, path);
  const reach = modelReach(found);
  if (reach.tokens === 0) throw inputError(reach.why ?? "");
  const tokenizer = await tokenizerFor(found);
  const tokens = tokenizer.encode(prompt);

  const progress = progressOn(io);
  const trace = traceTo(io);
  progress.say(`compiling ${name}`);
  const weights = await openWeights(options.weights, options.rename);
  let session: GenerationSession | undefined;
  try {
    const [compiled] = compileSpec(file.spec, {
      target: await targetsFor(device, io.env),
      names: [name],
      generate: true,
      ...(await vectorsFor(device)),
      ...(trace === undefined ? {} : { trace }),
    });
    if (compiled === undefined) throw new Error("heddle: internal: nothing was compiled");
    const most = options.generate ?? 256;
    session = await generation(
      { ...modelDefinition(found), program: compiled.program },
      {
        weights,
        device,
        tokenizer,
        webgpu: gpuOptions,
        cuda: () => openCudaDevice(io.env, { linear: options.linear }),
        native: () =>
          openNativeDevice(io.env, options.threads === undefined ? {} : { threads: options.threads }),
        // A branch over everything needs a limit; here it is known.
        ...(compiled.program.plan.decoding?.grows === true && reach.why === null
          ? { capacity: tokens.length + most }
          : {}),
        ...(options.threads === undefined ? {} : { threads: options.threads }),
        warmup: (done, of) => progress.say(`kernel ${done} of ${of}`),
        progress: (done, of) => progress.say(`weight ${done} of ${of}`),
      },
    );
    progress.say(`reading ${grouped(tokens.length)} tokens`);
    await write(session, tokens, options, io, progress.end);
  } finally {
    progress.end();
    session?.dispose();
    await weights.close();
  }
  return exitCodes.ok;
}

async function write(
  session: GenerationSession,
  tokens: readonly number[],
  { generate: most, stop, temperature, topK, topP, repetitionPenalty, seed: from }: GenerateOptions,
  io: Io,
  begun: () => void,
): Promise<void> {
  const given = { temperature, topK, topP, repetitionPenalty, seed: from, stop, maxTokens: most };
  const set = Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined));
  const start = performance.now();
  let first = start;
  let made = 0;
  for await (const { text } of session.generate(tokens, set)) {
    if (made === 0) {
      begun();
      first = performance.now();
    }
    made++;
    io.out(text);
  }
  io.out("\n");
  const seconds = (performance.now() - first) / 1000;
  const cache = session.cache();
  const speed = made > 1 && seconds > 0 ? `, ${((made - 1) / seconds).toFixed(1)} tokens per second` : "";
  io.err(
    `${session.device}: ${grouped(tokens.length)} tokens read and the first said in ${((first - start) / 1000).toFixed(2)} s, ` +
      `${grouped(made)} generated${speed}\n` +
      `cache ${mebibytes(cache.bytes)}; one of all these tokens would take ${mebibytes(cache.dense)}\n`,
  );
}

const mebibytes = (n: number): string => `${(n / 2 ** 20).toFixed(2)} MiB`;
