/** `heddle explain`: what a spec costs at a length, which schedule is chosen and why, and what its CUDA kernels take of a GPU. */
import { compileSpec } from "../compile.ts";
import type { CompiledProgram } from "../compile.ts";
import type { Spec } from "../spec.ts";
import { kernelNumbers } from "./explain/kernels.ts";
import { attentionNumbers, modelNumbers, toPlain } from "./explain/numbers.ts";
import type { AttentionNumbers, Explained, ModelNumbers } from "./explain/numbers.ts";
import { attentionText, modelText } from "./explain/text.ts";
import { exitCodes } from "./failure.ts";
import type { ExitCode } from "./failure.ts";
import { progressOn, traceTo } from "./io.ts";
import type { Io } from "./io.ts";
import { checkedSpec, itemsNamed } from "./spec-file.ts";
import type { Format, Item } from "./spec-file.ts";

export type ExplainOptions = {
  readonly length: number;
  /** Sequences, for the memory of models. */
  readonly batch: number;
  /** Whose schedules and kernels. */
  readonly target: Explained;
  /** Architectures whose registers are counted, of target `cuda`. */
  readonly sm: readonly string[];
  readonly json: boolean;
  readonly format: Format;
};

export async function explain(
  path: string,
  name: string | undefined,
  options: ExplainOptions,
  io: Io,
): Promise<ExitCode> {
  const file = await checkedSpec(path, options.json ? "json" : options.format, io);
  if (file === null) return exitCodes.diagnostics;
  const { spec } = file;
  const progress = progressOn(io);
  const parts: (readonly [AttentionNumbers | ModelNumbers, boolean])[] = [];
  try {
    for (const item of itemsNamed(spec, name, path)) {
      progress.say(`explaining ${item.spec.name}`);
      parts.push(await numbersOf(spec, item, options, io));
    }
  } finally {
    progress.end();
  }
  const all = parts.map(([numbers]) => numbers);
  if (options.json) io.out(`${JSON.stringify(name === undefined ? all : all[0], toPlain, 2)}\n`);
  else
    io.out(
      parts
        .map(([n, causal]) => (n.kind === "model" ? modelText(n, causal) : attentionText(n, causal)))
        .join("\n"),
    );
  return exitCodes.ok;
}

/** The numbers of an item, and whether it is causal. */
async function numbersOf(
  spec: Spec,
  item: Item,
  { length, batch, target, sm }: ExplainOptions,
  io: Io,
): Promise<readonly [AttentionNumbers | ModelNumbers, boolean]> {
  const compiled = (): CompiledProgram => {
    const trace = traceTo(io);
    const vectors = target === "native" ? { vectors: ["avx512"] as const } : {};
    const wish = {
      target,
      names: [item.spec.name],
      length,
      ...vectors,
      ...(trace === undefined ? {} : { trace }),
    };
    const [program] = compileSpec(spec, wish);
    if (program === undefined) throw new Error("heddle: internal: nothing was compiled");
    return program;
  };
  const kernels = async (program: CompiledProgram) => kernelNumbers([program], sm, io.env);
  if (item.kind === "attention") {
    const numbers = attentionNumbers(item.spec, length, spec, target);
    const all = target === "cuda" ? { ...numbers, kernels: await kernels(compiled()) } : numbers;
    return [all, item.spec.causal];
  }
  const program = compiled();
  const numbers = modelNumbers(item.spec, program, { N: length, B: batch }, spec, target);
  const all = target === "cuda" ? { ...numbers, kernelUse: await kernels(program) } : numbers;
  return [all, item.spec.attention.causal];
}
