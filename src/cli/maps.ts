/** `heddle maps`: what a query of a model attends, or how much each token or tile counts in a result. */
import { modelDefinition } from "../../codegen/ts/definition.ts";
import { inputError } from "../../runtime/input-error.ts";
import { attentionMaps } from "../../runtime/maps.ts";
import type { AttentionMaps, Place } from "../../runtime/maps.ts";
import { writeWhole } from "../../runtime/node.ts";
import { writeSafetensors } from "../../runtime/safetensors.ts";
import type { TensorToWrite } from "../../runtime/safetensors.ts";
import { rowsFor } from "../../runtime/forward.ts";
import type { ForwardInputs } from "../../runtime/forward.ts";
import { compileSpec } from "../compile.ts";
import { exitCodes, usageError } from "./failure.ts";
import type { ExitCode } from "./failure.ts";
import { gpuOptions, openCudaDevice, targetsFor } from "./gpu.ts";
import { grouped, progressOn, traceTo } from "./io.ts";
import type { Io } from "./io.ts";
import { readInputs } from "./model-inputs.ts";
import type { InputFiles } from "./model-inputs.ts";
import { checkedSpec, modelNamed } from "./spec-file.ts";
import type { Format } from "./spec-file.ts";
import { openWeights } from "./weights.ts";
import type { Renames } from "./weights.ts";

export const mapsDevices = ["auto", "wasm", "webgpu", "cuda"] as const;

export type MapsOptions = InputFiles & {
  readonly weights: string;
  readonly rename?: Renames;
  /** Absent: the relevance of what the model pools. */
  readonly query?: Place;
  readonly relevance: boolean;
  readonly layer?: number;
  readonly head?: number;
  readonly top: number;
  readonly output?: string;
  readonly device: (typeof mapsDevices)[number];
  readonly threads?: number;
  readonly json: boolean;
  readonly format: Format;
};

/** A list of tokens and their shares, for a reader, JSON and a file. */
type Found = {
  readonly title: string;
  readonly tokens: Int32Array;
  readonly weights: Float64Array;
  /** What belongs to none of the tokens, and what that is. */
  readonly rest: { readonly share: number; readonly what: string };
  readonly tensors: readonly TensorToWrite[];
};

export async function maps(path: string, name: string, options: MapsOptions, io: Io): Promise<ExitCode> {
  if ((options.inputs === undefined) === (options.text === undefined))
    throw usageError("give either --inputs or --text");
  const file = await checkedSpec(path, options.format, io);
  if (file === null) return exitCodes.diagnostics;
  const model = modelNamed(file.spec, name, path);
  const { query, head } = options;
  const relevance = options.relevance || query === undefined;
  if (query === undefined && model.pool === null)
    throw usageError(`model '${name}' pools nothing: name a token with --query`);
  if (relevance && head !== undefined)
    throw usageError("--head is of a query's own attention: relevance follows the mean of all heads");
  const layer = options.layer ?? model.layers - 1;
  if (layer >= model.layers)
    throw usageError(`--layer ${layer}: model '${name}' has ${model.layers}, from 0 on`);
  const inputs = await readInputs(model, options);
  if (inputs.batch !== 1) throw inputError(`a map is of one sequence; the file has ${inputs.batch}`);

  const progress = progressOn(io);
  const weights = await openWeights(options.weights, options.rename);
  try {
    progress.say(`compiling ${name}`);
    const trace = traceTo(io);
    const [compiled] = compileSpec(file.spec, {
      target: await targetsFor(options.device, io.env),
      names: [name],
      length: rowsFor(modelDefinition(model), inputs.length),
      // A query's own attention takes one layer; relevance all, or those from a layer on.
      maps: !relevance ? [layer] : options.layer === undefined ? true : layersFrom(layer, model.layers),
      ...(trace === undefined ? {} : { trace }),
    });
    if (compiled?.maps === undefined) throw new Error("heddle: internal: nothing was compiled");
    const session = await attentionMaps(
      { ...modelDefinition(model), maps: compiled.maps, program: compiled.program },
      {
        weights,
        device: options.device,
        webgpu: gpuOptions,
        cuda: () => openCudaDevice(io.env),
        ...(options.threads === undefined ? {} : { threads: options.threads }),
        progress: (done, of) => progress.say(`weight ${done} of ${of}`),
      },
    );
    try {
      progress.say(`${name} on ${grouped(inputs.length)} tokens`);
      const map = await session.read(inputs.input, sequenceOf(inputs));
      const found = relevance
        ? await relevanceIn(map, query, model.layers, options.layer, progress.say)
        : attendedIn(map, query ?? 0, layer, head);
      if (options.output !== undefined) await writeWhole(options.output, writeSafetensors(found.tensors));
      progress.end();
      io.out(options.json ? `${JSON.stringify(plain(found))}\n` : text(found, options.top));
    } finally {
      session.dispose();
    }
  } finally {
    progress.end();
    await weights.close();
  }
  return exitCodes.ok;
}

const layersFrom = (first: number, count: number): readonly number[] =>
  Array.from({ length: count - first }, (_, i) => first + i);

const sequenceOf = ({ length, coords, paddingMask }: ForwardInputs) => ({ length, coords, paddingMask });

const named = (place: Place): string => (place === "class" ? "the class token" : `token ${place}`);

function attendedIn(map: AttentionMaps, query: Place, layer: number, head: number | undefined): Found {
  const { tokens, weights, lost } = map.attentionOf(query, layer, head);
  return {
    title: `${named(query)} in layer ${layer}, ${head === undefined ? "mean of all heads" : `head ${head}`}: ${grouped(tokens.length)} tokens attended`,
    tokens,
    weights,
    rest: { share: lost, what: "padded slots and heads that leave the query out" },
    tensors: [
      { name: "tokens", dtype: "I32", shape: [tokens.length], data: tokens },
      { name: "weights", dtype: "F32", shape: [weights.length], data: Float32Array.from(weights) },
    ],
  };
}

async function relevanceIn(
  map: AttentionMaps,
  of: Place | undefined,
  count: number,
  first: number | undefined,
  say: (text: string) => void,
): Promise<Found> {
  say("relevance through the layers");
  const weights = await map.relevance(of === undefined ? {} : { of });
  const through =
    first === undefined || first === 0 ? `all ${count} layers` : `layers ${first} … ${count - 1}`;
  return {
    title: `relevance of ${grouped(weights.length)} tokens for ${of === undefined ? "the pooled result" : named(of)}, through ${through}`,
    tokens: Int32Array.from(weights, (_, i) => i),
    weights,
    rest: {
      share: Math.max(0, 1 - weights.reduce((a, b) => a + b, 0)),
      what: "the class token, padded slots and rows that heads leave out",
    },
    tensors: [{ name: "relevance", dtype: "F32", shape: [weights.length], data: Float32Array.from(weights) }],
  };
}

const plain = ({ title, tokens, weights, rest }: Found) => ({
  title,
  tokens: [...tokens],
  weights: [...weights],
  rest: rest.share,
});

function text({ title, tokens, weights, rest }: Found, top: number): string {
  const order = [...weights.keys()].sort((a, b) => (weights[b] ?? 0) - (weights[a] ?? 0)).slice(0, top);
  const most = weights[order[0] ?? 0] ?? 0;
  const percent = (share: number) => `${(100 * share).toFixed(share < 0.001 ? 4 : 2)} %`.padStart(10);
  const lines = order.map((i) => {
    const token = tokens[i] ?? 0;
    const share = weights[i] ?? 0;
    const bar = "█".repeat(most > 0 ? Math.round((24 * share) / most) : 0);
    return `${(token < 0 ? "class" : String(token)).padStart(10)} ${percent(share)}  ${bar}`.trimEnd();
  });
  const shown = order.reduce((sum, i) => sum + (weights[i] ?? 0), 0);
  const others = weights.reduce((a, b) => a + b, 0) - shown;
  return [
    title,
    ...lines,
    ...(order.length < weights.length
      ? [`${"others".padStart(10)} ${percent(others)}  ${grouped(weights.length - order.length)} tokens`]
      : []),
    ...(rest.share > 1e-4 ? [`${"–".padStart(10)} ${percent(rest.share)}  ${rest.what}`] : []),
    "",
  ].join("\n");
}
