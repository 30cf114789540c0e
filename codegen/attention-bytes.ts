/** Shared memory of an attention, for the planner: exactly what its kernels declare, since it is asked of them. */
import type { TileKernel } from "../src/kernel.ts";
import { attentionGraph } from "../src/model.ts";
import type { Schedule, ScheduleChoice } from "../src/schedule.ts";
import { seal } from "../src/spec.ts";
import type { AttentionShape } from "../src/spec.ts";
import { NARROW } from "../src/storage.ts";
import { lower } from "./lower/index.ts";
import type { Tilings } from "./lower/tilings.ts";

/**
 * The most bytes that a kernel of a schedule declares on a machine: `bytesOf` says it of one kernel. Lowering takes milliseconds and a
 * planner asks for the same at many lengths, so answers are kept as long as the spec.
 */
export function attentionBytesBy(
  tilings: Tilings,
  bytesOf: (kernel: TileKernel) => number,
): (spec: AttentionShape, choice: ScheduleChoice) => number {
  const known = new WeakMap<AttentionShape, Map<string, number>>();
  return (spec, choice) => {
    const answers = known.get(spec) ?? new Map<string, number>();
    known.set(spec, answers);
    const { kind, rows, keys } = choice;
    const key = `${kind} ${rows} ${keys}`;
    const before = answers.get(key);
    if (before !== undefined) return before;
    const graph = attentionGraph(seal(spec), NARROW);
    // Whoever asks has found it legal but for its size.
    const schedule = () => choice as Schedule;
    const launches = graph.nodes.flatMap((node) => lower(node, graph, schedule, tilings));
    const kernels = new Set(launches.map((l) => l.kernel));
    const bytes = Math.max(0, ...[...kernels].map(bytesOf));
    answers.set(key, bytes);
    return bytes;
  };
}
