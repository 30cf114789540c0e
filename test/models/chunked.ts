/** Models in chunks of rows beside the same models whole, on a GPU's device. */
import { expect } from "vitest";
import type { Device, Executable } from "../../runtime/device.ts";
import { memoryOf } from "../../runtime/memory.ts";
import { variantFor } from "../../runtime/plan.ts";
import type { Program } from "../../runtime/plan.ts";
import { elementsAt } from "../../runtime/tensors.ts";
import type { Extent, Tensors } from "../../runtime/tensors.ts";
import { compileSpec } from "../../src/compile.ts";
import type { CompiledProgram, CompileOptions } from "../../src/compile.ts";
import { noise } from "../cli/session.ts";
import { noiseWeights, specOf } from "../webgpu/programs.ts";

const ATTENTION = `attention near {
  heads 2  head_dim 8  causal true  dtype f16
  branch segment 32 dilation 1  branch segment 128 dilation 4
}`;
/** A model in 16 bits with an FFN wider than the rest. */
export const DECODER = `${ATTENTION}
  model text { kind decoder vocab 11 dim 16 layers 2 ffn 96 gelu attention near position xpos base 512 norm sub_ln }`;
/** One of few kernels, for what takes long to compile or to run them. */
export const NARROW = `${ATTENTION}
  model text { kind decoder vocab 11 dim 16 layers 1 ffn 24 gelu attention near norm pre_ln }`;

export function compiledIn(text: string, target: "wgsl" | "cuda", chunk: number | null): CompiledProgram {
  const wish: CompileOptions = { target, chunk };
  const [compiled] = compileSpec(specOf(text), wish).filter((c) => c.item.kind === "model");
  if (compiled === undefined) throw new Error("nothing was compiled");
  return compiled;
}
export function inputsOf({ plan }: Pick<Executable, "plan">, at: Extent): Tensors {
  return Object.fromEntries(
    plan.inputs.map(({ name, dtype, shape }) => {
      const numbers = noise(elementsAt(shape, at), 5);
      const below = name === "tokens" ? 11 : 2;
      return [name, dtype === "i32" ? Int32Array.from(numbers, (x) => ((x + 1) / 2) * below) : numbers];
    }),
  );
}

/** Runs a program and holds its memory to its plan. */
export async function ran(device: Device, program: Program, at: Extent): Promise<Tensors> {
  const executable = await device.compile(program, { weights: noiseWeights(program).source });
  try {
    // A length in between: nothing of it may be left.
    const less = { N: 2, B: 1 };
    await executable.run(inputsOf(executable, less), less);
    const outputs = await executable.run(inputsOf(executable, at), at);
    const { activations, tables } = memoryOf(executable.plan, at);
    expect(executable.memory()).toMatchObject({ arena: activations, tables });
    return outputs;
  } finally {
    await executable.dispose();
  }
}

/** Launches that go chunk by chunk of the plan that a target runs, and bytes of its activations. */
export const chunksOf = ({ webgpu, cuda }: Program, at: Extent) => {
  const plan = (webgpu?.at(-1) ?? cuda?.at(-1))?.plan;
  if (plan === undefined) throw new Error("a program of a GPU");
  return { chunks: variantFor(plan, at.N).chunks ?? [], bytes: memoryOf(plan, at).activations };
};
