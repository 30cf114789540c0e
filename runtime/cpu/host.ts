/** What this machine can compile and run: its compiler, its vectors, and what tells it from others. */
import { execa } from "execa";
import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { compilers, findCompiler } from "../cuda/compiler.ts";
import type { Compiler } from "../cuda/compiler.ts";
import { deviceError } from "../device-error.ts";
import type { NativeVectors } from "../plan.ts";

export type Host = {
  readonly compiler: Compiler;
  /** For code of this processor. */
  readonly march: string;
  readonly vectors: NativeVectors;
  /** The processor's name, where the system says it. */
  readonly cpu: string;
  /** Hex: differs where code that was compiled elsewhere might not run. */
  readonly identity: string;
};

export type HostOptions = {
  /** The compiler's command, instead of the first one that is found. */
  readonly compiler?: string;
  /** Further flags for it, say `-mno-avx512f`. */
  readonly flags?: readonly string[];
};

const noNative = (sentence: string) => deviceError("NO_NATIVE", `no native code: ${sentence}`);

/** @throws DeviceError NO_NATIVE with what is missing and the repair, in one line. */
export async function inspectHost({ compiler: command, flags = [] }: HostOptions = {}): Promise<Host> {
  if (process.platform !== "linux")
    throw noNative(`it is used on Linux only, and this is ${process.platform}`);
  const compiler = await findCompiler(command);
  if (compiler === null)
    throw noNative(
      `no C compiler was found (looked for ${command ?? compilers.join(", ")}): install one (Debian: apt install gcc libc6-dev)`,
    );
  let said = "";
  // Compilers for ARM take the processor by another name.
  for (const march of ["-march=native", "-mcpu=native"]) {
    const ran = await execa(compiler.command, [march, ...flags, "-dM", "-E", "-x", "c", "-"], {
      input: "",
      reject: false,
      timeout: 20_000,
      env: { LC_ALL: "C" },
    });
    if (ran.failed) {
      said ||= ran.stderr.split("\n")[0] ?? "";
      continue;
    }
    const macros = new Set(ran.stdout.split("\n").flatMap((l) => /^#define (\w+)/.exec(l)?.[1] ?? []));
    const info = await readFile("/proc/cpuinfo", "utf8").catch(() => "");
    // Frequencies change; the first processor stands for all.
    const facts = info.split("\n\n")[0]?.split("\n") ?? [];
    const line = (name: RegExp) => facts.find((l) => name.test(l)) ?? "";
    const hash = createHash("sha256");
    for (const part of [ran.stdout, line(/^(flags|Features)\s/), line(/^(model name|CPU part)\s/)])
      hash.update(`${part.length}:${part}`);
    return {
      compiler,
      march,
      vectors: vectorsOf(macros),
      cpu: line(/^model name\s/).replace(/^.*:\s*/, "") || process.arch,
      identity: hash.digest("hex"),
    };
  }
  throw noNative(`${compiler.command} does not compile for this processor: ${said}`);
}

const vectorsOf = (macros: ReadonlySet<string>): NativeVectors =>
  macros.has("__AVX512F__")
    ? "avx512"
    : macros.has("__AVX2__") && macros.has("__FMA__")
      ? "avx2"
      : macros.has("__ARM_NEON")
        ? "neon"
        : "sse";

/** What a host can run, best first: vectors of four any processor has, or its compiler spells them with what there is. */
export const usable: { readonly [V in NativeVectors]: readonly NativeVectors[] } = {
  avx512: ["avx512", "avx2", "sse", "neon"],
  avx2: ["avx2", "sse", "neon"],
  neon: ["neon", "sse"],
  sse: ["sse", "neon"],
};

export const lanesOf: { readonly [V in NativeVectors]: number } = { avx512: 16, avx2: 8, neon: 4, sse: 4 };
