/** One attention or model on every device: each kernel by itself, and a model as a whole. */
import { compileSpec } from "../../compile.ts";
import type { CompiledProgram, TargetName } from "../../compile.ts";
import type { Node } from "../../graph.ts";
import { runReference } from "../../reference.ts";
import type { ReferenceResult } from "../../reference.ts";
import { scheduleKinds } from "../../schedule.ts";
import type { ScheduleKind } from "../../schedule.ts";
import type { Spec } from "../../spec.ts";
import { compare } from "../../tolerance.ts";
import type { Comparison, FloatDtype } from "../../tolerance.ts";
import { modelReach } from "../../../codegen/decode.ts";
import { argumentsOf } from "../../../codegen/fuse.ts";
import type { Decoding } from "../../../runtime/generate/decoding.ts";
import { inputError } from "../../../runtime/input-error.ts";
import { variantFor } from "../../../runtime/plan.ts";
import type { Item } from "../spec-file.ts";
import type { Session, Subject, Tensors } from "./devices.ts";
import { generated } from "./generation.ts";
import { edgeLengths, workOf } from "./lengths.ts";
import { compareNode, kernelsOf, referenceOf } from "./nodes.ts";
import { pickFrom, randomInputs, randomWeights } from "./random.ts";
import type { Extent } from "./random.ts";

/** What one device made of one kernel at one length. */
export type Finding = {
  readonly device: string;
  readonly item: string;
  /** Names of the kernels that make a value, or what was compared as a whole. */
  readonly kernel: string;
  readonly at: Extent;
  readonly comparison: Comparison;
};
/** What could not be run, and why: `failed` on a device that should have. */
export type Remark = {
  readonly device: string;
  readonly item: string;
  readonly text: string;
  readonly failed: boolean;
};

export type Verification = {
  readonly spec: Spec;
  readonly item: Item;
  readonly subjects: readonly Subject[];
  readonly lengths?: readonly number[];
  /** Models as a whole, without every kernel by itself. */
  readonly wholeOnly?: boolean;
  readonly seed: number;
  readonly say: (text: string) => void;
};

/** Multiply-adds of the reference at the longest length: a second or so. */
const BUDGET = 3e8;

export async function verifyItem(v: Verification): Promise<readonly (Finding | Remark)[]> {
  const { item, subjects, seed } = v;
  const work = bench(v);
  const attention = item.kind === "attention" ? item.spec : item.spec.attention;
  const targets = [...new Set(subjects.map((s) => s.target))];
  const plans = (v.lengths === undefined ? targets : []).flatMap((target) => {
    const { plan, webgpu, cuda } = work.compiled(target, "own", true)?.program ?? {};
    if (target === "wasm" && plan !== undefined) return [plan];
    return [...(webgpu ?? []), ...(cuda ?? [])].map((variant) => variant.plan);
  });
  const [first] = targets;
  const graph = first === undefined ? undefined : work.compiled(first, "own", true)?.graph;
  if (graph === undefined) throw new Error("heddle: internal: there is nothing to verify");
  const position = graph.nodes.find((n) => n.op === "position");
  const rows =
    item.kind === "model" && item.spec.positions !== null && position?.op === "position"
      ? item.spec.positions.rows - position.first
      : Infinity;
  // The mean of all but a class token.
  const least = graph.nodes.some((n) => n.op === "pool" && n.of === "mean" && n.from === 1) ? 2 : 1;
  const beyond = v.lengths?.find((N) => N > rows);
  if (beyond !== undefined)
    throw inputError(`model '${item.spec.name}' has learned positions for ${rows} tokens, not for ${beyond}`);
  const lengths =
    v.lengths ??
    edgeLengths(graph, attention, plans, BUDGET, pickFrom(seed)).filter((N) => N >= least && N <= rows);
  const extents = lengths.map((N, i): Extent => ({ N, B: i % 2 === 0 ? 1 : 2 }));

  const found: (Finding | Remark)[] = [];
  for (const subject of subjects) {
    const about = { device: subject.name, item: item.spec.name };
    // Tiles are computed whole.
    const fitting = extents.filter(
      ({ N, B }) => B * workOf(graph, attention, 64 * Math.ceil(N / 64)) <= subject.most,
    );
    if (fitting.length < extents.length) {
      const text =
        fitting.length === 0
          ? "not run: it would take too long here"
          : `only at ${fitting.map(({ N }) => N).join(", ")}: longer would take too long`;
      found.push({ ...about, text, failed: false });
    }
    try {
      for (const at of await onSubject(work, subject, fitting, v)) found.push({ ...about, ...at });
    } catch (error) {
      const text = error instanceof Error ? error.message : String(error);
      found.push({ ...about, text: text.replace(/^heddle: /, ""), failed: true });
    }
  }
  return found;
}

type Wish = ScheduleKind | "own";
type Bench = ReturnType<typeof bench>;

/** What the runs of one item share: programs, numbers and references, each made once. */
function bench({ spec, item, seed }: Verification) {
  const kept = new Map<string, unknown>();
  const once = <T>(key: string, make: () => T): T => {
    if (!kept.has(key)) kept.set(key, make());
    return kept.get(key) as T;
  };
  const below = (input: string): number => {
    if (item.kind === "attention") return 1;
    return input === "tokens" ? item.spec.vocab : input === "padding_mask" ? 2 : (item.spec.grid?.cells ?? 1);
  };
  const name = item.spec.name;
  /** Null where the schedule cannot compute the item. */
  const compiled = (
    target: TargetName,
    schedule: Wish,
    values: boolean,
    generate = false,
  ): CompiledProgram | null =>
    once(`program ${target} ${schedule} ${values} ${generate}`, () => {
      try {
        const wish = schedule === "own" ? {} : { schedule };
        return compileSpec(spec, { target, names: [name], values, generate, ...wish })[0] ?? null;
      } catch (error) {
        if (schedule === "own" || !(error instanceof Error) || error.name !== "ScheduleError") throw error;
        return null;
      }
    });
  const graph = (target: TargetName) => {
    const found = compiled(target, "own", true)?.graph;
    if (found === undefined) throw new Error("heddle: internal: nothing was compiled");
    return found;
  };
  const weights = (target: TargetName) => once(`weights ${target}`, () => randomWeights(graph(target), seed));
  const inputs = (target: TargetName, at: Extent): Tensors =>
    once(`inputs ${target} ${at.N} ${at.B}`, () => randomInputs(graph(target), below, at, seed));
  return {
    item,
    compiled,
    graph,
    weights,
    inputs,
    /** Of a node that only reads inputs: the same for all devices. */
    shared: (target: TargetName, node: Node, at: Extent, make: () => ReturnType<typeof referenceOf>) => {
      const given = new Set([...graph(target).inputs, ...graph(target).weights].map((x) => x.id));
      return argumentsOf(node).every((id) => given.has(id))
        ? once(`node ${target} ${node.out} ${at.N} ${at.B}`, make)
        : make();
    },
    whole: (target: TargetName, at: Extent): ReferenceResult =>
      once(`whole ${target} ${at.N} ${at.B}`, () =>
        runReference(graph(target), Object.fromEntries(inputs(target, at)), weights(target), at),
      ),
  };
}

type Measured = Pick<Finding, "kernel" | "at" | "comparison">;

/** With the planner's schedules every operation, with the other legal ones the attention. */
async function onSubject(
  work: Bench,
  subject: Subject,
  extents: readonly Extent[],
  { say, wholeOnly = false }: Verification,
): Promise<readonly Measured[]> {
  const { name } = work.item.spec;
  const found: Measured[] = [];
  const seen = new Set<string>();
  for (const wish of extents.length === 0 || wholeOnly ? [] : (["own", ...scheduleKinds] as const)) {
    const program = work.compiled(subject.target, wish, true);
    if (program === null) continue;
    await opened(subject, program, work, async (session) => {
      for (const at of extents) {
        const { schedule } = variantFor(session.plan, at.N);
        const key = `${schedule} ${at.N}`;
        if (seen.has(key)) continue;
        seen.add(key);
        say(`${name} on ${subject.name}: ${schedule}, ${at.B} × ${at.N} tokens`);
        found.push(...(await eachNode(work, subject.target, session, at, wish !== "own")));
      }
    });
  }
  const generates = generationExtent(work.item, extents);
  const whole =
    work.item.kind === "model" ? work.compiled(subject.target, "own", false, generates !== null) : null;
  if (whole !== null)
    await opened(subject, whole, work, async (session) => {
      for (const at of extents) {
        say(`${name} on ${subject.name}: all layers, ${at.B} × ${at.N} tokens`);
        found.push(...(await asWhole(work, subject.target, session, at)));
      }
      if (generates !== null && session.decoding !== undefined) {
        say(`${name} on ${subject.name}: generation, ${generates.B} × ${generates.N} tokens`);
        found.push(await asGenerated(work, subject.target, session, session.decoding, generates));
      }
    });
  return found;
}

/** The longest extent, of two sequences where there is one, that a model generates; null for what does not. */
function generationExtent(item: Item, extents: readonly Extent[]): Extent | null {
  const reach = item.kind === "model" ? modelReach(item.spec).tokens : 0;
  const fit = extents.filter(({ N }) => N <= reach);
  return fit.filter(({ B }) => B > 1).at(-1) ?? fit.at(-1) ?? null;
}

async function opened(
  subject: Subject,
  program: CompiledProgram,
  work: Bench,
  use: (session: Session) => Promise<void>,
): Promise<void> {
  const session = await subject.open(program, work.weights(subject.target));
  try {
    await use(session);
  } finally {
    await session.dispose();
  }
}

/**
 * Compares each operation with the reference of that operation alone, on what the device itself gave it: no error hides behind
 * another. Layers repeat their kernels, so of a kernel that makes many values the first and the last are compared.
 */
async function eachNode(
  work: Bench,
  target: TargetName,
  session: Session,
  at: Extent,
  attentionOnly: boolean,
): Promise<readonly Measured[]> {
  const graph = work.graph(target);
  const inputs = work.inputs(target, at);
  const outputs = await session.run(inputs, at);
  const valueOf = (id: string) => {
    const value = outputs.get(id) ?? inputs.get(graph.inputs.find((i) => i.id === id)?.name ?? "");
    if (value === undefined) throw new Error(`heddle: internal: the device gave no '${id}'`);
    return value;
  };
  const byKernel = new Map<string, Node[]>();
  for (const node of graph.nodes) {
    if (attentionOnly && node.op !== "attention") continue;
    const kernel = kernelsOf(session.plan, node, at.N);
    byKernel.set(kernel, [...(byKernel.get(kernel) ?? []), node]);
  }
  return [...byKernel].flatMap(([kernel, nodes]) =>
    nodes
      .filter((_, i) => i === 0 || i === nodes.length - 1)
      .map((node): Measured => {
        const make = () => referenceOf(graph, node, valueOf, work.weights(target), at);
        const comparison = compareNode(graph, node, valueOf, work.shared(target, node, at, make), at);
        return { kernel, at, comparison };
      }),
  );
}

/** Compares the logits behind prompts, and of some steps more, with those of the reference's forward pass. */
async function asGenerated(
  work: Bench,
  target: TargetName,
  { plan }: Session,
  decoding: Decoding,
  at: Extent,
): Promise<Measured> {
  const tokens = work.inputs(target, at).get("tokens");
  if (plan.decoding === undefined || !(tokens instanceof Int32Array))
    throw new Error("heddle: internal: nothing to generate with");
  const { logits, rows } = await generated(decoding, plan.decoding, tokens, at);
  const vocab = logits.length / rows.length;
  const expected = Array.from(expectedOf(work, target, "logits", at));
  const meant = rows.flatMap((row) => expected.slice(row * vocab, (row + 1) * vocab));
  const kernel = `logits of ${rows.length / at.B} steps of generation`;
  return { kernel, at, comparison: compare(logits, meant, toleranceOf(work, target)) };
}

/** Compares the outputs of a model, as it is run, with the reference of the whole. */
async function asWhole(
  work: Bench,
  target: TargetName,
  session: Session,
  at: Extent,
): Promise<readonly Measured[]> {
  const outputs = await session.run(work.inputs(target, at), at);
  return session.plan.outputs.map(({ name }) => ({
    kernel: `${name} of the whole model`,
    at,
    comparison: compare(
      outputs.get(name) ?? [],
      expectedOf(work, target, name, at),
      toleranceOf(work, target),
    ),
  }));
}

/** The reference's number for an output of a model: the graph of the bench gives out every value. */
function expectedOf(work: Bench, target: TargetName, output: string, at: Extent): ArrayLike<number> {
  const own = work.compiled(target, "own", false)?.graph.outputs.find(({ name }) => name === output);
  return work.whole(target, at).values.get(own?.value ?? "") ?? [];
}

function toleranceOf({ item, graph: graphOf }: Bench, target: TargetName) {
  const graph = graphOf(target);
  const narrow = [...graph.values, ...graph.weights].some((v) => v.dtype === "f16" || v.dtype === "bf16");
  const attention = item.kind === "model" ? item.spec.attention : item.spec;
  const dtype: FloatDtype = narrow ? attention.dtype : "f32";
  const terms = item.kind === "model" ? item.spec.layers * item.spec.ffn.dim : attention.headDim;
  return { dtype, terms, of: "model" } as const;
}
