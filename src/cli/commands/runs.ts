/** Commands that compute: what each is called and takes. What it does stands in the file of its name. */
import { InvalidArgumentError, Option } from "commander";
import type { Command } from "commander";
import { scheduleKinds } from "../../schedule.ts";
import { bench } from "../bench.ts";
import { benchDevices } from "../bench/devices.ts";
import type { BenchDeviceName } from "../bench/devices.ts";
import { devices } from "../devices.ts";
import { exec, execDevices } from "../exec.ts";
import type { ExitCode } from "../failure.ts";
import { generateOptions } from "../generate.ts";
import type { Io } from "../io.ts";
import {
  count,
  examples,
  formatOption,
  index,
  jsonOption,
  length,
  lengths,
  linearOption,
  place,
  renameOption,
  seed,
  threadsOption,
} from "../options.ts";
import { maps, mapsDevices } from "../maps.ts";
import { tune } from "../tune.ts";
import { run, runDevices } from "../run.ts";
import { verify, verifyDevices } from "../verify.ts";

const benchedOn = (text: string): readonly BenchDeviceName[] => {
  const words = text.split(",").map((w) => w.trim());
  const known = words.flatMap((word) => benchDevices.filter((name) => name === word));
  if (known.length !== words.length)
    throw new InvalidArgumentError(
      `Devices are ${benchDevices.join(", ")}, several with commas between them.`,
    );
  return [...new Set(known)];
};
const share = (text: string): number => {
  const value = Number(text);
  if (text.trim() === "" || !(value >= 0 && value < 100))
    throw new InvalidArgumentError("It must be a share in percent, below 100.");
  return value;
};
const seconds = (text: string): number => {
  const value = Number(text);
  if (text.trim() === "" || !(value >= 0 && value < 3600))
    throw new InvalidArgumentError("It must be a number of seconds.");
  return value;
};

export function runCommands(program: Command, io: Io, ended: (code: ExitCode) => void): void {
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

  generateOptions(program.command("run"))
    .description("run a model with a torchscale checkpoint on tokens or text, or let it continue a text")
    .argument("<spec>", "spec file")
    .argument("<name>", "the model")
    .requiredOption(
      "--weights <file or URL>",
      "safetensors checkpoint with torchscale's names, or the .index.json of its shards",
    )
    .addOption(renameOption())
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
    .addOption(linearOption())
    .addOption(threadsOption())
    .addOption(jsonOption("print the figures of --bits as JSON"))
    .addOption(formatOption())
    .addHelpText(
      "after",
      examples(
        "run jargon.heddle jargon --weights jargon.safetensors --text jargon.txt --bits --window 2048",
        'run jargon.heddle jargon --weights jargon.safetensors --prompt "A hacker is" --generate 200 --temperature 0.7',
        "run jargon.heddle jargon --weights jargon.safetensors --inputs tokens.safetensors --output logits.safetensors",
        "run jargon.heddle jargon --weights https://example.org/model.safetensors.index.json --rename decoder.= --text jargon.txt --bits",
      ),
    )
    .action(async (path: string, name: string, o: Parameters<typeof run>[2]) =>
      ended(await run(path, name, o, io)),
    );

  program
    .command("maps")
    .description("tell what a token of a model attends, or how much each token or tile counts in a result")
    .argument("<spec>", "spec file")
    .argument("<name>", "the model")
    .requiredOption(
      "--weights <file or URL>",
      "safetensors checkpoint with torchscale's names, or the .index.json of its shards",
    )
    .addOption(renameOption())
    .option("--inputs <file>", "safetensors file with one sequence, as for `heddle run`")
    .option("--text <file>", "the bytes of a file as tokens, for a vocabulary of 256")
    .addOption(
      new Option(
        "--query <token>",
        "the token or tile, counted from 0, or class; without it the relevance of what the model pools",
      ).argParser(place),
    )
    .option("--relevance", "the relevance of all tokens for the query's result, not what it attends", false)
    .addOption(
      new Option(
        "--layer <n>",
        "counted from 0 (default: the last); relevance goes from the last down to it (default: through all)",
      ).argParser(index),
    )
    .addOption(new Option("--head <n>", "counted from 0 (default: the mean of all)").argParser(index))
    .addOption(new Option("--top <n>", "how many tokens to print").argParser(length).default(20))
    .option("--output <file>", "safetensors file to write: tokens and weights, or relevance [N]")
    .addOption(new Option("--device <device>", "what computes").choices(mapsDevices).default("auto"))
    .addOption(threadsOption())
    .addOption(jsonOption("print all tokens and weights as JSON"))
    .addOption(formatOption())
    .addHelpText(
      "after",
      examples(
        "maps gigapath.heddle slide_encoder --weights slide_encoder.safetensors --inputs slide.safetensors --output relevance.safetensors",
        "maps gigapath.heddle slide_encoder --weights slide_encoder.safetensors --inputs slide.safetensors --query class --head 3",
        "maps jargon.heddle jargon --weights jargon.safetensors --text jargon.txt --query 400 --layer 0",
      ),
    )
    .action(async (path: string, name: string, o: Parameters<typeof maps>[2]) =>
      ended(await maps(path, name, o, io)),
    );

  program
    .command("bench")
    .description(
      "time a spec's attentions and models here, on random numbers, beside the peak of the machine",
    )
    .argument("<spec>", "spec file")
    .argument("[name]", "an attention or a model (default: all)")
    .addOption(
      new Option("--length <n,…>", "tokens of the sequences").argParser(lengths).default([4096], "4096"),
    )
    .addOption(new Option("--batch <n>", "sequences").argParser(length).default(1))
    .addOption(
      new Option(
        "--device <names>",
        `some of ${benchDevices.join(",")}; the first is what others are held against`,
      )
        .argParser(benchedOn)
        .default(["wasm"], "wasm"),
    )
    .addOption(
      new Option("--threads <n,…>", "of wasm: a contender for each").argParser(lengths).default([1], "1"),
    )
    .addOption(new Option("--rounds <n>", "interleaved rounds").argParser(length).default(7))
    .addOption(new Option("--warm <seconds>", "before them, of each contender").argParser(seconds).default(1))
    .addOption(new Option("--schedule <kind>", "instead of the planner's choice").choices(scheduleKinds))
    .option("--decode", "time each token of models after prompts of the lengths, not forward passes", false)
    .option("--svg <file>", "draw time and rate against length")
    .addOption(jsonOption("every round of every contender as JSON"))
    .addOption(formatOption())
    .addHelpText(
      "after",
      examples(
        "bench paper.heddle paper_32k --length 4096,8192,16384 --threads 1,2 --svg scaling.svg",
        "bench jargon.heddle jargon --length 2048 --device wasm,webgpu",
        "bench jargon.heddle jargon --length 1000,100000 --decode",
      ),
    )
    .action(async (path: string, name: string | undefined, o: Parameters<typeof bench>[2]) =>
      ended(await bench(path, name, o, io)),
    );

  program
    .command("tune")
    .description("time the legal schedules of attentions here, and say which to ask for in the spec")
    .argument("<spec>", "spec file")
    .argument("[name]", "an attention, or a model for its attention (default: all)")
    .addOption(
      new Option("--length <n,…>", "tokens of the sequences").argParser(lengths).default([4096], "4096"),
    )
    .addOption(new Option("--device <device>", "what computes").choices(benchDevices).default("wasm"))
    .addOption(new Option("--threads <n>", "threads of wasm").argParser(count).default(1))
    .addOption(new Option("--rounds <n>", "interleaved rounds of the fastest").argParser(length).default(7))
    .addOption(
      new Option("--margin <percent>", "a schedule that gains less than this is left alone")
        .argParser(share)
        .default(3),
    )
    .option("--write", "put the schedules into the spec file", false)
    .addOption(jsonOption("as JSON"))
    .addOption(formatOption())
    .addHelpText(
      "after",
      examples(
        "tune paper.heddle paper_32k --length 2048,8192",
        "tune jargon.heddle --length 2048 --threads 2 --write",
      ),
    )
    .action(async (path: string, name: string | undefined, o: Parameters<typeof tune>[2]) =>
      ended(await tune(path, name, o, io)),
    );

  program
    .command("devices")
    .description("list what can compute here")
    .addOption(jsonOption("as JSON"))
    .addHelpText("after", examples("devices"))
    .action(async (o: { json: boolean }) => ended(await devices(o.json, io)));

  program
    .command("verify")
    .description(
      "compare the generated kernels with the f64 reference on random inputs, on every device here",
    )
    .argument("<spec>", "spec file")
    .argument("[name]", "an attention or a model (default: all)")
    .addOption(new Option("--device <device>", "only this one").choices(verifyDevices))
    .addOption(
      new Option("--length <n,…>", "tokens of the sequences (default: around the edges of tiles)").argParser(
        lengths,
      ),
    )
    .addOption(new Option("--seed <n>", "of the random inputs (default: another each time)").argParser(seed))
    .addOption(linearOption())
    .addOption(threadsOption())
    .addOption(jsonOption("as JSON"))
    .addOption(formatOption())
    .addHelpText(
      "after",
      examples("verify small.heddle", "verify jargon.heddle jargon --device webgpu --length 33,257"),
    )
    .action(async (path: string, name: string | undefined, o: Parameters<typeof verify>[2]) =>
      ended(await verify(path, name, o, io)),
    );
}
