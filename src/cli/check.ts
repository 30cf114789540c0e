/** `heddle check` and `heddle fmt`: spec files read, judged and laid out. */
import { format } from "../../grammar/index.ts";
import { writeWhole } from "../../runtime/node.ts";
import { inOrder, isError, limited } from "../diagnostic.ts";
import { exitCodes } from "./failure.ts";
import type { ExitCode } from "./failure.ts";
import { progressOn } from "./io.ts";
import type { Io } from "./io.ts";
import { readText } from "./read-file.ts";
import { readSpecFile, report } from "./spec-file.ts";
import type { Format, SpecFile } from "./spec-file.ts";
import { nullGpu, validate as validateShaders } from "./validate.ts";

export type CheckOptions = {
  /** Compile the shaders too, on Dawn's null backend. */
  readonly validate: boolean;
  readonly format: Format;
};

/** Says everything that is wrong with all the files. Warnings alone do not fail. */
export async function check(
  paths: readonly string[],
  { validate, format }: CheckOptions,
  io: Io,
): Promise<ExitCode> {
  const files: SpecFile[] = [];
  for (const path of paths) files.push(await readSpecFile(path));
  const all = validate ? await withShaders(files, io) : files;
  report(all, format, io);
  const bad = (file: SpecFile) => file.spec === null || file.diagnostics.some(isError);
  if (format === "pretty")
    for (const file of all) {
      const { spec, source, diagnostics } = file;
      if (spec === null || bad(file)) continue;
      const counts = [counted(spec.attentions.length, "attention"), counted(spec.models.length, "model")];
      const warnings = diagnostics.length === 0 ? [] : [counted(diagnostics.length, "warning")];
      const valid = validate ? [", shaders valid"] : [];
      io.out(`${source.file}: ok, ${[...counts, ...warnings].join(", ")}${valid.join("")}\n`);
    }
  return all.some(bad) ? exitCodes.diagnostics : exitCodes.ok;
}

/** The files with what WebGPU says of their shaders among their diagnostics. */
async function withShaders(files: readonly SpecFile[], io: Io): Promise<readonly SpecFile[]> {
  const gpu = await nullGpu();
  const progress = progressOn(io);
  const all: SpecFile[] = [];
  try {
    for (const file of files) {
      const { spec, ast, source, diagnostics } = file;
      progress.say(`validating ${source.file}`);
      const found = spec === null ? [] : await validateShaders(spec, ast, source, gpu);
      all.push({ ...file, diagnostics: inOrder([...diagnostics, ...limited(found)]) });
    }
  } finally {
    progress.end();
  }
  return all;
}

const counted = (n: number, what: string): string => `${n} ${what}${n === 1 ? "" : "s"}`;

export type FmtOptions = { readonly check: boolean; readonly format: Format };

/** Lays out files in place; with `check` only says which ones would change. Files with syntax errors stay as they are. */
export async function fmt(paths: readonly string[], options: FmtOptions, io: Io): Promise<ExitCode> {
  let code: ExitCode = exitCodes.ok;
  for (const path of paths) {
    const text = await readText(path);
    const result = format(text, path);
    if ("diagnostics" in result) {
      const diagnostics = result.diagnostics.filter(isError);
      report([{ diagnostics, source: { file: path, text } }], options.format, io);
      code = exitCodes.diagnostics;
    } else if (result.text !== text) {
      if (options.check) code = exitCodes.diagnostics;
      else await writeWhole(path, result.text);
      io.out(`${path}${options.check ? " would be laid out anew" : ""}\n`);
    }
  }
  return code;
}
