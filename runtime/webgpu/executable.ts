/** A program on WebGPU: weights that stay, tensors that follow the length, and runs that survive the loss of a device. */
import type { Executable, LoadOptions, MemoryUse } from "../device.ts";
import { bytesOf, weightBytes, weightLength } from "../memory.ts";
import { sizeOf, variantFor } from "../plan.ts";
import type { BufferRef, Dtype, Plan, PlanVariant, Program, Size, WgslProgram } from "../plan.ts";
import { xposTable } from "../tables.ts";
import { checkExtent, checkTensors, elementsAt } from "../tensors.ts";
import type { Extent, HostArray, Tensors } from "../tensors.ts";
import { paceOf } from "./budget.ts";
import { deviceError } from "./errors.ts";
import { pipelinesOf } from "./pipelines.ts";
import type { Pipelines } from "./pipelines.ts";
import { runnerFor } from "./run.ts";
import type { ReadyStep, Runner, StepTime } from "./run.ts";
import { sizeText } from "./session.ts";
import type { Session } from "./session.ts";
import { allocate, download, poisonTensor, upload } from "./tensor.ts";
import type { DeviceTensor } from "./tensor.ts";

export type ProgramOptions = {
  /** The device of now: another one after a loss. */
  readonly session: () => Promise<Session>;
  readonly budgetMs: number;
  readonly poison: boolean;
  readonly profile: boolean;
};
export type WebgpuExecutable = Executable & {
  /** Milliseconds of every step of the last run, where the device was opened with `profile`. */
  readonly profile: () => readonly StepTime[];
};

/** What lives as long as a device: pipelines and weights. */
type Built = {
  readonly session: Session;
  readonly chosen: WgslProgram;
  readonly pipelines: Pipelines;
  readonly weights: readonly DeviceTensor[];
  readonly missing: Set<number>;
  readonly runner: Runner;
};
/** What lives as long as N and B stay the same. */
type Prepared = {
  readonly at: Extent;
  readonly steps: readonly ReadyStep[];
  readonly room: { readonly [K in "input" | "output" | "table" | "slot"]: readonly DeviceTensor[] };
};

/** The first variant that the device meets the needs of. @throws DeviceError LIMITS with the numbers. */
export function chosenFor(program: Program, { device, limits, features, text }: Session): WgslProgram {
  const whys: string[] = [];
  // Lanes exchange among four. Older hosts do not tell the size.
  const { subgroupMinSize }: Partial<GPUAdapterInfo> = device.adapterInfo ?? {};
  const small = subgroupMinSize !== undefined && subgroupMinSize > 0 && subgroupMinSize < 4;
  for (const variant of program.webgpu ?? []) {
    const lacking = variant.features.filter((f) => !features.has(f) || (f === "subgroups" && small));
    const { kernels } = variant.plan;
    const most = (of: (k: (typeof kernels)[number]) => number) => Math.max(0, ...kernels.map(of));
    const needs = [
      ["bytes of workgroup storage", most((k) => k.sharedBytes), limits.maxComputeWorkgroupStorageSize],
      ["invocations in a group", most((k) => k.workgroup), limits.maxComputeInvocationsPerWorkgroup],
      ["storage bindings", most((k) => k.buffers.length), limits.maxStorageBuffersPerShaderStage],
    ] as const;
    const short = needs.filter(([, need, has]) => need > has);
    if (lacking.length === 0 && short.length === 0) return variant;
    whys.push(
      [
        ...lacking.map((f) => `the feature ${f}`),
        ...short.map(([what, n, has]) => `${n} ${what} (it has ${has})`),
      ].join(" and "),
    );
  }
  throw deviceError(
    "LIMITS",
    program.webgpu === undefined
      ? `'${program.plan.name}' was not compiled for WebGPU: compile it with --kernels wgsl or all`
      : `'${program.plan.name}' needs ${whys.join("; or ")}: more than ${text} offers`,
  );
}

export async function executableOf(
  program: Program,
  { session: sessionOfNow, budgetMs, poison, profile }: ProgramOptions,
  { weights: source, warmup }: LoadOptions,
): Promise<WebgpuExecutable> {
  const { plan } = program;
  const pace = paceOf(budgetMs);
  let built: Built | undefined;
  let prepared: Prepared | undefined;
  let times: readonly StepTime[] = [];
  let disposed = false;
  let last: Promise<unknown> = Promise.resolve();
  /** One task after another: they share the tensors. */
  const inTurn = <T>(task: () => Promise<T>): Promise<T> => {
    const next = last.then(() => {
      if (disposed) throw deviceError("FAILED", `'${plan.name}' was disposed`);
      return task();
    });
    last = next.catch(() => undefined);
    return next;
  };

  const release = (session: Session, tensors: readonly DeviceTensor[]) =>
    tensors.forEach((t) => t.buffers.forEach(session.free));
  const forget = () => {
    if (built !== undefined && prepared !== undefined)
      release(built.session, Object.values(prepared.room).flat());
    prepared = undefined;
  };
  const setWeight = (to: Built, index: number, data: Float32Array) => {
    const [weight, tensor] = [to.chosen.plan.weights[index], to.weights[index]];
    if (weight === undefined || tensor === undefined)
      throw deviceError("FAILED", `'${plan.name}' has no weight ${index}`);
    const elements = weightLength(weight);
    if (data.length !== elements)
      throw deviceError(
        "FAILED",
        `weight '${weight.name}' takes ${elements} numbers (${weight.layout}), found ${data.length}`,
      );
    upload(to.session, tensor, weight.dtype ?? "f32", data);
    to.missing.delete(index);
  };

  const build = async (session: Session): Promise<Built> => {
    const chosen = chosenFor(program, session);
    const pipelines = pipelinesOf(session, chosen);
    const tensors: DeviceTensor[] = [];
    let runner: Runner | undefined;
    try {
      let done = 0;
      const compiled = chosen.shaders.map(async (shader, k) => {
        await pipelines(
          k,
          shader.buffers.map(() => 1),
        );
        warmup?.(++done, chosen.shaders.length);
      });
      // The first error is thrown below; the others must not be nobody's.
      compiled.forEach((p) => p.catch(() => undefined));
      for (const weight of chosen.plan.weights) {
        const label = `weight '${weight.name}'`;
        tensors.push(
          await allocate(session, { label, bytes: weightBytes(weight), formula: weight.shape.join(" * ") }),
        );
      }
      const largest = Math.max(0, ...chosen.plan.kernels.map((k) => k.scalars.length));
      runner = await runnerFor(session, pace, budgetMs, largest);
      await Promise.all(compiled);
      const made: Built = {
        session,
        chosen,
        pipelines,
        weights: tensors,
        missing: new Set(chosen.plan.weights.keys()),
        runner,
      };
      if (source !== undefined) await source(async (index, data) => setWeight(made, index, data));
      return made;
    } catch (error) {
      release(session, tensors);
      runner?.free();
      throw error;
    }
  };

  /** Program and weights on the device of now. */
  const ready = async (): Promise<Built> => {
    const session = await sessionOfNow();
    if (built?.session === session) return built;
    if (built !== undefined && source === undefined && plan.weights.length > 0)
      throw deviceError(
        "DEVICE_LOST",
        `the weights of '${plan.name}' went with the lost device, and nobody said where they come from: load it anew`,
      );
    prepared = undefined;
    built = undefined;
    built = await build(session);
    return built;
  };

  const prepare = async (b: Built, at: Extent): Promise<Prepared> => {
    if (prepared !== undefined && prepared.at.N === at.N && prepared.at.B === at.B) return prepared;
    forget();
    const { session, chosen } = b;
    const made: DeviceTensor[] = [];
    const here = ` at N = ${at.N}, B = ${at.B}`;
    const room = async (label: string, dtype: Dtype, sizes: readonly Size[]): Promise<DeviceTensor> => {
      const elements = sizes.reduce<number>((product, s) => product * sizeOf(s, at), 1);
      const formula = `${sizes.map(sizeText).join(" * ")} of ${dtype}${here}`;
      const tensor = await allocate(session, { label, bytes: bytesOf(dtype, elements), formula });
      made.push(tensor);
      return tensor;
    };
    const all = async <T>(items: readonly T[], of: (item: T, i: number) => Promise<DeviceTensor>) => {
      const out: DeviceTensor[] = [];
      for (const [i, item] of items.entries()) out.push(await of(item, i));
      return out;
    };
    const { plan: own } = chosen;
    const variant = variantFor(own, at.N);
    try {
      const rooms = {
        input: await all(own.inputs, (t) => room(`input '${t.name}'`, t.dtype, t.shape)),
        output: await all(own.outputs, (t) => room(`output '${t.name}'`, t.dtype, t.shape)),
        table: await all(own.tables, (t) => room("a table of positions", "f32", ["N", t.headDim])),
        slot: await all(variant.slots, (words, i) =>
          room(`values between the steps (slot ${i})`, "f32", [words]),
        ),
      };
      own.tables.forEach((table, i) => {
        const to = rooms.table[i];
        if (to !== undefined) upload(session, to, "f32", xposTable(table, at.N));
      });
      const steps = await stepsOf(b, own, variant, rooms, at);
      prepared = { at: { N: at.N, B: at.B }, steps, room: rooms };
      return prepared;
    } catch (error) {
      release(session, made);
      throw error;
    }
  };

  const forward = async (inputs: Tensors, at: Extent) => {
    const b = await ready();
    for (const index of b.missing)
      throw deviceError(
        "FAILED",
        `'${plan.name}' has no weights yet: '${plan.weights[index]?.name ?? index}' was not set`,
      );
    const { session, chosen } = b;
    session.device.pushErrorScope("validation");
    let scope: Promise<GPUError | null> | undefined;
    try {
      const p = await prepare(b, at);
      if (poison) [...p.room.output, ...p.room.slot].forEach((t) => poisonTensor(session, t));
      chosen.plan.inputs.forEach((t, i) => {
        const [to, data] = [p.room.input[i], inputs[t.name]];
        if (to !== undefined && data !== undefined) upload(session, to, t.dtype, data);
      });
      times = await b.runner.run(p.steps, profile);
      scope = session.device.popErrorScope();
      const refused = await Promise.race([scope, session.lost]);
      if (refused !== null)
        throw deviceError(
          "FAILED",
          `the driver refused the work of '${plan.name}': ${refused.message}. This is a fault of heddle or of the driver.`,
        );
      return { b, p };
    } catch (error) {
      if (scope === undefined) session.device.popErrorScope().catch(() => undefined);
      if (session.isLost()) return session.lost;
      throw error;
    }
  };
  const checked = (inputs: Tensors, at: Extent) => {
    checkExtent(at);
    checkTensors("input", plan.inputs.map(asHost), inputs, at);
  };
  /** Brings outputs back, into the caller's arrays or fresh ones. */
  const results = async (inputs: Tensors, at: Extent, into: Tensors | null) => {
    checked(inputs, at);
    if (into !== null) checkTensors("output", plan.outputs.map(asHost), into, at);
    const { b, p } = await forward(inputs, at);
    const out: Record<string, HostArray> = {};
    for (const [i, t] of b.chosen.plan.outputs.entries()) {
      const from = p.room.output[i];
      const elements = elementsAt(t.shape, at);
      const to =
        into === null
          ? t.dtype === "i32"
            ? new Int32Array(elements)
            : new Float32Array(elements)
          : into[t.name];
      if (from === undefined || to === undefined) continue;
      await download(b.session, from, t.dtype, to);
      out[t.name] = to;
    }
    return out;
  };

  built = await build(await sessionOfNow());
  const f16 =
    built.chosen.plan.weights.some((w) => w.dtype === "f16") ||
    built.chosen.plan.inputs.some((t) => t.dtype === "f16");
  const how = [
    ...built.chosen.features,
    ...(f16 ? [built.session.features.has("shader-f16") ? "f16" : "f16 unpacked from words"] : []),
  ];
  return {
    plan,
    detail: `WebGPU ${built.session.text}${how.length === 0 ? "" : ` (${how.join(", ")})`}`,
    setWeight: (index, data) => inTurn(async () => setWeight(await ready(), index, data)),
    run: (inputs, at) => inTurn(() => results(inputs, at, null)),
    runInto: (inputs, at, into) => inTurn(async () => void (await results(inputs, at, into))),
    profile: () => times,
    memory: (): MemoryUse => {
      const sum = (tensors: readonly DeviceTensor[] = []) => tensors.reduce((n, t) => n + t.bytes, 0);
      const parts = {
        weights: sum(built?.weights),
        tables: sum(prepared?.room.table),
        inputs: sum(prepared?.room.input),
        outputs: sum(prepared?.room.output),
        arena: sum(prepared?.room.slot),
        scratch: built?.runner.bytes ?? 0,
      };
      return { ...parts, total: Object.values(parts).reduce((a, b) => a + b, 0) };
    },
    dispose: async () => {
      await last;
      if (disposed) return;
      disposed = true;
      forget();
      if (built !== undefined) {
        release(built.session, built.weights);
        built.runner.free();
      }
      built = undefined;
    },
  };
}

/** 16-bit tensors cross the border as f32. */
const asHost = <T extends { readonly dtype: Dtype }>(t: T): T =>
  t.dtype === "i32" ? t : { ...t, dtype: "f32" };

/** Steps with pipelines that fit how their tensors are split, and everything bound. */
async function stepsOf(
  b: Built,
  plan: Plan,
  variant: PlanVariant,
  room: Prepared["room"],
  at: Extent,
): Promise<readonly ReadyStep[]> {
  const tensorOf = (ref: BufferRef): DeviceTensor => {
    const found = ref.in === "weight" ? b.weights[ref.index] : room[ref.in][ref.index];
    if (found === undefined)
      throw deviceError("FAILED", `internal: '${plan.name}' has no ${ref.in} ${ref.index}`);
    return found;
  };
  const steps: ReadyStep[] = [];
  for (const step of variant.steps) {
    const grid = sizeOf(step.grid, at);
    const kernel = plan.kernels[step.kernel];
    if (grid === 0) continue;
    if (kernel === undefined)
      throw deviceError("FAILED", `internal: '${plan.name}' has no kernel ${step.kernel}`);
    const tensors = step.buffers.map(tensorOf);
    const { pipeline, layout } = await b.pipelines(
      step.kernel,
      tensors.map((t) => t.buffers.length),
    );
    const values = step.scalars.map((size) => sizeOf(size, at));
    const scalars = new Uint32Array(values.length);
    kernel.scalars.forEach(({ type }, i) => {
      const value = values[i] ?? 0;
      if (type === "i32") scalars[i] = value;
      else new Float32Array(scalars.buffer)[i] = value;
    });
    const buffers = [
      { buffer: b.runner.params, size: 16 + 4 * values.length },
      ...tensors.flatMap((t) => t.buffers.map((buffer) => ({ buffer }))),
    ];
    const group = b.session.device.createBindGroup({
      label: step.title,
      layout,
      entries: buffers.map((resource, binding) => ({ binding, resource })),
    });
    const key = `${step.kernel} ${values.join()}`;
    steps.push({ title: step.title, entry: kernel.entry, key, pipeline, layout, group, grid, scalars });
  }
  return steps;
}
