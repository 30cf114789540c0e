/** `heddle init`: a spec to begin with. */
import { stat } from "node:fs/promises";
import { inputError } from "../../runtime/input-error.ts";
import { writeWhole } from "../../runtime/node.ts";
import { exitCodes } from "./failure.ts";
import type { ExitCode } from "./failure.ts";
import type { Io } from "./io.ts";
import { presets } from "./presets.ts";

export type InitOptions = {
  readonly preset: string;
  readonly out?: string;
  readonly stdout: boolean;
  readonly force: boolean;
};

/** Writes PRESET.heddle into the working folder, or to the output. */
export async function init({ preset, out, stdout, force }: InitOptions, io: Io): Promise<ExitCode> {
  const found = presets.find((p) => p.name === preset);
  if (found === undefined) throw new Error(`heddle: internal: no preset '${preset}'`);
  if (stdout) {
    io.out(found.text);
    return exitCodes.ok;
  }
  const target = out ?? `${found.name}.heddle`;
  const there = await stat(target).catch(() => null);
  if (there !== null && !force)
    throw inputError(`${target} exists; give --force to replace it, --out for another file or --stdout`);
  await writeWhole(target, found.text);
  io.out(`${target}\n`);
  return exitCodes.ok;
}
