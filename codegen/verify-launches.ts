/**
 * What must hold of a Plan, checked apart from the pass that makes it.
 *
 * Structure
 * - variants are ordered by length, the last one takes every longer sequence;
 * - every reference is in range; a step gives each buffer and scalar of its kernel exactly once;
 * - buffers have the dtypes of the values bound to them, and of the inputs, outputs and weights where those lie;
 * - inputs, weights and tables are never written; no step reads and writes one buffer under two names.
 * Values
 * - what a step reads was written before, in the same variant; every output is written (the first step that binds a value
 *   as `readwrite` makes it: an attention that starts its state does not read it);
 * - walking launches and steps side by side, a slot still holds the value that the launch meant (live values never
 *   overlap), and its size formula is that of the value;
 * - every kernel is used, and so are weights and tables.
 */
import { entryOf, sizeOf, storageOf } from "../runtime/plan.ts";
import type { BufferRef, EntryName, Plan, PlanKernel, PlanVariant, Size } from "../runtime/plan.ts";
import { chunkWords } from "./chunks.ts";
import { valuesOf, wordsOf } from "./plan.ts";
import type { LoweredEntry, LoweredVariant, PlanInput } from "./plan.ts";
import { chunkedValues } from "./verify-chunks.ts";
import type { Graph, ValueId } from "../src/graph.ts";
import type { Kernel } from "../src/kernel.ts";
import type { Warp } from "../src/warp.ts";

const internal = (why: string): Error => new Error(`heddle: internal: plan does not verify: ${why}`);
const keyOf = (ref: BufferRef): string => `${ref.in} ${ref.index}`;

/** Throws an internal error unless `plan` does what `input` asks; returns it otherwise. */
export function verifyLaunches<K extends Kernel<Warp> = Kernel>(plan: Plan, input: PlanInput<K>): Plan {
  const used = new Set<string>();
  verifyEntry(plan, input, used);
  for (const name of Object.keys(plan.decoding?.entries ?? {}) as EntryName[]) {
    const entry = input.decoding?.entries[name];
    if (entry === undefined) throw internal(`nobody asked for the entry '${name}'`);
    verifyEntry(entryOf(plan, name), entry, used);
  }
  everyUsed(used, "kernel", plan.kernels.length);
  everyUsed(used, "weight", plan.weights.length);
  everyUsed(used, "state", plan.decoding?.states.length ?? 0);
  return plan;
}

function everyUsed(used: ReadonlySet<string>, kind: string, count: number): void {
  for (let i = 0; i < count; i++) if (!used.has(`${kind} ${i}`)) throw internal(`${kind} ${i} is never used`);
}

/** One program of a plan: the main one, or one beside it. */
function verifyEntry<K extends Kernel<Warp>>(plan: Plan, input: LoweredEntry<K>, all: Set<string>): void {
  if (plan.variants.length === 0) throw internal("it has no variant");
  if (plan.variants.length !== input.variants.length) throw internal("a variant is missing");
  const used = new Set<string>();
  let below = 0;
  plan.variants.forEach((variant, i) => {
    const isLast = i === plan.variants.length - 1;
    if ((variant.upTo === null) !== isLast) throw internal("only the last variant may take every length");
    if (variant.upTo !== null && variant.upTo <= below) throw internal("variants are not ordered by length");
    below = variant.upTo ?? below;
    verifyVariant(plan, variant, input.variants[i] as LoweredVariant<K>, input.graph, used);
  });
  everyUsed(used, "table", plan.tables.length);
  used.forEach((key) => all.add(key));
  const names = plan.outputs.map((o) => o.name);
  if (new Set(names).size !== names.length) throw internal(`outputs share a name: ${names.join(", ")}`);
}

function verifyVariant(
  plan: Plan,
  variant: PlanVariant,
  meant: LoweredVariant<Kernel<Warp>>,
  graph: Graph,
  used: Set<string>,
): void {
  if (variant.steps.length !== meant.launches.length) throw internal("a launch has no step");
  const values = valuesOf(graph, meant.launches);
  const sizes = new Map<ValueId, Size>();
  for (const v of values.values()) sizes.set(v.id, wordsOf(v));
  const shapes = new Map([...graph.inputs, ...values.values()].map((v) => [v.id, v.shape]));
  for (const [id, rows] of chunkedValues(variant, meant.launches, shapes)) {
    const words = sizes.get(id);
    if (words !== undefined) sizes.set(id, chunkWords(words, rows));
  }
  const dtypes = new Map(
    [...graph.inputs, ...graph.weights, ...values.values(), ...(graph.states ?? [])].map((v) => [
      v.id,
      v.dtype,
    ]),
  );
  const counts: { readonly [K in BufferRef["in"]]: number } = {
    input: plan.inputs.length,
    output: plan.outputs.length,
    weight: plan.weights.length,
    table: plan.tables.length,
    slot: variant.slots.length,
    state: plan.decoding?.states.length ?? 0,
  };
  const states = new Map((graph.states ?? []).map((s, index) => [s.id, index]));
  /** Which value a slot or an output holds now. */
  const holds = new Map<string, ValueId>();
  const made = new Set<ValueId>();

  variant.steps.forEach((step, at) => {
    const launch = meant.launches[at];
    const kernel = plan.kernels[step.kernel];
    if (kernel === undefined || launch === undefined || launch.kernel.name !== kernel.entry)
      throw internal(`step ${at} runs the wrong kernel`);
    used.add(`kernel ${step.kernel}`);
    const where = `step ${at} '${step.title}'`;
    if (step.buffers.length !== kernel.buffers.length || step.scalars.length !== kernel.scalars.length)
      throw internal(`${where} does not give every argument of '${kernel.entry}'`);
    aliasing(step.buffers, kernel, where);

    const written: { key: string; value: ValueId }[] = [];
    step.buffers.forEach((ref, i) => {
      const buffer = kernel.buffers[i] as PlanKernel["buffers"][number];
      if (!(ref.index >= 0 && ref.index < counts[ref.in])) throw internal(`${where}: no ${keyOf(ref)}`);
      used.add(keyOf(ref));
      const binding = launch.bind[buffer.name];
      if (
        ref.in === "state" &&
        !("value" in (binding ?? {}) && states.get((binding as { value: string }).value) === ref.index)
      )
        throw internal(`${where}: '${buffer.name}' is not the state it should be`);
      if (binding === undefined) throw internal(`${where}: nothing is bound to '${buffer.name}'`);
      const writes = buffer.access !== "read";
      const fixed = ref.in === "input" || ref.in === "weight" || ref.in === "table";
      for (const [what, dtype] of [
        [keyOf(ref), storageOf(plan, ref)],
        ["the value bound to it", "value" in binding ? dtypes.get(binding.value) : "f32"],
      ] as const)
        if (dtype !== undefined && dtype !== buffer.dtype)
          throw internal(`${where}: '${buffer.name}' is ${buffer.dtype} and ${what} ${dtype}`);
      if (writes && fixed) throw internal(`${where} writes ${keyOf(ref)}`);
      if ("table" in binding !== (ref.in === "table"))
        throw internal(`${where}: '${buffer.name}' is not the table it should be`);
      // What a state holds is left from earlier runs.
      if (fixed || "table" in binding || ref.in === "state") return;
      const starts = buffer.access === "readwrite" && !made.has(binding.value);
      if (buffer.access !== "write" && !starts && holds.get(keyOf(ref)) !== binding.value)
        throw internal(
          `${where} reads '${binding.value}' from ${keyOf(ref)}, which holds ${holds.get(keyOf(ref)) ?? "nothing"}`,
        );
      const size = sizes.get(binding.value);
      if (ref.in === "slot" && JSON.stringify(variant.slots[ref.index]) !== JSON.stringify(size))
        throw internal(`${where}: slot ${ref.index} has not the size of '${binding.value}'`);
      if (writes) written.push({ key: keyOf(ref), value: binding.value });
    });
    for (const w of written) {
      holds.set(w.key, w.value);
      made.add(w.value);
    }
    for (const size of [step.grid, ...step.scalars])
      for (const point of [
        { N: 1, B: 1 },
        { N: 4097, B: 3 },
      ]) {
        const n = sizeOf(size, point);
        if (!Number.isInteger(n) || n < 0) throw internal(`${where}: a size is ${n} at N = ${point.N}`);
      }
  });
  plan.outputs.forEach((o, i) => {
    if (!holds.has(`output ${i}`)) throw internal(`output '${o.name}' is never written`);
  });
}

function aliasing(refs: readonly BufferRef[], kernel: PlanKernel, where: string): void {
  refs.forEach((ref, i) => {
    refs.forEach((other, j) => {
      const writes = kernel.buffers[i]?.access !== "read";
      if (i !== j && writes && keyOf(ref) === keyOf(other))
        throw internal(`${where} has ${keyOf(ref)} twice and writes it`);
    });
  });
}
