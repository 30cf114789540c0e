/** A program on CUDA: weights that stay, tensors that follow the length, and runs that survive the loss of a context. */
import { deviceError } from "../device-error.ts";
import type { Executable, LoadOptions, MemoryUse, States } from "../device.ts";
import { bytesOf, weightBytes, weightLength } from "../memory.ts";
import type { Dtype, Plan, Program } from "../plan.ts";
import { checkExtent, checkTensors, elementsAt } from "../tensors.ts";
import type { Extent, HostArray, Tensors } from "../tensors.ts";
import type { CudaProducts, DeviceMemory } from "./context.ts";
import { chosenFor, kernelsOf } from "./kernels.ts";
import type { CudaLimits, KernelCompiler } from "./kernels.ts";
import { linearsOf, rowsOfPanels, WORKSPACE_BYTES } from "./linears.ts";
import type { LinearUse } from "./linears.ts";
import { enqueue, prepare } from "./prepare.ts";
import type { Built, Prepared, PrepareOptions, Products } from "./prepare.ts";
import { timerFor } from "./profile.ts";
import type { StepTime } from "./profile.ts";
import type { Session } from "./session.ts";
import type { Handle } from "./shim.ts";
import type { CudaStream } from "./stream.ts";
import { give, stored, take } from "./tensor.ts";

export type ProgramOptions = Omit<PrepareOptions, "maxGridX"> & {
  /** The context of now: another one after a loss. */
  readonly session: () => Promise<Session>;
  readonly compiler: KernelCompiler;
  readonly limits: CudaLimits;
  readonly poison: boolean;
  readonly profile: boolean;
  readonly detail: string;
  /** The library that multiplies in linear layers; null: heddle's kernels do. */
  readonly cublasLt: Handle<"cublaslt"> | null;
};
export type CudaExecutable = Executable & {
  /** By whom linear layers are computed, where the device was opened with `linear: "cublaslt"`; empty otherwise. */
  readonly linears: () => readonly LinearUse[];
  /** Milliseconds of every step of the last run, where the device was opened with `profile`. */
  readonly profile: () => readonly StepTime[];
};

/** Elements of a weight that are narrowed at a time. */
const PIECE = 2 ** 22;
/** A NaN in f32, and two in f16 and bf16. */
const NAN_BITS = 0x7fc07fc0;

export async function executableOf(
  program: Program,
  { session: sessionOfNow, compiler, limits, poison, profile, detail, cublasLt, ...options }: ProgramOptions,
  { weights: source, warmup }: LoadOptions,
): Promise<CudaExecutable> {
  const { name } = program.plan;
  let built: Built | undefined;
  let ready: Prepared | undefined;
  let times: readonly StepTime[] = [];
  let disposed = false;
  let last: Promise<unknown> = Promise.resolve();
  /** One task after another: they share the tensors. */
  const inTurn = <T>(task: () => Promise<T>): Promise<T> => {
    const next = last.then(() => {
      if (disposed) throw deviceError("FAILED", `'${name}' was disposed`);
      return task();
    });
    last = next.catch(() => undefined);
    return next;
  };

  const forget = () => {
    ready?.dispose();
    ready = undefined;
  };
  const setWeight = async (to: Built, index: number, data: Float32Array): Promise<void> => {
    const [weight, memory] = [to.chosen.plan.weights[index], to.weights[index]];
    if (weight === undefined || memory === undefined)
      throw deviceError("FAILED", `'${name}' has no weight ${index}`);
    const elements = weightLength(weight);
    if (data.length !== elements)
      throw deviceError(
        "FAILED",
        `weight '${weight.name}' takes ${elements} numbers (${weight.layout}), found ${data.length}`,
      );
    const dtype = weight.dtype ?? "f32";
    if (to.products?.linears.rows.has(index) === true) data = rowsOfPanels(data, weight);
    // What is narrowed on the way is never more than a piece.
    for (let from = 0; from < data.length; from += PIECE) {
      const piece = stored(data.subarray(from, from + PIECE), dtype);
      await to.session.attempt(() => to.stream.write(memory, piece, bytesOf(dtype, from)));
    }
    to.missing.delete(index);
  };

  const build = async (session: Session): Promise<Built> => {
    const chosen = chosenFor(program, session.context.device, limits);
    const memories: DeviceMemory[] = [];
    let stream: CudaStream | undefined;
    let products: Products | null = null;
    let library: CudaProducts | undefined;
    const compiled = kernelsOf(session, compiler, chosen, warmup);
    // Its error is thrown below; until then it must not be nobody's.
    compiled.catch(() => undefined);
    try {
      for (const weight of chosen.plan.weights) {
        const label = `weight '${weight.name}'`;
        const formula = `${weight.shape.join(" * ")} of ${weight.dtype ?? "f32"}`;
        memories.push(await session.allocate({ label, bytes: weightBytes(weight), formula }));
      }
      stream = await session.attempt(() => session.context.stream());
      if (cublasLt !== null) {
        const label = "cuBLASLt's workspace";
        const workspace = await session.allocate({ label, bytes: WORKSPACE_BYTES, formula: "32 MiB" });
        memories.push(workspace);
        const opened = await session.attempt(() => session.context.products(cublasLt));
        library = opened;
        const linears = await session.attempt(() => linearsOf(chosen.plan, opened));
        products = { library: opened, workspace, linears };
      }
      const missing = new Set(chosen.plan.weights.keys());
      const made: Built = {
        session,
        chosen,
        stream,
        kernels: await compiled,
        weights: memories.slice(0, chosen.plan.weights.length),
        products,
        states: [],
        missing,
      };
      if (source !== undefined) await source((index, data) => setWeight(made, index, data));
      return made;
    } catch (error) {
      memories.forEach(session.free);
      library?.dispose();
      stream?.dispose();
      await compiled.then(
        (kernels) => kernels.dispose(),
        () => undefined,
      );
      throw error;
    }
  };

  /** Program and weights in the context of now. */
  const onDevice = async (): Promise<Built> => {
    const session = await sessionOfNow();
    if (built?.session === session) return built;
    if (built !== undefined && source === undefined && built.weights.length > 0)
      throw deviceError(
        "DEVICE_LOST",
        `the weights of '${name}' went with the lost context, and nobody said where they come from: load it anew`,
      );
    forget();
    const made = await build(session);
    built = made;
    return made;
  };

  /** What a run at N and B works with. */
  const forLength = async (entry: Entry, at: Extent): Promise<readonly [Built, Prepared]> => {
    const b = await onDevice();
    const own = entry(b.chosen.plan, b.states.length);
    for (const index of b.missing)
      throw deviceError(
        "FAILED",
        `'${name}' has no weights yet: '${b.chosen.plan.weights[index]?.name ?? index}' was not set`,
      );
    if (ready?.plan !== own || ready.at.N !== at.N || ready.at.B !== at.B) {
      forget();
      ready = await b.session.attempt(() => prepare(b, own, at, { ...options, maxGridX: limits.maxGridX }));
    }
    return [b, ready];
  };

  /** A whole pass: inputs, steps and outputs are enqueued, and then waited for once. */
  const forward = async (
    { session, stream }: Built,
    p: Prepared,
    inputs: Tensors,
    outputs: ReadonlyMap<number, HostArray>,
  ): Promise<void> => {
    await session.attempt(async () => {
      const timer = profile ? timerFor(session, stream, p.steps) : null;
      try {
        if (poison)
          for (const memory of [...p.room.output, ...p.room.slot]) stream.fillWords(memory, NAN_BITS);
        for (const [i, { name: input, dtype }] of p.plan.inputs.entries()) {
          const [to, data] = [p.room.input[i], inputs[input]];
          if (to !== undefined && data !== undefined)
            await p.staging.upload(to, bytesOf(dtype, data.length), (piece, from) =>
              give(data, dtype, piece, from),
            );
        }
        if (p.graph !== null && timer === null) stream.replay(p.graph);
        else enqueue(stream, p.steps, timer?.before);
        timer?.end();
        for (const [i, data] of outputs) {
          const [from, spec] = [p.room.output[i], p.plan.outputs[i]];
          if (from !== undefined && spec !== undefined)
            await p.staging.download(from, bytesOf(spec.dtype, data.length), (piece, at) =>
              take(data, spec.dtype, piece, at),
            );
        }
        await p.staging.finish();
        times = timer?.times() ?? [];
      } catch (error) {
        await p.staging.abandon();
        throw error;
      } finally {
        timer?.dispose();
      }
    });
  };
  /** Outputs go into the caller's arrays or fresh ones. */
  const results = async (entry: Entry, inputs: Tensors, at: Extent, into: Tensors | null) => {
    // What the device refuses is said before the host makes room for it.
    const [b, p] = await forLength((of, held) => {
      const wanted = entry(of, held);
      checkExtent(at);
      checkTensors("input", wanted.inputs.map(asHost), inputs, at);
      if (into !== null) checkTensors("output", wanted.outputs.map(asHost), into, at);
      return wanted;
    }, at);
    const given = p.plan.outputs;
    const out: Record<string, HostArray> = {};
    const targets = new Map<number, HostArray>();
    for (const [i, { name: output, dtype, shape }] of given.entries()) {
      const elements = elementsAt(shape, at);
      const fresh = () => (dtype === "i32" ? new Int32Array(elements) : new Float32Array(elements));
      const to = into === null ? fresh() : into[output];
      if (to === undefined) continue;
      out[output] = to;
      targets.set(i, to);
    }
    await forward(b, p, inputs, targets);
    return out;
  };

  const stateOf = (b: Built, index: number): DeviceMemory => {
    const found = b.states[index];
    if (found === undefined) throw deviceError("DEVICE_LOST", `'${name}' has no state ${index} now`);
    return found;
  };
  const states: States = {
    run: (entry, inputs, at) => inTurn(() => results(entry, inputs, at, null)),
    held: () => inTurn(async () => (await onDevice()).states.length),
    allocate: (wanted) =>
      inTurn(async () => {
        const b = await onDevice();
        // Steps are bound to the states that go.
        forget();
        b.states.splice(0).forEach(b.session.free);
        await b.session.attempt(async () => {
          for (const what of wanted) b.states.push(await b.session.allocate(what));
          if (poison) for (const memory of b.states) b.stream.fillWords(memory, NAN_BITS);
          await b.stream.synchronize();
        });
      }),
    read: (index, into) =>
      inTurn(async () => {
        const b = await onDevice();
        await b.session.attempt(async () => {
          await b.stream.read(stateOf(b, index), into);
          await b.stream.synchronize();
        });
      }),
    write: (index, from) =>
      inTurn(async () => {
        const b = await onDevice();
        await b.session.attempt(async () => {
          await b.stream.write(stateOf(b, index), from);
          await b.stream.synchronize();
        });
      }),
  };

  built = await build(await sessionOfNow());
  return {
    plan: built.chosen.plan,
    detail,
    setWeight: (index, data) => inTurn(async () => setWeight(await onDevice(), index, data)),
    run: (inputs, at) => inTurn(() => results(whole, inputs, at, null)),
    runInto: (inputs, at, into) => inTurn(async () => void (await results(whole, inputs, at, into))),
    states,
    linears: () => built?.products?.linears.uses ?? [],
    profile: () => times,
    memory: (): MemoryUse => {
      const alive = built?.session.isLost() === false;
      const sum = (memories: readonly DeviceMemory[] = []) =>
        alive ? memories.reduce((n, m) => n + m.bytes, 0) : 0;
      const parts = {
        weights: sum(built?.weights),
        tables: sum(ready?.room.table),
        inputs: sum(ready?.room.input),
        outputs: sum(ready?.room.output),
        arena: sum(ready?.room.slot),
        states: sum(built?.states),
        scratch: alive ? (ready?.staging.bytes ?? 0) + (built?.products?.workspace.bytes ?? 0) : 0,
      };
      return { ...parts, total: Object.values(parts).reduce((a, b) => a + b, 0) };
    },
    dispose: async () => {
      await last;
      if (disposed) return;
      disposed = true;
      forget();
      if (built !== undefined) {
        [...built.weights, ...built.states].forEach(built.session.free);
        if (built.products !== null) {
          built.session.free(built.products.workspace);
          built.products.library.dispose();
        }
        built.kernels.dispose();
        built.stream.dispose();
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
