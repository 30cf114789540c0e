/** Attention kernels on a machine: launches of a schedule, run on the interpreter and held against the reference. */
import { lowerAttention } from "../../codegen/lower/attention/index.ts";
import type { AttentionNode } from "../../codegen/lower/attention/tiles.ts";
import type { Launch } from "../../codegen/lower/launch.ts";
import type { AttentionTiling } from "../../codegen/lower/tilings.ts";
import { wordsOf } from "../../codegen/plan.ts";
import { sizeOf } from "../../runtime/plan.ts";
import { interpret } from "../../src/interpret.ts";
import type { Kernel, TileKernel } from "../../src/kernel.ts";
import { attention } from "../../src/reference.ts";
import { legal, type Schedule, type ScheduleChoice } from "../../src/schedule.ts";
import type { AttentionSpec } from "../../src/spec.ts";
import { compare } from "../../src/tolerance.ts";

const limits = { sharedBytes: 1 << 24, workgroup: 1024, rowStep: 4, keyStep: 4 };

export const nodeOf = (spec: AttentionSpec, decay?: AttentionNode["decay"]): AttentionNode => {
  const node = { op: "attention" as const, q: "q", k: "k", v: "v", out: "out", lse: "lse", spec };
  return decay === undefined ? node : { ...node, decay };
};

export const scheduled = (spec: AttentionSpec, choice: ScheduleChoice, N: number): Schedule | null => {
  const verdict = legal(spec, choice, limits, N);
  return verdict.ok ? verdict.schedule : null;
};

export const launchesOf = (
  node: AttentionNode,
  schedule: Schedule,
  tiling?: AttentionTiling,
): readonly Launch<TileKernel>[] => lowerAttention(node, schedule, "f32", tiling);

export function noise(length: number, seed: number): Float32Array {
  let state = Math.imul(seed, 2654435761) + 12345;
  return Float32Array.from({ length }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) | 0;
    return (state >>> 8) / (1 << 23) - 1;
  });
}

/** Runs all launches in order; every buffer that nobody has written is NaN. */
export function run(
  node: AttentionNode,
  launches: readonly Launch<Kernel>[],
  at: { readonly N: number; readonly B: number },
): { readonly [value: string]: Float32Array } {
  const { N, B } = at;
  const { heads, kvHeads, headDim } = node.spec;
  const values: Record<string, Float32Array> = {
    q: noise(B * N * heads * headDim, 1),
    k: noise(B * N * kvHeads * headDim, 2),
    v: noise(B * N * kvHeads * headDim, 3),
    out: new Float32Array(B * N * heads * headDim).fill(NaN),
    lse: new Float32Array(B * heads * N).fill(NaN),
  };
  for (const l of launches) {
    for (const t of l.temporaries ?? []) values[t.id] ??= new Float32Array(sizeOf(wordsOf(t), at)).fill(NaN);
    const buffers = Object.fromEntries(
      Object.entries(l.bind).map(([name, b]) => {
        const found = "value" in b ? values[b.value] : undefined;
        if (found === undefined) throw new Error(`no value for ${name}`);
        return [name, found];
      }),
    );
    const scalars = Object.fromEntries(
      Object.entries(l.scalars).map(([name, size]) => [name, sizeOf(size, at)]),
    );
    interpret(l.kernel, { buffers, scalars, groups: sizeOf(l.grid, at) });
  }
  return values;
}

/** The worst errors of out and lse against the reference, as shares of what is allowed; throws when above. */
export function hold(
  node: AttentionNode,
  values: { readonly [value: string]: Float32Array },
  { N, B }: { readonly N: number; readonly B: number },
): number {
  const { spec, decay } = node;
  const wide = (name: string) => Float64Array.from(values[name] ?? []);
  const meant = attention(spec, { q: wide("q"), k: wide("k"), v: wide("v"), N, B, decay });
  const terms = spec.headDim + spec.branches.length * N;
  const out = compare(values["out"] ?? [], meant.out, { dtype: "f32", terms });
  const lse = compare(values["lse"] ?? [], meant.lse, { dtype: "f32", terms, atLeast: 1 });
  for (const [name, c] of [
    ["out", out],
    ["lse", lse],
  ] as const)
    if (!c.ok) throw new Error(`${name}[${c.at}] is off by ${c.worst}, allowed ${c.limit}`);
  return Math.max(out.limit === 0 ? 0 : out.worst / out.limit, lse.worst / lse.limit);
}
