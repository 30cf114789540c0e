/** Commands about CUDA: what each is called and takes. What it does stands in the file of its name. */
import type { Command } from "commander";
import type { CudaBuildCommand, CudaInfoCommand } from "../cuda.ts";
import type { ExitCode } from "../failure.ts";
import type { Io } from "../io.ts";
import { examples, jsonOption } from "../options.ts";

/** Loaded when it is wanted: running a compiler takes a library that other commands need not wait for. */
const implementation = () => import("../cuda.ts");

export function cudaCommands(program: Command, io: Io, ended: (code: ExitCode) => void): void {
  const cuda = program.command("cuda").description("the native shim for NVIDIA GPUs, and what it needs");

  cuda
    .command("build")
    .description("build the shim into the cache, with this machine's C compiler and nothing of CUDA")
    .option("--force", "build even where the cache has it", false)
    .option("--compiler <command>", "C compiler (default: the first of cc, gcc, clang, c++)")
    .addOption(jsonOption("as JSON"))
    .addHelpText("after", examples("cuda build", "cuda build --force --compiler clang"))
    .action(async (o: CudaBuildCommand) => ended(await (await implementation()).cudaBuild(o, io)));

  cuda
    .command("info")
    .description("say what of CUDA is here, and what is missing and how to get it")
    .option("--driver <path>", "libcuda.so.1 or its folder, instead of searching")
    .option("--nvrtc <path>", "libnvrtc or its folder or toolkit, instead of searching")
    .addOption(jsonOption("as JSON"))
    .addHelpText("after", examples("cuda info", "cuda info --nvrtc /opt/cuda-12.4"))
    .action(async (o: CudaInfoCommand) => ended(await (await implementation()).cudaInfo(o, io)));
}
