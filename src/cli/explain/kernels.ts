/** `heddle explain --target cuda`: what each kernel takes of a multiprocessor, from the code that NVRTC makes of it. Needs no GPU. */
import type { CompiledProgram } from "../../compile.ts";
import { assembler, checkArchs } from "../compile/cuda.ts";
import type { Io } from "../io.ts";
import { sourcesOf } from "../sources.ts";
import { occupancy } from "./occupancy.ts";
import type { Occupancy } from "./occupancy.ts";

export type KernelNumbers = {
  readonly kernel: string;
  /** What it computes. */
  readonly title: string;
  /** `90a`. */
  readonly sm: string;
  readonly threads: number;
  /** Of a thread. */
  readonly registers: number;
  /** Bytes of a thread: registers that were stored to memory and loaded again, and all of its stack. */
  readonly spillBytes: number;
  readonly stackBytes: number;
  /** Of a block, dynamic and static. */
  readonly sharedBytes: number;
  readonly occupancy: Occupancy | null;
};

/** For every kernel and architecture. @throws InputError where NVRTC is missing or does not know one of them. */
export async function kernelNumbers(
  programs: readonly CompiledProgram[],
  sm: readonly string[],
  env: Io["env"],
): Promise<readonly KernelNumbers[]> {
  const nvrtc = await assembler(env, "explain --target cuda");
  checkArchs(nvrtc, sm);
  const jobs = sourcesOf(programs).flatMap((source) => sm.map((arch) => ({ source, arch })));
  return Promise.all(
    jobs.map(async ({ source, arch }): Promise<KernelNumbers> => {
      const { usage } = await nvrtc.compile(source, arch);
      const used = usage.find((u) => u.kernel === source.entry);
      if (used === undefined) throw new Error(`heddle: internal: ptxas says nothing of '${source.entry}'`);
      const { registers, stackBytes } = used;
      const sharedBytes = source.sharedBytes + used.sharedBytes;
      const threads = source.workgroup;
      return {
        kernel: source.name,
        title: source.title,
        sm: arch,
        threads,
        registers,
        spillBytes: used.spillStoreBytes + used.spillLoadBytes,
        stackBytes,
        sharedBytes,
        occupancy: occupancy(Number(arch.replace(/[af]$/, "")), { threads, registers, sharedBytes }),
      };
    }),
  );
}
