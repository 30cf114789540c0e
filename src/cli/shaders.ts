/** The shaders of compiled programs as whole texts, as a WebGPU device gets them where no tensor is split. */
import type { Shader } from "../../runtime/plan.ts";
import { shaderText } from "../../runtime/webgpu/shader.ts";
import type { CompiledProgram } from "../compile.ts";

export type WholeShader = {
  /** The kernel's, with the features that it needs: `linear_8_8.subgroups.f16`. Good for a file. */
  readonly name: string;
  /** Export name of the kernel. */
  readonly kernel: string;
  /** What it computes. */
  readonly title: string;
  readonly features: readonly ("subgroups" | "shader-f16")[];
  /** Bytes of workgroup storage, and invocations of a group. */
  readonly sharedBytes: number;
  readonly workgroup: number;
  readonly shader: Shader;
  readonly text: string;
  /** Names of the programs that run it. */
  readonly programs: readonly string[];
};

/** What the text's uniform `tables` holds. */
const tablesText = ({ tables = [] }: Shader): string =>
  tables.map((t) => `// tables.${t.name}: ${t.values.join(" ")}\n`).join("");

/** Every different shader, in the order of programs and kernels; those of 16-bit tensors with and without `shader-f16`. */
export function shadersOf(programs: readonly CompiledProgram[]): readonly WholeShader[] {
  const found = new Map<string, WholeShader & { readonly programs: string[] }>();
  const names = new Set<string>();
  for (const { name: program, program: compiled } of programs)
    for (const { features, plan, shaders } of compiled.webgpu ?? [])
      shaders.forEach((shader, k) => {
        const kernel = plan.kernels[k];
        if (kernel === undefined)
          throw new Error(`heddle: internal: shader ${k} of '${program}' has no kernel`);
        for (const f16 of shader.buffers.some((b) => b.dtype === "f16") ? [false, true] : [false]) {
          const needs = [...features, ...(f16 ? (["shader-f16"] as const) : [])];
          const text = shaderText(shader, { f16, parts: shader.buffers.map(() => 1) }) + tablesText(shader);
          const key = `${needs.join()}\n${text}`;
          const known = found.get(key);
          if (known !== undefined) {
            if (!known.programs.includes(program)) known.programs.push(program);
            continue;
          }
          const wish = [kernel.entry, ...needs.map((n) => n.replace("shader-", ""))].join(".");
          let name = wish;
          for (let i = 2; names.has(name); i++) name = `${wish}.${i}`;
          names.add(name);
          const { entry, title, sharedBytes, workgroup } = kernel;
          const made = { name, kernel: entry, title, features: needs, sharedBytes, workgroup, shader, text };
          found.set(key, { ...made, programs: [program] });
        }
      });
  return [...found.values()];
}
