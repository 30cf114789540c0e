/** `heddle import`: a configuration, or the names and shapes of weights, to a spec. */
import { stat } from "node:fs/promises";
import { basename } from "node:path";
import { print } from "../../grammar/index.ts";
import { inputError } from "../../runtime/input-error.ts";
import { fileSource, writeWhole } from "../../runtime/node.ts";
import { readHeader, readTensor } from "../../runtime/safetensors.ts";
import { check } from "../check.ts";
import { isError } from "../diagnostic.ts";
import { importConfig } from "../import.ts";
import type { Imported } from "../import.ts";
import { importWeights } from "../import/weights.ts";
import type { Architecture } from "../import.ts";
import { exitCodes, usageError } from "./failure.ts";
import type { ExitCode } from "./failure.ts";
import type { Io } from "./io.ts";
import { readText } from "./read-file.ts";
import { report } from "./spec-file.ts";
import type { Format } from "./spec-file.ts";

export type ImportCommand = {
  readonly name?: string;
  readonly architecture?: Architecture;
  /** A checkpoint: torchscale's configuration does not say how many learned positions a model has, its weights do. */
  readonly weights?: string;
  readonly stdout: boolean;
  readonly force: boolean;
  readonly format: Format;
};

/** Writes NAME.heddle into the working folder, or to the output. */
export async function importCommand(path: string, options: ImportCommand, io: Io): Promise<ExitCode> {
  const name = options.name ?? identifier(basename(path).replace(/\.(json|safetensors)$/i, ""));
  const { ast, diagnostics } = /\.json$/i.test(path)
    ? await fromConfig(path, name, options)
    : await fromWeights(path, name, options);
  // What torchscale accepts may still be no good model: the checker has the last word.
  const judged = ast === null ? [] : check(ast).diagnostics;
  const all = [...diagnostics, ...judged];
  const quiet = options.format !== "pretty" && options.stdout && !all.some(isError);
  if (all.length > 0 && !quiet) report([{ diagnostics: all, source: null }], options.format, io);
  if (ast === null || all.some(isError)) return exitCodes.diagnostics;

  const spec = print(ast);
  if (options.stdout) {
    io.out(spec);
    return exitCodes.ok;
  }
  const target = `${name}.heddle`;
  const there = await stat(target).catch(() => null);
  if (there !== null && !options.force)
    throw inputError(`${target} exists; give --force to replace it, --name for another name or --stdout`);
  await writeWhole(target, spec);
  io.out(`${target}\n`);
  return exitCodes.ok;
}

async function fromConfig(path: string, name: string, options: ImportCommand): Promise<Imported> {
  const text = await readText(path);
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (error) {
    throw inputError(`${path} is not JSON: ${error instanceof Error ? error.message : String(error)}`);
  }
  const positions = options.weights === undefined ? null : await positionsOf(options.weights);
  if (positions !== null && typeof json === "object" && json !== null && !("positions" in json))
    json = { ...json, positions };
  return importConfig(json, {
    name,
    ...(options.architecture === undefined ? {} : { architecture: options.architecture }),
  });
}

/** What the tensors of a checkpoint tell. */
async function fromWeights(path: string, name: string, options: ImportCommand): Promise<Imported> {
  if (options.architecture !== undefined || options.weights !== undefined)
    throw usageError("--architecture and --weights belong to a configuration, a .json file");
  const source = await fileSource(path);
  try {
    const { tensors } = await readHeader(source);
    const shapes = new Map([...tensors.values()].map((t) => [t.name, t.shape]));
    const [table, head] = ["embed_tokens.weight", "output_projection.weight"].map((n) => tensors.get(n));
    let tied = false;
    if (table !== undefined && head !== undefined && String(table.shape) === String(head.shape)) {
      const [a, b] = [await readTensor(source, table), await readTensor(source, head)];
      tied = a.every((x, i) => x === b[i]);
    }
    return importWeights(shapes, { name, tied });
  } finally {
    await source.close();
  }
}

/** Rows of a checkpoint's learned positions; null where it has none. */
async function positionsOf(path: string): Promise<number | null> {
  const source = await fileSource(path);
  try {
    const { tensors } = await readHeader(source);
    return tensors.get("embed_positions.weight")?.shape[0] ?? null;
  } finally {
    await source.close();
  }
}

/** A file's name as a name of the language. */
const identifier = (text: string): string => {
  const word = text.replace(/[^A-Za-z0-9_]+/g, "_").replace(/^_+|_+$/g, "");
  return /^[A-Za-z]/.test(word) ? word : "longnet";
};
