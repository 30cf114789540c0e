/** `heddle import`: torchscale's configuration to a spec. */
import { stat } from "node:fs/promises";
import { basename } from "node:path";
import { print } from "../../grammar/index.ts";
import { inputError } from "../../runtime/input-error.ts";
import { writeWhole } from "../../runtime/node.ts";
import { check } from "../check.ts";
import { isError } from "../diagnostic.ts";
import { importConfig } from "../import.ts";
import { exitCodes } from "./failure.ts";
import type { ExitCode } from "./failure.ts";
import type { Io } from "./io.ts";
import { readText } from "./read-file.ts";
import { report } from "./spec-file.ts";
import type { Format } from "./spec-file.ts";

export type ImportCommand = {
  readonly name?: string;
  readonly architecture?: "LongNetDecoder" | "LongNetEncoder";
  readonly stdout: boolean;
  readonly force: boolean;
  readonly format: Format;
};

/** Writes NAME.heddle into the working folder, or to the output. */
export async function importCommand(path: string, options: ImportCommand, io: Io): Promise<ExitCode> {
  const text = await readText(path);
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (error) {
    throw inputError(`${path} is not JSON: ${error instanceof Error ? error.message : String(error)}`);
  }
  const name = options.name ?? identifier(basename(path).replace(/\.json$/i, ""));
  const { ast, diagnostics } = importConfig(json, {
    name,
    ...(options.architecture === undefined ? {} : { architecture: options.architecture }),
  });
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

/** A file's name as a name of the language. */
const identifier = (text: string): string => {
  const word = text.replace(/[^A-Za-z0-9_]+/g, "_").replace(/^_+|_+$/g, "");
  return /^[A-Za-z]/.test(word) ? word : "longnet";
};
