/** `heddle inspect`: what an item of a spec becomes, stage by stage. */
import { wasmText } from "../../codegen/wasm/text.ts";
import { emitModule } from "../../codegen/wasm/module.ts";
import { inputError } from "../../runtime/input-error.ts";
import { anchorsOf } from "../anchors.ts";
import { compileSpec } from "../compile.ts";
import type { CompiledProgram, TargetName } from "../compile.ts";
import { nearest } from "../diagnostic.ts";
import type { Kernel, TileKernel } from "../kernel.ts";
import type { ScheduleKind } from "../schedule.ts";
import { showGraph, showKernel, showTiles } from "../show.ts";
import { exitCodes } from "./failure.ts";
import type { ExitCode } from "./failure.ts";
import { written } from "./inspect/written.ts";
import { traceTo } from "./io.ts";
import type { Io } from "./io.ts";
import { shadersOf } from "./shaders.ts";
import { sourcesOf } from "./sources.ts";
import { checkedSpec, itemsNamed } from "./spec-file.ts";
import type { Format, SpecFile } from "./spec-file.ts";
import type { Spec } from "../spec.ts";
import type { Warp } from "../warp.ts";

export const stages = ["spec", "graph", "tiles", "kernel", "wgsl", "cuda", "wasm", "native"] as const;

export type InspectOptions = {
  readonly stage: (typeof stages)[number];
  /** Of the stages `tiles` and `kernel`. */
  readonly target: TargetName;
  /** Only kernels whose name holds this. */
  readonly kernel?: string;
  readonly length?: number;
  readonly schedule?: ScheduleKind;
  readonly format: Format;
};

export async function inspect(
  path: string,
  name: string,
  options: InspectOptions,
  io: Io,
): Promise<ExitCode> {
  const { stage } = options;
  const file = await checkedSpec(path, options.format, io);
  if (file === null) return exitCodes.diagnostics;
  const [item] = itemsNamed(file.spec, name, path);
  if (item === undefined) throw new Error("heddle: internal: a name without its item");
  io.out(
    stage === "spec" ? written(file.spec, item.spec) : shown(compiled(file, name, options, io), options),
  );
  return exitCodes.ok;
}

function compiled(
  { spec, ast, source }: SpecFile & { readonly spec: Spec },
  name: string,
  { stage, target, length, schedule }: InspectOptions,
  io: Io,
): CompiledProgram {
  const trace = traceTo(io);
  const [program] = compileSpec(spec, {
    target: stage === "wgsl" || stage === "wasm" || stage === "cuda" || stage === "native" ? stage : target,
    names: [name],
    anchors: anchorsOf(ast, source.text),
    ...(length === undefined ? {} : { length }),
    ...(schedule === undefined ? {} : { schedule }),
    ...(trace === undefined ? {} : { trace }),
  });
  if (program === undefined) throw new Error("heddle: internal: nothing was compiled");
  return program;
}

function shown(program: CompiledProgram, { stage, kernel: wanted }: InspectOptions): string {
  switch (stage) {
    case "spec":
      throw new Error(`heddle: internal: '${stage}' needs no program`);
    case "graph":
      return showGraph(program.graph);
    case "tiles":
      return picked(kernelsOf(program, "tiles"), wanted).map(showTiles).join("\n");
    case "kernel":
      return picked(kernelsOf(program, "kernels"), wanted).map(showKernel).join("\n");
    case "wgsl":
      return picked(shadersOf([program]), wanted)
        .map((s) => `// ${s.name}.wgsl\n${s.text}`)
        .join("\n");
    case "cuda":
      return picked(sourcesOf([program]), wanted)
        .map((s) => `// ${s.name}.cu\n${s.text}`)
        .join("\n");
    case "native":
      // Widest first. Kernels share a prelude, so the text is shown whole.
      return program.program.native?.map((n) => n.code).join("\n") ?? "";
    case "wasm":
      return wasmText(emitModule(picked(program.kernels, wanted), { relaxed: false }).bytes);
  }
}

/** Those of GPUs come in variants, best first; what several have in common is shown once. */
function kernelsOf(program: CompiledProgram, what: "tiles"): readonly TileKernel[];
function kernelsOf(program: CompiledProgram, what: "kernels"): readonly Kernel<Warp>[];
function kernelsOf(
  program: CompiledProgram,
  what: "tiles" | "kernels",
): readonly (TileKernel | Kernel<Warp>)[] {
  const variants = program.wgsl ?? program.cuda ?? program.native;
  const all = variants?.flatMap((variant): readonly (TileKernel | Kernel<Warp>)[] => variant[what]);
  const byText = new Map((all ?? program[what]).map((kernel) => [JSON.stringify(kernel), kernel]));
  return [...byText.values()];
}

function picked<K extends { readonly name: string }>(
  kernels: readonly K[],
  wanted: string | undefined,
): readonly K[] {
  if (wanted === undefined) return kernels;
  const found = kernels.filter((k) => k.name.includes(wanted));
  if (found.length > 0) return found;
  const names = [...new Set(kernels.map((k) => k.name))];
  const meant = nearest(wanted, names);
  const hint = meant === null ? "" : ` Did you mean '${meant}'?`;
  throw inputError(
    `there is no kernel '${wanted}'; there are ${names.map((n) => `'${n}'`).join(", ")}.${hint}`,
  );
}
