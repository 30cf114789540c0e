/** Commands that compute: what each is called and takes. What it does stands in the file of its name. */
import { Option } from "commander";
import type { Command } from "commander";
import { scheduleKinds } from "../../schedule.ts";
import { devices } from "../devices.ts";
import { exec, execDevices } from "../exec.ts";
import type { ExitCode } from "../failure.ts";
import { generateOptions } from "../generate.ts";
import type { Io } from "../io.ts";
import {
  examples,
  formatOption,
  jsonOption,
  length,
  lengths,
  linearOption,
  renameOption,
  seed,
  threadsOption,
} from "../options.ts";
import { run, runDevices } from "../run.ts";
import { verify, verifyDevices } from "../verify.ts";

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
