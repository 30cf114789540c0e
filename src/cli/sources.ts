/** The CUDA C++ of compiled programs, text by text. */
import type { Plan } from "../../runtime/plan.ts";
import type { CompiledProgram } from "../compile.ts";
import { showSize } from "../show.ts";

export type WholeSource = {
  /** The kernel's. Good for a file. */
  readonly name: string;
  /** The function's name in the text. */
  readonly entry: string;
  /** What it computes. */
  readonly title: string;
  /** Of a block: threads, and bytes of dynamic shared memory. */
  readonly workgroup: number;
  readonly sharedBytes: number;
  readonly options: readonly string[];
  /** Its launches as formulas of N (tokens) and B (sequences), each once: `groups ceil(N / 64), N: N`. */
  readonly launches: readonly string[];
  readonly text: string;
  /** Names of the programs that run it. */
  readonly programs: readonly string[];
};

/** Every different text, in the order of programs and kernels. */
export function sourcesOf(programs: readonly CompiledProgram[]): readonly WholeSource[] {
  const found = new Map<string, WholeSource & { readonly programs: string[] }>();
  const names = new Set<string>();
  for (const { name: program, program: compiled } of programs)
    for (const { plan, sources, options } of compiled.cuda ?? [])
      sources.forEach(({ entry, code }, k) => {
        const kernel = plan.kernels[k];
        if (kernel === undefined)
          throw new Error(`heddle: internal: text ${k} of '${program}' has no kernel`);
        const known = found.get(code);
        if (known !== undefined) {
          if (!known.programs.includes(program)) known.programs.push(program);
          return;
        }
        let name = kernel.entry;
        for (let i = 2; names.has(name); i++) name = `${kernel.entry}.${i}`;
        names.add(name);
        const { title, workgroup, sharedBytes } = kernel;
        found.set(code, {
          name,
          entry,
          title,
          workgroup,
          sharedBytes,
          options,
          launches: launchesOf(plan, k),
          text: code,
          programs: [program],
        });
      });
  return [...found.values()];
}

function launchesOf(plan: Plan, kernel: number): readonly string[] {
  const scalars = plan.kernels[kernel]?.scalars ?? [];
  const steps = plan.variants.flatMap((v) => v.steps.filter((s) => s.kernel === kernel));
  const texts = steps.map((s) =>
    [
      `groups ${showSize(s.grid)}`,
      ...s.scalars.map((size, i) => `${scalars[i]?.name ?? "?"}: ${showSize(size)}`),
    ].join(", "),
  );
  return [...new Set(texts)];
}
