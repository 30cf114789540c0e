/**
 * From lowered launches to a Plan: arguments become places, values that never live together share a slot, and every
 * size stays a formula of N and B.
 *
 * Slots: two values may share one only if their size formulas, in 32-bit words, are the same after normalisation, so that the
 * reuse is right at every length. Within such a class values take the first free slot in order of execution; intervals then
 * need exactly as many slots as values are ever alive at once, so the arena does not grow with the number of layers.
 */
import { chunkOf, chunkWords, runsOf } from "./chunks.ts";
import type { Run } from "./chunks.ts";
import { sizeOf } from "../runtime/plan.ts";
import type { BufferRef, Plan, PlanKernel, PlanVariant, PlanWeight, Step } from "../runtime/plan.ts";
import type { EntryName, PlanDecoding, PlanEntry, PlanTable, TensorSpec } from "../runtime/plan.ts";
import type { Dim, Graph, Value, ValueId, Weight } from "../src/graph.ts";
import type { GraphState } from "../src/graph/decode.ts";
import { declaredBytes } from "../src/kernel.ts";
import type { Kernel, Size } from "../src/kernel.ts";
import type { Warp } from "../src/warp.ts";
import type { Binding, Launch, Temporary } from "./lower/launch.ts";

/** The launches of a program for all lengths up to `upTo` (null: every longer one), in order of execution. */
export type LoweredVariant<K extends Kernel<Warp> = Kernel> = {
  readonly upTo: number | null;
  /** For a reader: which schedule the launches follow. */
  readonly schedule: string;
  readonly launches: readonly Launch<K>[];
};

export type PlanInput<K extends Kernel<Warp> = Kernel> = {
  readonly name: string;
  readonly graph: Graph;
  readonly variants: readonly LoweredVariant<K>[];
  /** Makes the hidden values outputs `hidden.0` … `hidden.L`, apart from those that are inputs or outputs already. */
  readonly hidden?: boolean;
  /** Rows of a chunk, where sequences are to run in chunks. */
  readonly chunk?: number;
  /** Says of linear layers what they compute, for devices with products of their own. */
  readonly linears?: boolean;
  /** Programs beside the main one, over its weights and kernels, and the states they share. */
  readonly decoding?: LoweredDecoding<K>;
};

/** A program beside the main one. */
export type LoweredEntry<K extends Kernel<Warp> = Kernel> = {
  readonly graph: Graph;
  readonly variants: readonly LoweredVariant<K>[];
};
export type LoweredDecoding<K extends Kernel<Warp> = Kernel> = Omit<PlanDecoding, "states" | "entries"> & {
  readonly states: readonly GraphState[];
  readonly entries: { readonly [N in EntryName]?: LoweredEntry<K> };
};

export type PlanResult<K extends Kernel<Warp> = Kernel> = {
  readonly plan: Plan;
  /** The kernels of `plan.kernels`, in that order. */
  readonly kernels: readonly K[];
  /** Where the hidden values are found, embedding first; empty unless asked for. */
  readonly hidden: readonly (BufferRef & { readonly in: "input" | "output" })[];
};

const internal = (why: string): Error => new Error(`heddle: internal: plan: ${why}`);

/** The number of elements of a shape as a formula: coefficient · B^i · N^j, written in one way only. */
export function elementsOf(shape: readonly Dim[]): Size {
  let coefficient = 1;
  for (const d of shape) if (typeof d === "number") coefficient *= d;
  let size: Size = coefficient;
  for (const symbol of ["B", "N"] as const)
    for (const d of shape) if (d === symbol) size = size === 1 ? symbol : { op: "mul", args: [size, symbol] };
  return size;
}

/** 32-bit words of a value: two 16-bit elements share one. */
export function wordsOf({ dtype, shape, elements }: Pick<Temporary, "dtype" | "shape" | "elements">): Size {
  if (elements !== undefined)
    return dtype === "f16" || dtype === "bf16" ? { op: "ceilDiv", args: [elements, 2] } : elements;
  if (dtype !== "f16" && dtype !== "bf16") return elementsOf(shape);
  const whole = shape.findIndex((d) => typeof d === "number" && d % 2 === 0);
  if (whole < 0) return { op: "ceilDiv", args: [elementsOf(shape), 2] };
  return elementsOf(shape.map((d, i) => (i === whole && typeof d === "number" ? d / 2 : d)));
}

/** The Plan of a program. Throws an internal error where launches and graph do not agree. */
export function makePlan<K extends Kernel<Warp> = Kernel>(input: PlanInput<K>): PlanResult<K> {
  const { graph, decoding } = input;
  const places = placesOf(graph, input.hidden === true);
  const states = new Map((decoding?.states ?? []).map((s, index) => [s.id, index]));
  const kernels = new Map<string, { readonly index: number; readonly kernel: K; readonly body: string }>();
  const planKernels: PlanKernel[] = [];
  const weights: PlanWeight[] = [];
  const weightIndex = new Map<string, number>();

  const kernelOf = (launch: Launch<K>): number => {
    const { kernel } = launch;
    const known = kernels.get(kernel.name);
    if (known !== undefined) {
      if (known.kernel !== kernel && known.body !== JSON.stringify(kernel))
        throw internal(`two different kernels are called '${kernel.name}'`);
      return known.index;
    }
    const index = planKernels.length;
    kernels.set(kernel.name, { index, kernel, body: JSON.stringify(kernel) });
    planKernels.push({
      entry: kernel.name,
      title: launch.title,
      buffers: kernel.buffers.map(({ name, dtype, access }) => ({ name, dtype, access })),
      scalars: kernel.scalars.map(({ name, type }) => ({ name, type })),
      sharedBytes: declaredBytes(kernel.shared),
      workgroup: kernel.workgroup,
      ...(input.linears === true && launch.linear !== undefined ? { linear: launch.linear } : {}),
    });
    return index;
  };
  const intern = <T>(list: T[], index: Map<string, number>, item: T): number => {
    const key = JSON.stringify(item);
    const known = index.get(key);
    if (known !== undefined) return known;
    index.set(key, list.length);
    return list.push(item) - 1;
  };

  /** What a plan has of its own besides weights and kernels. */
  const entryFor = ({ graph, variants: lowered }: LoweredEntry<K>, places: Places): PlanEntry => {
    const tables: PlanTable[] = [];
    const tableIndex = new Map<string, number>();
    const variants = lowered.map((variant): PlanVariant => {
      const values = valuesOf(graph, variant.launches);
      const { launches } = variant;
      const rows = input.chunk ?? 0;
      const found = input.chunk === undefined ? [] : runsFor(graph, launches, values, places, states);
      const inChunks = assignSlots(launches, values, places, (id, words) =>
        found.some((r) => r.inside.has(id)) ? chunkWords(words, rows) : words,
      );
      const whole = assignSlots(launches, values, places, (_, words) => words);
      const saves = arenaBytes(inChunks, far(variant)) < arenaBytes(whole, far(variant));
      const [runs, { slotOf, slots }] = saves ? [found, inChunks] : [[], whole];
      const refOf = (binding: Binding, launch: Launch<K>): BufferRef => {
        if ("table" in binding) return { in: "table", index: intern(tables, tableIndex, binding.table) };
        const weight = places.weights.get(binding.value);
        if (weight !== undefined) {
          const { name, shape, dtype } = weight;
          if (dtype === "i32") throw internal(`weight '${name}' holds integers`);
          const stored = dtype === "f32" ? {} : { dtype };
          const bound: PlanWeight = { name, shape, layout: binding.layout ?? "rows", ...stored };
          return { in: "weight", index: intern(weights, weightIndex, bound) };
        }
        if (binding.layout === "panels")
          throw internal(
            `'${launch.title}' wants '${binding.value}' in panels, but only weights are repacked`,
          );
        const direct = places.direct.get(binding.value);
        if (direct !== undefined) return direct;
        const state = states.get(binding.value);
        if (state !== undefined) return { in: "state", index: state };
        const slot = slotOf.get(binding.value);
        if (slot === undefined) throw internal(`'${launch.title}' uses the unknown value '${binding.value}'`);
        return { in: "slot", index: slot };
      };
      const steps = variant.launches.map((launch): Step => {
        const { kernel } = launch;
        checkNames(launch, "buffer", Object.keys(launch.bind), kernel.buffers);
        checkNames(launch, "scalar", Object.keys(launch.scalars), kernel.scalars);
        return {
          kernel: kernelOf(launch),
          title: launch.title,
          buffers: kernel.buffers.map((b) => refOf(launch.bind[b.name] as Binding, launch)),
          scalars: kernel.scalars.map((s) => launch.scalars[s.name] as Size),
          grid: launch.grid,
        };
      });
      const chunks = runs.map((run) =>
        chunkOf(run, rows, [...new Set([...run.inside].flatMap((id) => slotOf.get(id) ?? []))]),
      );
      const { upTo, schedule } = variant;
      return { upTo, schedule, steps, ...(chunks.length === 0 ? {} : { chunks }), slots };
    });
    return {
      inputs: graph.inputs.map((v) => tensorOf(v.name, v)),
      outputs: places.outputs,
      tables,
      variants,
    };
  };
  const main = entryFor(input, places);
  const beside = (entry: LoweredEntry<K>) => entryFor(entry, placesOf(entry.graph, false));

  const bound = new Set(weights.map((w) => w.name));
  const plan: Plan = {
    format: 1,
    name: input.name,
    inputs: main.inputs,
    outputs: main.outputs,
    weights,
    tables: main.tables,
    accepts: [
      ...graph.weights.filter((w) => !bound.has(w.name)).map(({ name, shape }) => ({ name, shape })),
      ...graph.aliases.map(({ alias, of }) => {
        const weight = graph.weights.find((w) => w.name === of);
        if (weight === undefined) throw internal(`alias '${alias}' of the unknown weight '${of}'`);
        return { name: alias, shape: weight.shape, sameAs: of };
      }),
      ...graph.ignored,
    ],
    kernels: planKernels,
    variants: main.variants,
    ...(decoding === undefined ? {} : { decoding: decodingOf(decoding, beside) }),
  };
  return { plan, kernels: [...kernels.values()].map((k) => k.kernel), hidden: places.hidden };
}

function decodingOf<K extends Kernel<Warp>>(
  { states, entries, ...rest }: LoweredDecoding<K>,
  entryFor: (entry: LoweredEntry<K>) => PlanEntry,
): PlanDecoding {
  const { prefill, step, promote } = entries;
  if (prefill === undefined || step === undefined) throw internal("generation needs a prefill and a step");
  return {
    states: states.map(({ id, ...state }) => ({ name: id, ...state })),
    entries: {
      prefill: entryFor(prefill),
      step: entryFor(step),
      ...(promote === undefined ? {} : { promote: entryFor(promote) }),
    },
    ...rest,
  };
}

/** Every value that launches may name besides inputs and weights: the graph's and the lowering's own. */
export const valuesOf = (
  graph: Graph,
  launches: readonly Launch<unknown>[],
): ReadonlyMap<ValueId, Temporary> =>
  new Map([...graph.values, ...launches.flatMap((l) => l.temporaries ?? [])].map((v) => [v.id, v]));

/** The runs of launches that go chunk by chunk. */
export const runsFor = (
  graph: Graph,
  launches: readonly Launch<unknown>[],
  values: ReadonlyMap<ValueId, Value>,
  places: { readonly direct: { readonly has: (id: ValueId) => boolean } },
  states: { readonly has: (id: ValueId) => boolean },
): readonly Run[] =>
  runsOf(
    launches,
    new Map([...graph.inputs.map((v) => [v.id, v] as const), ...values]),
    (id) => places.direct.has(id) || states.has(id),
  );

type Places = {
  readonly weights: ReadonlyMap<ValueId, Weight>;
  /** Values that are inputs or outputs. */
  readonly direct: ReadonlyMap<ValueId, BufferRef & { readonly in: "input" | "output" }>;
  readonly outputs: readonly TensorSpec[];
  readonly hidden: readonly (BufferRef & { readonly in: "input" | "output" })[];
};

function placesOf(graph: Graph, withHidden: boolean): Places {
  const direct = new Map<ValueId, BufferRef & { readonly in: "input" | "output" }>();
  const outputs: TensorSpec[] = [];
  graph.inputs.forEach((v, index) => direct.set(v.id, { in: "input", index }));
  const values = new Map(graph.values.map((v) => [v.id, v]));
  const emit = (name: string, id: ValueId) => {
    const value = values.get(id);
    if (value === undefined) throw internal(`output '${name}' is the unknown value '${id}'`);
    const place = { in: "output", index: outputs.length } as const;
    direct.set(id, place);
    outputs.push(tensorOf(name, value));
    return place;
  };
  for (const { name, value } of graph.outputs) {
    if (direct.has(value)) throw internal(`output '${name}' is an input or another output`);
    emit(name, value);
  }
  const hidden = withHidden ? graph.hidden.map((id, i) => direct.get(id) ?? emit(`hidden.${i}`, id)) : [];
  return { weights: new Map(graph.weights.map((w) => [w.id, w])), direct, outputs, hidden };
}

const tensorOf = (name: string, v: Value): TensorSpec => ({ name, dtype: v.dtype, shape: v.shape });

/** Linear scan: a value holds a slot from the first launch that mentions it to the last. */
function assignSlots(
  launches: readonly Launch<unknown>[],
  values: ReadonlyMap<ValueId, Temporary>,
  places: Places,
  sizeFor: (id: ValueId, words: Size) => Size,
): { readonly slotOf: ReadonlyMap<ValueId, number>; readonly slots: readonly Size[] } {
  const mentioned = launches.map((launch) => {
    const ids = Object.values(launch.bind).flatMap((b) => ("value" in b ? [b.value] : []));
    return [...new Set(ids)].filter(
      (id) => values.has(id) && !places.direct.has(id) && !places.weights.has(id),
    );
  });
  const last = new Map<ValueId, number>();
  mentioned.forEach((ids, at) => ids.forEach((id) => last.set(id, at)));

  const slotOf = new Map<ValueId, number>();
  const slots: Size[] = [];
  /** Free slots by formula, the lowest taken first. */
  const free = new Map<string, number[]>();
  mentioned.forEach((ids, at) => {
    for (const id of ids) {
      if (slotOf.has(id)) continue;
      const size = sizeFor(id, wordsOf(values.get(id) as Temporary));
      const available = free.get(JSON.stringify(size));
      slotOf.set(id, available?.shift() ?? slots.push(size) - 1);
    }
    for (const id of ids) {
      if (last.get(id) !== at) continue;
      const slot = slotOf.get(id) as number;
      const key = JSON.stringify(slots[slot]);
      free.set(
        key,
        [...(free.get(key) ?? []), slot].sort((a, b) => a - b),
      );
    }
  });
  return { slotOf, slots };
}

function checkNames(
  launch: Launch<unknown>,
  what: string,
  given: readonly string[],
  declared: readonly { readonly name: string }[],
): void {
  const names = declared.map((d) => d.name);
  for (const name of names)
    if (!given.includes(name)) throw internal(`'${launch.title}' leaves ${what} '${name}' open`);
  for (const name of given)
    if (!names.includes(name))
      throw internal(`'${launch.title}' binds ${what} '${name}', which it does not have`);
}

/** So many rows that a chunk is little beside them. */
const far = ({ upTo }: Pick<PlanVariant, "upTo">) => {
  const N = upTo ?? 2 ** 20;
  return { N, B: Math.ceil(2 ** 20 / N) };
};

/** Bytes of the arena of one variant at length N and batch B. */
export const arenaBytes = (
  variant: Pick<PlanVariant, "slots">,
  at: { readonly N: number; readonly B: number },
): number => variant.slots.reduce<number>((bytes, slot) => bytes + 4 * sizeOf(slot, at), 0);
