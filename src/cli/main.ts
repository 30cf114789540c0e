#!/usr/bin/env node
/** The command line: what each command is called and takes. What it does stands in the file of its name. */
import { realpathSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { Command, CommanderError, InvalidArgumentError, Option } from "commander";
import { scheduleKinds } from "../schedule.ts";
import { check, fmt } from "./check.ts";
import { compile } from "./compile.ts";
import { devices } from "./devices.ts";
import { exec, execDevices } from "./exec.ts";
import { explain } from "./explain.ts";
import { exitCodes, failed } from "./failure.ts";
import type { ExitCode } from "./failure.ts";
import { importCommand } from "./import.ts";
import { processIo } from "./io.ts";
import type { Io } from "./io.ts";
import { run, runDevices } from "./run.ts";
import { formats } from "./spec-file.ts";
import type { Format } from "./spec-file.ts";
import { version } from "./version.ts";

const count = (text: string): number => {
  const value = Number(text);
  if (!/^\d+(e\d+)?$/i.test(text) || !Number.isSafeInteger(value) || value < 1)
    throw new InvalidArgumentError("It must be a whole number from 1 on.");
  return value;
};
/** Lengths are i32 in kernels, with room for sums. */
const length = (text: string): number => {
  const value = count(text);
  if (value >= 2 ** 30) throw new InvalidArgumentError("It must be below 2^30.");
  return value;
};

const formatOption = () =>
  new Option("--format <form>", "how diagnostics are written").choices(formats).default("pretty");
const jsonOption = (what: string) => new Option("--json", what).default(false);
const threadsOption = () =>
  new Option("--threads <n>", "threads of wasm (default: one for each processor)").argParser(count);
const formOf = (o: { readonly format: Format; readonly json?: boolean }): Format =>
  o.json === true ? "json" : o.format;
const examples = (...lines: readonly string[]) =>
  `\nExamples:\n${lines.map((l) => `  $ heddle ${l}\n`).join("")}`;

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

  program
    .command("check")
    .description("say everything that is wrong with spec files")
    .argument("<spec...>", "spec files")
    .addOption(formatOption())
    .addOption(jsonOption("the same as --format json"))
    .addHelpText("after", examples("check small.heddle", "check --format github specs/*.heddle"))
    .action(async (paths: string[], o: { format: Format; json: boolean }) =>
      ended(await check(paths, formOf(o), io)),
    );

  program
    .command("fmt")
    .description("lay out spec files in place, keeping comments")
    .argument("<spec...>", "spec files")
    .option("--check", "change nothing; fail when a file would change", false)
    .addOption(formatOption())
    .addHelpText("after", examples("fmt small.heddle", "fmt --check specs/*.heddle"))
    .action(async (paths: string[], o: { check: boolean; format: Format }) => ended(await fmt(paths, o, io)));

  program
    .command("compile")
    .description("compile a spec file to a TypeScript module with its kernels inside")
    .argument("<spec>", "spec file")
    .addOption(new Option("--target <target>", "what to compile for").choices(["wasm"]).default("wasm"))
    .option("--out <path>", "file or folder (default: SPEC.generated.ts beside the spec)")
    .option("--check", "write nothing; fail when the module on disk is not what would be written", false)
    .addOption(formatOption())
    .addOption(jsonOption("the same as --format json"))
    .addHelpText(
      "after",
      examples(
        "compile small.heddle",
        "compile small.heddle --out src/generated/",
        "compile --check small.heddle",
      ),
    )
    .action(
      async (
        path: string,
        o: { target: "wasm"; out?: string; check: boolean; format: Format; json: boolean },
      ) => ended(await compile(path, { ...o, format: formOf(o) }, io)),
    );

  program
    .command("exec")
    .description("run one attention on tensors q, k, v [batch, N, heads, head_dim]; writes out and lse")
    .argument("<spec>", "spec file")
    .argument("<name>", "the attention")
    .requiredOption("--inputs <file>", "safetensors file with q, k and v (F32, F16 or BF16)")
    .requiredOption("--output <file>", "safetensors file to write: out like q, lse [batch, heads, N]")
    .addOption(new Option("--device <device>", "what computes").choices(execDevices).default("auto"))
    .addOption(new Option("--schedule <kind>", "instead of the planner's choice").choices(scheduleKinds))
    .addOption(threadsOption())
    .addOption(formatOption())
    .addHelpText(
      "after",
      examples(
        "exec small.heddle small --inputs qkv.safetensors --output out.safetensors",
        "exec small.heddle small --inputs qkv.safetensors --output out.safetensors --device reference",
      ),
    )
    .action(async (path: string, name: string, o: Parameters<typeof exec>[2]) =>
      ended(await exec(path, name, o, io)),
    );

  program
    .command("run")
    .description("run a model with a torchscale checkpoint on tokens or text")
    .argument("<spec>", "spec file")
    .argument("<name>", "the model")
    .requiredOption("--weights <file>", "safetensors checkpoint with torchscale's names")
    .option("--inputs <file>", "safetensors file with tokens [batch, N], or features [batch, N, dim]")
    .option("--text <file>", "the bytes of a file as tokens, for a vocabulary of 256")
    .option("--output <file>", "safetensors file to write: logits [batch, N, vocab]")
    .option("--hidden", "write hidden [layers + 1, batch, N, dim] too", false)
    .option("--bits", "print the mean bits per token", false)
    .addOption(
      new Option("--window <n>", "tokens of each window of --bits (default: the longest segment)").argParser(
        length,
      ),
    )
    .addOption(new Option("--device <device>", "what computes").choices(runDevices).default("auto"))
    .addOption(threadsOption())
    .addOption(jsonOption("print the figures of --bits as JSON"))
    .addOption(formatOption())
    .addHelpText(
      "after",
      examples(
        "run jargon.heddle jargon --weights jargon.safetensors --text jargon.txt --bits --window 2048",
        "run jargon.heddle jargon --weights jargon.safetensors --inputs tokens.safetensors --output logits.safetensors",
      ),
    )
    .action(async (path: string, name: string, o: Parameters<typeof run>[2]) =>
      ended(await run(path, name, o, io)),
    );

  program
    .command("import")
    .description("make a spec from torchscale's configuration")
    .argument("<config>", "JSON file with the names of EncoderConfig or DecoderConfig")
    .option("--name <name>", "name of the model (default: the file's)")
    .addOption(
      new Option("--architecture <name>", "instead of the configuration's own").choices([
        "LongNetDecoder",
        "LongNetEncoder",
      ]),
    )
    .option("--weights <file>", "safetensors checkpoint that says how many learned positions there are")
    .option("--stdout", "print the spec instead of writing NAME.heddle", false)
    .option("--force", "replace NAME.heddle if it exists", false)
    .addOption(formatOption())
    .addHelpText(
      "after",
      examples(
        "import config.json --name small",
        "import config.json --stdout > small.heddle",
        "import config.json --weights model.safetensors",
      ),
    )
    .action(async (path: string, o: Parameters<typeof importCommand>[1]) =>
      ended(await importCommand(path, o, io)),
    );

  program
    .command("explain")
    .description("pairs, FLOPs, bytes, schedules with their costs, coverage, dependency path, memory")
    .argument("<spec>", "spec file")
    .argument("[name]", "an attention or a model (default: all)")
    .addOption(new Option("--length <n>", "tokens of the sequence").argParser(length).makeOptionMandatory())
    .addOption(jsonOption("the numbers as JSON"))
    .addOption(formatOption())
    .addHelpText(
      "after",
      examples("explain paper.heddle paper_32k --length 32768", "explain jargon.heddle --length 2048 --json"),
    )
    .action(async (path: string, name: string | undefined, o: Parameters<typeof explain>[2]) =>
      ended(await explain(path, name, o, io)),
    );

  program
    .command("devices")
    .description("list what can compute here")
    .addOption(jsonOption("as JSON"))
    .addHelpText("after", examples("devices"))
    .action(async (o: { json: boolean }) => ended(await devices(o.json, io)));

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
