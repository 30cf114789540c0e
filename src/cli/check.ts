/** `heddle check` and `heddle fmt`: spec files read, judged and laid out. */
import { format } from "../../grammar/index.ts";
import { writeWhole } from "../../runtime/node.ts";
import { isError } from "../diagnostic.ts";
import { exitCodes } from "./failure.ts";
import type { ExitCode } from "./failure.ts";
import type { Io } from "./io.ts";
import { readText } from "./read-file.ts";
import { readSpecFile, report } from "./spec-file.ts";
import type { Format, SpecFile } from "./spec-file.ts";

/** Says everything that is wrong with all the files. Warnings alone do not fail. */
export async function check(paths: readonly string[], format: Format, io: Io): Promise<ExitCode> {
  const files: SpecFile[] = [];
  for (const path of paths) files.push(await readSpecFile(path));
  report(files, format, io);
  if (format === "pretty")
    for (const { spec, source, diagnostics } of files)
      if (spec !== null) {
        const counts = [counted(spec.attentions.length, "attention"), counted(spec.models.length, "model")];
        const warnings = diagnostics.length === 0 ? [] : [counted(diagnostics.length, "warning")];
        io.out(`${source.file}: ok, ${[...counts, ...warnings].join(", ")}\n`);
      }
  return files.some((f) => f.spec === null) ? exitCodes.diagnostics : exitCodes.ok;
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
