/** A program on WebGPU: weights that stay, tensors that follow the length, and runs that survive the loss of a device. */
import type { Executable, LoadOptions, MemoryUse, States } from "../device.ts";
import { weightBytes, weightLength } from "../memory.ts";
import type { Dtype, Plan, Program } from "../plan.ts";
import { checkExtent, checkTensors, elementsAt } from "../tensors.ts";
import type { Extent, HostArray, Tensors } from "../tensors.ts";
import { paceOf } from "./budget.ts";
import { chosenFor } from "./choose.ts";
import { deviceError } from "./errors.ts";
import { pipelinesOf } from "./pipelines.ts";
import { prepare } from "./prepare.ts";
import type { Built, Prepared } from "./prepare.ts";
import { runnerFor } from "./run.ts";
import type { Runner, StepTime } from "./run.ts";
import type { Session } from "./session.ts";
import { uploadTables } from "./shader-tables.ts";
import type { BoundTables } from "./shader-tables.ts";
import { allocate, download, downloadBytes, poisonTensor, release, upload, uploadBytes } from "./tensor.ts";
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

export async function executableOf(
  program: Program,
  { session: sessionOfNow, budgetMs, poison, profile }: ProgramOptions,
  { weights: source, warmup }: LoadOptions,
): Promise<WebgpuExecutable> {
  const { plan } = program;
  const pace = paceOf(budgetMs);
  let built: Built | undefined;
  let ready: Prepared | undefined;
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

  const forget = () => {
    if (built !== undefined && ready !== undefined) release(built.session, Object.values(ready.room).flat());
    ready = undefined;
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
    let tables: BoundTables | undefined;
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
      tables = await uploadTables(session, chosen.shaders);
      await Promise.all(compiled);
      const made: Built = {
        session,
        chosen,
        pipelines,
        weights: tensors,
        states: [],
        missing: new Set(chosen.plan.weights.keys()),
        runner,
        tables,
      };
      if (source !== undefined) await source(async (index, data) => setWeight(made, index, data));
      return made;
    } catch (error) {
      release(session, tensors);
      runner?.free();
      tables?.free();
      throw error;
    }
  };

  /** Program and weights on the device of now. */
  const onDevice = async (): Promise<Built> => {
    const session = await sessionOfNow();
    if (built?.session === session) return built;
    if (built !== undefined && source === undefined && plan.weights.length > 0)
      throw deviceError(
        "DEVICE_LOST",
        `the weights of '${plan.name}' went with the lost device, and nobody said where they come from: load it anew`,
      );
    ready = undefined;
    built = undefined;
    built = await build(session);
    return built;
  };

  const prepared = async (b: Built, of: Plan, at: Extent): Promise<Prepared> => {
    if (ready?.plan !== of || ready.at.N !== at.N || ready.at.B !== at.B) {
      forget();
      ready = await prepare(b, of, at);
    }
    return ready;
  };
  const forward = async (entry: Entry, inputs: Tensors, at: Extent) => {
    const b = await onDevice();
    const own = entry(b.chosen.plan, b.states.length);
    for (const index of b.missing)
      throw deviceError(
        "FAILED",
        `'${plan.name}' has no weights yet: '${plan.weights[index]?.name ?? index}' was not set`,
      );
    const { session } = b;
    session.device.pushErrorScope("validation");
    let scope: Promise<GPUError | null> | undefined;
    try {
      const p = await prepared(b, own, at);
      if (poison) [...p.room.output, ...p.room.slot].forEach((t) => poisonTensor(session, t));
      own.inputs.forEach((t, i) => {
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
  /** Brings outputs back, into the caller's arrays or fresh ones. */
  const results = async (entry: Entry, inputs: Tensors, at: Extent, into: Tensors | null) => {
    const { b, p } = await forward(
      (of, held) => {
        const wanted = entry(of, held);
        checkExtent(at);
        checkTensors("input", wanted.inputs.map(asHost), inputs, at);
        if (into !== null) checkTensors("output", wanted.outputs.map(asHost), into, at);
        return wanted;
      },
      inputs,
      at,
    );
    const out: Record<string, HostArray> = {};
    for (const [i, t] of p.plan.outputs.entries()) {
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

  const states: States = {
    run: (entry, inputs, at) => inTurn(() => results(entry, inputs, at, null)),
    held: () => inTurn(async () => (await onDevice()).states.length),
    allocate: (wanted) =>
      inTurn(async () => {
        const b = await onDevice();
        // Steps are bound to the states that go.
        forget();
        release(b.session, b.states.splice(0));
        for (const what of wanted) b.states.push(await allocate(b.session, what));
        if (poison) b.states.forEach((t) => poisonTensor(b.session, t));
      }),
    read: (index, into) =>
      inTurn(async () => {
        const b = await onDevice();
        await downloadBytes(b.session, stateOf(b, index), into);
      }),
    write: (index, from) =>
      inTurn(async () => {
        const b = await onDevice();
        uploadBytes(b.session, stateOf(b, index), from);
      }),
  };
  const stateOf = (b: Built, index: number): DeviceTensor => {
    const found = b.states[index];
    if (found === undefined) throw deviceError("DEVICE_LOST", `'${plan.name}' has no state ${index} now`);
    return found;
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
    plan: built.chosen.plan,
    detail: `WebGPU ${built.session.text}${how.length === 0 ? "" : ` (${how.join(", ")})`}`,
    setWeight: (index, data) => inTurn(async () => setWeight(await onDevice(), index, data)),
    run: (inputs, at) => inTurn(() => results(whole, inputs, at, null)),
    runInto: (inputs, at, into) => inTurn(async () => void (await results(whole, inputs, at, into))),
    states,
    profile: () => times,
    memory: (): MemoryUse => {
      const sum = (tensors: readonly DeviceTensor[] = []) => tensors.reduce((n, t) => n + t.bytes, 0);
      const parts = {
        weights: sum(built?.weights),
        tables: sum(ready?.room.table),
        inputs: sum(ready?.room.input),
        outputs: sum(ready?.room.output),
        arena: sum(ready?.room.slot),
        states: sum(built?.states),
        scratch: (built?.runner.bytes ?? 0) + (built?.tables.bytes ?? 0),
      };
      return { ...parts, total: Object.values(parts).reduce((a, b) => a + b, 0) };
    },
    dispose: async () => {
      await last;
      if (disposed) return;
      disposed = true;
      forget();
      if (built !== undefined) {
        release(built.session, [...built.weights, ...built.states]);
        built.runner.free();
        built.tables.free();
      }
      built = undefined;
    },
  };
}

/** The program to run, of the plan that does. */
type Entry = (plan: Plan, held: number) => Plan;
const whole: Entry = (plan) => plan;

/** 16-bit tensors cross the border as f32. */
const asHost = <T extends { readonly dtype: Dtype }>(t: T): T =>
  t.dtype === "i32" ? t : { ...t, dtype: "f32" };
