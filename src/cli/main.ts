#!/usr/bin/env node
/** The command line as a whole; its commands are defined in `commands/`. */
import { realpathSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { Command, CommanderError } from "commander";
import { cudaCommands } from "./commands/cuda.ts";
import { fileCommands } from "./commands/files.ts";
import { runCommands } from "./commands/runs.ts";
import { exitCodes, failed } from "./failure.ts";
import type { ExitCode } from "./failure.ts";
import { processIo } from "./io.ts";
import type { Io } from "./io.ts";
import { examples } from "./options.ts";
import { version } from "./version.ts";

/** The commands; `ended` hears each one's exit code. */
function commands(io: Io, ended: (code: ExitCode) => void): Command {
  const program = new Command("heddle")
    .description("A language and compiler for LongNet's dilated attention.")
    .version(version, "-V, --version", "print the version")
    .helpOption("-h, --help", "print help")
    .showSuggestionAfterError(true)
    .configureOutput({ writeOut: io.out, writeErr: io.err })
    .exitOverride()
    .addHelpText(
      "after",
      examples(
        "check small.heddle",
        "compile small.heddle",
        "exec small.heddle small --inputs qkv.safetensors --output out.safetensors",
        "explain small.heddle --length 32768",
      ) + "\nExit codes: 0 ok, 1 problems in your files, 2 usage, 70 a fault of heddle.\n",
    );

  fileCommands(program, io, ended);
  runCommands(program, io, ended);
  cudaCommands(program, io, ended);

  // Commands report usage errors as the program does.
  for (const command of program.commands)
    command.exitOverride().configureOutput({ writeOut: io.out, writeErr: io.err });
  return program;
}

/** Runs one command line (without node and script); never throws. */
export async function main(argv: readonly string[], io: Io): Promise<ExitCode> {
  let code: ExitCode = exitCodes.ok;
  try {
    const program = commands(io, (ended) => {
      code = ended;
    });
    if (argv.length === 0) {
      program.outputHelp({ error: true });
      return exitCodes.usage;
    }
    await program.parseAsync([...argv], { from: "user" });
    return code;
  } catch (error) {
    // Commander has said what it has to say.
    if (error instanceof CommanderError) return error.exitCode === 0 ? exitCodes.ok : exitCodes.usage;
    return failed(error, io);
  }
}

/** Whether this file is what node was started with, also by way of a link in `node_modules/.bin`. */
function started(): boolean {
  const [, script] = process.argv;
  try {
    return script !== undefined && realpathSync(script) === fileURLToPath(import.meta.url);
  } catch {
    return false;
  }
}

if (started()) {
  // A reader that stops early (`| head`) is no fault.
  process.stdout.on("error", (error: NodeJS.ErrnoException) => {
    if (error.code !== "EPIPE") throw error;
  });
  process.exitCode = await main(process.argv.slice(2), processIo());
}
