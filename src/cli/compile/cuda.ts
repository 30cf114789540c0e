/** `heddle compile --target cuda`: readable CUDA C++, and what NVRTC makes of it for each architecture. */
import { join } from "node:path";
import type { Compiled, Nvrtc } from "../../../runtime/cuda/nvrtc.ts";
import { inputError } from "../../../runtime/input-error.ts";
import type { CompiledProgram } from "../../compile.ts";
import { cudaOptions } from "../gpu.ts";
import type { Io } from "../io.ts";
import { sourcesOf } from "../sources.ts";
import type { WholeSource } from "../sources.ts";

export const emits = ["cu", "ptx", "cubin"] as const;
export type Emit = (typeof emits)[number];

export type CudaFiles = {
  readonly emit: readonly Emit[];
  /** Architectures of ptx and cubin: `80`, `90a`. */
  readonly sm: readonly string[];
};

/** NVRTC where it is here, and kernels compiled by it: the same for every file and every architecture. */
export type Assembler = {
  readonly nvrtc: Nvrtc;
  readonly compile: (source: WholeSource, sm: string) => Promise<Compiled>;
};

/** @throws InputError that says what is missing and how to get it. */
export async function assembler(env: Io["env"], what: string): Promise<Assembler> {
  const [{ openCompiler }, { kernelCache }, { isCudaError }] = await Promise.all([
    import("../../../runtime/cuda/cuda.ts"),
    import("../../../runtime/cuda/cache.ts"),
    import("../../../runtime/cuda/errors.ts"),
  ]);
  const { build } = await cudaOptions(env);
  const nvrtc = await openCompiler(build === undefined ? {} : { build }).catch((error: unknown) => {
    if (!isCudaError(error)) throw error;
    throw inputError(`${what} needs NVRTC: ${error.message.replace(/^\w+: /, "")}`);
  });
  const cache = kernelCache(build?.cache === undefined ? {} : { folder: join(build.cache, "kernels") });
  return {
    nvrtc,
    compile: ({ entry, text, options }, sm) =>
      cache.compile(nvrtc, text, { arch: `sm_${sm}`, name: `${entry}.cu`, options }),
  };
}

/** @throws InputError unless NVRTC compiles for all of them. */
export function checkArchs({ nvrtc: { archs, version } }: Assembler, sm: readonly string[]): void {
  const unknown = sm.find((s) => !archs.includes(Number(s.replace(/[af]$/, ""))));
  if (unknown !== undefined)
    throw inputError(
      `NVRTC ${version.major}.${version.minor} does not compile for sm_${unknown}, only for ${archs.map((a) => `sm_${a}`).join(", ")}`,
    );
}

export type CudaFile = { readonly path: string; readonly data: string | Uint8Array };

/** All files of the programs, none of them written yet. `head` is the first line of the readable ones. */
export async function cudaFiles(
  programs: readonly CompiledProgram[],
  folder: string,
  { emit, sm }: CudaFiles,
  head: string,
  env: Io["env"],
): Promise<readonly CudaFile[]> {
  const sources = sourcesOf(programs);
  const readable = emit.includes("cu")
    ? sources.map((s) => ({ path: join(folder, `${s.name}.cu`), data: `${head}${notes(s)}${s.text}` }))
    : [];
  const binary = (["ptx", "cubin"] as const).filter((kind) => emit.includes(kind));
  if (binary.length === 0) return readable;
  const nvcc = await assembler(env, `--emit ${binary.join()}`);
  checkArchs(nvcc, sm);
  const jobs = sources.flatMap((source) => sm.map((arch) => ({ source, arch })));
  const made = await Promise.all(
    jobs.map(async ({ source, arch }): Promise<readonly CudaFile[]> => {
      const compiled = await nvcc.compile(source, arch);
      return binary.flatMap((kind) => {
        const data = compiled[kind];
        if (data === null) throw new Error(`heddle: internal: NVRTC gave no ${kind} for '${source.name}'`);
        return [{ path: join(folder, `${source.name}.sm_${arch}.${kind}`), data }];
      });
    }),
  );
  return [...readable, ...made.flat()];
}

/** How a reader compiles and launches a text: N tokens, B sequences. */
const notes = ({ workgroup, sharedBytes, options, launches, programs }: WholeSource): string =>
  [
    `Of ${programs.join(", ")}. Compile: nvcc -cubin -arch=sm_80 ${options.join(" ")}, or NVRTC with the same options.`,
    `Launch (N tokens, B sequences): blocks of ${workgroup} threads with ${sharedBytes} bytes of dynamic shared memory; a block is a group.`,
    ...launches.map((l) => `  ${l}, first_group: 0`),
  ]
    .map((line) => `// ${line}\n`)
    .join("");
