/** What to compile for, as the command line names it. */
import type { TargetName } from "../compile.ts";

export const targetNames = ["wasm", "wgsl", "cuda", "native"] as const satisfies readonly TargetName[];
/** What a module's kernels are for unless told otherwise: what every host has. CUDA C++ would only be read by Node. */
export const moduleTargets = ["wasm", "wgsl"] as const satisfies readonly TargetName[];

/** `all` of a module. C takes a text for each width of vectors, and a compiler where it runs: it is only written when it is named. */
const allTargets = ["wasm", "wgsl", "cuda"] as const satisfies readonly TargetName[];

/** `wasm`, `wasm,wgsl` or `all`; a sentence where it is neither. */
export function targetsOf(text: string): readonly TargetName[] | string {
  if (text === "all") return allTargets;
  const words = text.split(",").map((w) => w.trim());
  const known = targetNames.filter((t) => words.includes(t));
  const unknown = words.filter((w) => !(targetNames as readonly string[]).includes(w));
  if (unknown.length === 0) return known;
  return `Targets are ${targetNames.join(", ")}, several with commas between them, or all.`;
}
