/** What `heddle bench` measures: an attention, a forward pass of a model, or its decoding, at one length. */
import { modelReach } from "../../../codegen/decode.ts";
import { modelDefinition } from "../../../codegen/ts/definition.ts";
import type { Device } from "../../../runtime/device.ts";
import { generation } from "../../../runtime/generate.ts";
import type { DeviceOptions } from "../../../runtime/open.ts";
import { rowsFor } from "../../../runtime/forward.ts";
import { variantFor } from "../../../runtime/plan.ts";
import { memorySource, writeSafetensors } from "../../../runtime/safetensors.ts";
import type { Tensors } from "../../../runtime/tensors.ts";
import { compileSpec } from "../../compile.ts";
import type { CompiledProgram, CompileOptions, TargetName } from "../../compile.ts";
import { costOf, countPairs } from "../../planner.ts";
import type { Target } from "../../planner.ts";
import type { ScheduleChoice, ScheduleKind } from "../../schedule.ts";
import { modelNumbers } from "../explain/numbers.ts";
import type { Spec } from "../../spec.ts";
import type { Item } from "../spec-file.ts";
import { weightsOf } from "../verify/devices.ts";
import { randomInputs, randomWeights } from "../verify/random.ts";

/** What the units of a device can do at most: measured in the same rounds, so that it slows down with the work. */
export type Peak = { readonly flops: number; readonly run: () => Promise<number> };

/** A device under its name in tables, with what is compiled for it. */
export type BenchDevice = {
  readonly name: string;
  readonly target: TargetName;
  /** Of native code: those of this processor. */
  readonly vectors?: CompileOptions["vectors"];
  /** What the planner knows of it. */
  readonly planner: Target;
  readonly device: Device;
  /** How generation opens another like it. */
  readonly options: DeviceOptions;
  /** Null where nothing measures it. */
  readonly peak: Peak | null;
};

/** Counted, not measured: of one run, all sequences. */
export type Counts = {
  /** 4 · headDim for each attended pair of the multiset, 2 for each weight of a matrix and row. */
  readonly usefulFlops: number;
  /** With what the tiles of the schedule compute besides; null where nobody counts it. */
  readonly executedFlops: number | null;
  /** Inputs and outputs once, and weights. */
  readonly bytes: number;
  readonly tokens: number;
};

export type Ready = {
  readonly name: string;
  readonly schedule: string;
  readonly counts: Counts;
  /** One run; its time in ns. */
  readonly run: () => Promise<number>;
  /** What the last run gave, to be held against that of the others; null where there is nothing to compare. */
  readonly outputs: () => ReadonlyMap<string, Float32Array> | null;
  readonly dispose: () => Promise<void>;
};

export type BenchWork = {
  readonly item: Item;
  readonly what: "attention" | "forward" | "decode";
  readonly length: number;
  readonly batch: number;
};

const SEED = 1;

const compiledFor = (
  spec: Spec,
  { item, what, length }: BenchWork,
  { target, vectors }: BenchDevice,
  schedule: ScheduleKind | undefined,
): CompiledProgram => {
  const rows = item.kind === "model" ? rowsFor(modelDefinition(item.spec), length) : length;
  const [compiled] = compileSpec(spec, {
    target,
    names: [item.spec.name],
    ...(vectors === undefined ? {} : { vectors }),
    // What decodes has to serve every length of its prompts.
    ...(what === "decode" ? { generate: true } : { length: rows }),
    ...(schedule === undefined ? {} : { schedule }),
  });
  if (compiled === undefined) throw new Error("heddle: internal: nothing was compiled");
  return compiled;
};

/** "class 32x64" of a plan. */
function choiceOf(text: string): ScheduleChoice | null {
  const [, kind, rows, keys] = /^(\w+) (\d+)x(\d+)$/.exec(text) ?? [];
  return kind === undefined ? null : { kind: kind as ScheduleKind, rows: Number(rows), keys: Number(keys) };
}

/** A work on a device, with random inputs and weights that are the same on all. */
export async function readyFor(
  spec: Spec,
  work: BenchWork,
  on: BenchDevice,
  schedule: ScheduleKind | undefined,
): Promise<Ready> {
  const compiled = compiledFor(spec, work, on, schedule);
  return work.what === "decode" ? decoding(work, on, compiled) : whole(spec, work, on, compiled);
}

async function whole(
  spec: Spec,
  work: BenchWork,
  on: BenchDevice,
  compiled: CompiledProgram,
): Promise<Ready> {
  const { item, length, batch: B } = work;
  const N = item.kind === "model" ? rowsFor(modelDefinition(item.spec), length) : length;
  const { graph, program } = compiled;
  const executable = await on.device.compile(program);
  const below = (name: string) => {
    if (item.kind === "attention" || name === "padding_mask") return 1;
    return name === "tokens" ? item.spec.vocab : (item.spec.grid?.cells ?? 1);
  };
  const inputs: Tensors = Object.fromEntries(randomInputs(graph, below, { N, B }, SEED));
  const weights = randomWeights(graph, SEED);
  for (const [index, data] of weightsOf(executable.plan, weights).entries())
    await executable.setWeight(index, data);
  const into = await executable.run(inputs, { N, B });
  const text = variantFor(executable.plan, N).schedule;
  return {
    name: on.name,
    schedule: text,
    counts: countsOf(spec, work, compiled, on, choiceOf(text)),
    run: async () => {
      const start = performance.now();
      await executable.runInto(inputs, { N, B }, into);
      return (performance.now() - start) * 1e6;
    },
    outputs: () =>
      new Map(
        Object.entries(into).flatMap(([name, data]) => (data instanceof Float32Array ? [[name, data]] : [])),
      ),
    dispose: () => executable.dispose(),
  };
}

function countsOf(
  spec: Spec,
  { item, length: N, batch: B }: BenchWork,
  compiled: CompiledProgram,
  { target, planner }: BenchDevice,
  choice: ScheduleChoice | null,
): Counts {
  const shape = item.kind === "attention" ? item.spec : item.spec.attention;
  const perPair = 4 * shape.headDim;
  const pairs = Number(countPairs(shape, N).total);
  const more =
    choice === null
      ? null
      : perPair *
        (costOf(shape, choice as Parameters<typeof costOf>[1], N, planner.figures(shape)).executedPairs -
          pairs);
  if (item.kind === "attention") {
    const usefulFlops = B * perPair * pairs;
    const rows = 2 * shape.heads + 2 * shape.kvHeads;
    return {
      usefulFlops,
      executedFlops: more === null ? null : usefulFlops + B * more,
      bytes: 4 * B * N * (rows * shape.headDim + shape.heads),
      tokens: B * N,
    };
  }
  const { flops, memory } = modelNumbers(item.spec, compiled, { N, B }, spec, target);
  const usefulFlops = B * Number(flops.total);
  return {
    usefulFlops,
    executedFlops: more === null ? null : usefulFlops + B * item.spec.layers * more,
    bytes: memory.weights + memory.inputs + memory.outputs,
    tokens: B * N,
  };
}

/** Tokens of each run, where a model's reach has room for them. */
const MOST_STEPS = 16;

/** After a prompt of the length, again and again. */
async function decoding(work: BenchWork, on: BenchDevice, compiled: CompiledProgram): Promise<Ready> {
  const { item, length: N, batch } = work;
  if (item.kind !== "model") throw new Error("heddle: internal: an attention does not decode");
  const { graph, program } = compiled;
  const steps = Math.min(MOST_STEPS, modelReach(item.spec).tokens - N - 1);
  const weights = randomWeights(graph, SEED);
  const bytes = writeSafetensors(
    graph.weights.map(({ name, shape }) => ({
      name,
      dtype: "F32",
      shape,
      data: weights.get(name) ?? new Float32Array(),
    })),
  );
  const session = await generation(
    { ...modelDefinition(item.spec), program },
    { ...on.options, weights: memorySource(bytes), batch, capacity: N + steps + 1 },
  );
  const prompt = Array.from({ length: batch }, (_, b) =>
    Array.from({ length: N }, (_token, n) => (n * 31 + 7 * b) % item.spec.vocab),
  );
  const nothing = prompt.map((): readonly number[] => []);
  const drain = async (): Promise<void> => {
    for await (const _ of session.generate(nothing, { temperature: 0, maxTokens: steps, resume: true }));
  };
  for await (const _ of session.generate(prompt, { temperature: 0, maxTokens: 1 }));
  const read = await session.save();
  const linear = graph.nodes.reduce((sum, node) => {
    const weight = node.op === "linear" ? graph.weights.find((w) => w.id === node.weight) : undefined;
    return sum + (weight === undefined ? 0 : weight.shape.reduce((a, b) => a * b, 1));
  }, 0);
  return {
    name: on.name,
    schedule: "decode",
    counts: {
      usefulFlops: 2 * linear * batch * steps,
      executedFlops: null,
      bytes: 4 * linear * steps,
      tokens: batch * steps,
    },
    run: async () => {
      await session.restore(read);
      const start = performance.now();
      await drain();
      return (performance.now() - start) * 1e6;
    },
    outputs: () => null,
    dispose: async () => session.dispose(),
  };
}
