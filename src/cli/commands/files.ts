/** Commands about spec files: what each is called and takes. What it does stands in the file of its name. */
import { InvalidArgumentError, Option } from "commander";
import type { Command } from "commander";
import { scheduleKinds } from "../../schedule.ts";
import { check, fmt } from "../check.ts";
import type { CheckOptions } from "../check.ts";
import { compile, outputs } from "../compile.ts";
import type { CompileCommand } from "../compile.ts";
import { emits } from "../compile/cuda.ts";
import type { Emit } from "../compile/cuda.ts";
import { explain } from "../explain.ts";
import { explained } from "../explain/numbers.ts";
import type { ExitCode } from "../failure.ts";
import { architectures as known } from "../../import.ts";
import { importCommand } from "../import.ts";
import { init } from "../init.ts";
import type { InitOptions } from "../init.ts";
import { inspect, stages } from "../inspect.ts";
import type { Io } from "../io.ts";
import { examples, formatOption, formOf, jsonOption, length } from "../options.ts";
import { presets } from "../presets.ts";
import type { Format } from "../spec-file.ts";
import { moduleTargets, targetNames, targetsOf } from "../targets.ts";

const targets = (text: string) => {
  const found = targetsOf(text);
  if (typeof found === "string") throw new InvalidArgumentError(found);
  return found;
};

const architecture = (text: string): string => {
  const found = /^(?:sm_)?(\d{2,3}[af]?)$/.exec(text.trim())?.[1];
  if (found === undefined) throw new InvalidArgumentError("Architectures are numbers such as 80 or 90a.");
  return found;
};
const architectures = (text: string): readonly string[] => [...new Set(text.split(",").map(architecture))];
const kinds = (text: string): readonly Emit[] => {
  const words = text.split(",").map((w) => w.trim());
  if (words.some((w) => !(emits as readonly string[]).includes(w)))
    throw new InvalidArgumentError(`Files are ${emits.join(", ")}, several with commas between them.`);
  return emits.filter((e) => words.includes(e));
};
/** Layers counted from 0, `0,11`. */
const layers = (text: string): readonly number[] => {
  if (!/^\d{1,6}(,\d{1,6})*$/.test(text.trim()))
    throw new InvalidArgumentError(
      "Layers are numbers from 0 on with commas between them; none for all, after the spec.",
    );
  return text.split(",").map(Number);
};

export function fileCommands(program: Command, io: Io, ended: (code: ExitCode) => void): void {
  program
    .command("check")
    .description("say everything that is wrong with spec files")
    .argument("<spec...>", "spec files")
    .option("--validate", "compile the shaders too, on Dawn without a GPU (npm install webgpu)", false)
    .addOption(formatOption())
    .addOption(jsonOption("the same as --format json"))
    .addHelpText(
      "after",
      examples("check small.heddle", "check --format github specs/*.heddle", "check --validate small.heddle"),
    )
    .action(async (paths: string[], o: CheckOptions & { json: boolean }) =>
      ended(await check(paths, { ...o, format: formOf(o) }, io)),
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
    .description("compile a spec file to a TypeScript module with its kernels inside, or to readable kernels")
    .argument("<spec>", "spec file")
    .addOption(
      new Option("--target <what>", "ts: a typed module; wgsl: a folder of shaders; cuda: of CUDA C++")
        .choices(outputs)
        .default("ts"),
    )
    .addOption(
      new Option(
        "--kernels <targets>",
        `what a module runs on: ${targetNames.join(",")} or all (all but native)`,
      )
        .argParser(targets)
        .default(moduleTargets, moduleTargets.join()),
    )
    .addOption(
      new Option("--emit <kinds>", `files of --target cuda: ${emits.join(",")}; all but cu need NVRTC`)
        .argParser(kinds)
        .default(["cu"], "cu"),
    )
    .addOption(
      new Option("--sm <architectures>", "of ptx and cubin")
        .argParser(architectures)
        .default(["80", "90a"], "80,90a"),
    )
    .option(
      "--out <path>",
      "file or folder (default: SPEC.generated.ts, SPEC.wgsl/ or SPEC.cuda/ beside the spec)",
    )
    .option("--generate", "models that predict tokens can also generate (heddle/runtime/generate)", false)
    .addOption(
      new Option(
        "--maps [layers]",
        "models can tell what their queries attend (heddle/runtime/maps): all layers, or some, e.g. 0,11",
      ).argParser(layers),
    )
    .option("--check", "write nothing; fail when what is on disk is not what would be written", false)
    .addOption(formatOption())
    .addOption(jsonOption("the same as --format json"))
    .addHelpText(
      "after",
      examples(
        "compile small.heddle",
        "compile small.heddle --out src/generated/",
        "compile --check small.heddle",
        "compile small.heddle --kernels wasm",
        "compile small.heddle --target wgsl --out shaders/",
        "compile small.heddle --target cuda --sm 80,90a --emit cu,cubin",
      ),
    )
    .action(async (path: string, o: CompileCommand & { json: boolean }) =>
      ended(await compile(path, { ...o, format: formOf(o) }, io)),
    );

  program
    .command("init")
    .description("write a spec to begin with")
    .addOption(
      new Option("--preset <name>", `${presets.map((p) => `${p.name}: ${p.about}`).join("; ")}`)
        .choices(presets.map((p) => p.name))
        .default("tiny"),
    )
    .option("--out <file>", "instead of PRESET.heddle")
    .option("--stdout", "print the spec instead of writing it", false)
    .option("--force", "replace the file if it exists", false)
    .addHelpText("after", examples("init", "init --preset gigapath", "init --preset paper --stdout"))
    .action(async (o: InitOptions) => ended(await init(o, io)));

  program
    .command("import")
    .description("make a spec from a model's configuration, or as far as they tell from its weights")
    .argument(
      "<file>",
      "JSON file with the names of EncoderConfig, DecoderConfig, LongNetViT or LongViT; or a safetensors checkpoint",
    )
    .option("--name <name>", "name of the model (default: the file's)")
    .addOption(new Option("--architecture <name>", "instead of the configuration's own").choices(known))
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
        "import model.safetensors --name small",
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
    .addOption(new Option("--batch <n>", "sequences, for the memory of models").argParser(length).default(1))
    .addOption(
      new Option(
        "--target <target>",
        "whose schedules and memory; cuda: and what its kernels take of a GPU (needs NVRTC)",
      )
        .choices(Object.keys(explained))
        .default("wasm"),
    )
    .addOption(
      new Option("--sm <architectures>", "of --target cuda").argParser(architectures).default(["90a"], "90a"),
    )
    .addOption(jsonOption("the numbers as JSON"))
    .addOption(formatOption())
    .addHelpText(
      "after",
      examples(
        "explain paper.heddle paper_32k --length 32768",
        "explain jargon.heddle --length 2048 --json",
        "explain gigapath.heddle slide_encoder --length 10000 --target wgsl",
        "explain paper.heddle paper_32k --length 131072 --target cuda --sm 80,90a",
      ),
    )
    .action(async (path: string, name: string | undefined, o: Parameters<typeof explain>[2]) =>
      ended(await explain(path, name, o, io)),
    );

  program
    .command("inspect")
    .description("print what an item of a spec becomes, at any stage")
    .argument("<spec>", "spec file")
    .argument("<name>", "an attention or a model")
    .addOption(
      new Option(
        "--stage <stage>",
        "spec with all defaults, graph of operations, kernels in tiles, kernels, or a target's own text",
      )
        .choices(stages)
        .makeOptionMandatory(),
    )
    .addOption(
      new Option("--target <target>", "whose tiles and kernels").choices(targetNames).default("wgsl"),
    )
    .option("--kernel <name>", "only kernels with this in their names")
    .addOption(
      new Option("--length <n>", "compile for one length (default: for every length)").argParser(length),
    )
    .addOption(new Option("--schedule <kind>", "instead of the planner's choice").choices(scheduleKinds))
    .addOption(formatOption())
    .addHelpText(
      "after",
      examples(
        "inspect small.heddle small --stage wgsl",
        "inspect jargon.heddle jargon --stage kernel --target wasm --kernel norm",
      ),
    )
    .action(async (path: string, name: string, o: Parameters<typeof inspect>[2]) =>
      ended(await inspect(path, name, o, io)),
    );
}
