/** Programs for CUDA that the tests of its runtime share. */
import type { Program } from "../../runtime/plan.ts";
import { compileSpec } from "../../src/compile.ts";
import type { ScheduleKind } from "../../src/schedule.ts";
import { seal } from "../../src/spec.ts";
import type { AttentionSpec, ModelSpec, Spec } from "../../src/spec.ts";

const only = (part: Partial<Spec>): Spec => seal({ attentions: [], models: [], schedules: [], ...part });

/** An attention, at any length or at one; null where the schedule is not legal for it. */
export function attentionProgram(
  spec: AttentionSpec,
  wish: { readonly schedule?: ScheduleKind; readonly length?: number } = {},
): Program | null {
  try {
    return compileSpec(only({ attentions: [spec] }), { target: "cuda", ...wish })[0]?.program ?? null;
  } catch (error) {
    if ((error as Error).name === "ScheduleError") return null;
    throw error;
  }
}

/** Models are all called the same, so that equal kernels are compiled once. */
export function modelProgram(given: ModelSpec): Program {
  const attention = seal({ ...given.attention, name: "attention" });
  const spec = seal({ ...given, name: "model", attention });
  const [compiled] = compileSpec(only({ models: [spec] }), { target: "cuda", names: [spec.name] });
  if (compiled === undefined) throw new Error("nothing was compiled");
  return compiled.program;
}
