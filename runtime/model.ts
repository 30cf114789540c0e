/** Running attentions and models: what the objects of a generated module do. Shapes are row-major, batch first. */
import { bitsOver } from "./bits.ts";
import type { Bits } from "./bits.ts";
import type { AttentionDefinition, ModelDefinition, ModelInput, ModelOutput } from "./definition.ts";
import type { MemoryUse } from "./device.ts";
import { openDevice } from "./open.ts";
import type { DeviceOptions, Loaded } from "./open.ts";
import { forward, rowsFor, widthOf } from "./forward.ts";
import type { ForwardInputs, Pass } from "./forward.ts";
import { inputError } from "./input-error.ts";
import { fits, positionsFit, tokensOf, whole } from "./inputs.ts";
import { memoryOf, plannedMemory } from "./memory.ts";
import type { Memory, PlanOptions } from "./memory.ts";
import type { Program } from "./plan.ts";
import type { Checkpoint } from "./checkpoint.ts";
import type { ByteSource } from "./safetensors.ts";
import { loadWeights } from "./weights.ts";

/** Tensors are Float32Array; `batch` defaults to 1, `length` to what the arrays hold. */
export type AttentionInputs = {
  /** [batch, length, heads, headDim] */
  readonly q: Float32Array;
  /** [batch, length, kvHeads, headDim] */
  readonly k: Float32Array;
  readonly v: Float32Array;
  readonly batch?: number;
  readonly length?: number;
};
export type AttentionResult = {
  /** [batch, length, heads, headDim] */
  readonly out: Float32Array;
  /** [batch, heads, length]: natural log of the sum over all keys of all branches, −∞ where no branch covers a row. */
  readonly lse: Float32Array;
};

export type AttentionSession = {
  /** What computes: WebAssembly with its SIMD and threads, or WebGPU with its adapter. */
  readonly device: string;
  /** Rejects with an InputError where the arrays do not fit. */
  readonly run: (inputs: AttentionInputs) => Promise<AttentionResult>;
  /** Bytes that a length needs. */
  readonly memory: (at: { readonly length: number; readonly batch?: number }) => Memory;
  /** Bytes that are taken now; what a length needs is taken by the first run at that length. */
  readonly memoryInUse: () => MemoryUse;
  /** Gives memory and threads back; runs that wait are rejected. */
  readonly dispose: () => void;
};

export type Attention<
  H extends number = number,
  D extends number = number,
  K extends number = number,
> = AttentionDefinition<H, D, K> & {
  readonly create: (options?: DeviceOptions) => Promise<AttentionSession>;
  /** Bytes that a device needs, before anything is opened. @throws InputError where it was not compiled for the device. */
  readonly plan: (at: PlanOptions) => Memory;
};

/** An attention that can be run, from what a generated module holds. */
export function attention<const H extends number, const D extends number, const K extends number>(
  definition: AttentionDefinition<H, D, K>,
): Attention<H, D, K> {
  const { name, heads, headDim, kvHeads, program } = definition;
  return {
    ...definition,
    plan: (at) => plannedMemory(program, at),
    create: async (options = {}) => {
      const loaded = await openDevice(program, options);
      const turn = oneAtATime(`attention '${name}'`);
      return {
        device: loaded.device,
        run: ({ q, k, v, batch = 1, length }) =>
          turn.take(async () => {
            const B = whole(batch, "batch", 1);
            const N = whole(length ?? q.length / (B * heads * headDim), "length", 1);
            fits("q", q, [B, N, heads, headDim]);
            fits("k", k, [B, N, kvHeads, headDim]);
            fits("v", v, [B, N, kvHeads, headDim]);
            const [out, lse] = await loaded.run({ N, B }, [q, k, v]);
            return { out: produced(out), lse: produced(lse) };
          }),
        memory: ({ length, batch = 1 }) => memoryOf(loaded.plan, { N: length, B: batch }),
        memoryInUse: loaded.memory,
        dispose: () => {
          turn.close();
          loaded.dispose();
        },
      };
    },
  };
}

export type CreateOptions = DeviceOptions & {
  /**
   * A safetensors checkpoint with torchscale's names: `fileSource(path)`, `memorySource(bytes)`, any bytes by range, or a checkpoint of
   * `heddle/runtime/sources` (a URL, shards, other names). It is read by `create`, and once more whenever a GPU was lost: a source that is
   * closed by then makes that next call fail.
   */
  readonly weights: ByteSource | Checkpoint;
  /** Called after each tensor. */
  readonly progress?: (done: number, of: number) => void;
  /** Called as bytes of tensors arrive: those read so far, and all that the model reads of the checkpoint. */
  readonly progressBytes?: (done: number, of: number) => void;
  /** Ends `create`, which rejects with the signal's reason and leaves nothing behind. Later calls do not hear it. */
  readonly signal?: AbortSignal;
};
/** `length` defaults to what the array holds for `batch` sequences (1 unless given). */
export type ForwardOptions = {
  readonly batch?: number;
  readonly length?: number;
  /** [batch, length, 2], of models with positions in a grid: x and y of each tile, in pixels of the slide. */
  readonly coords?: ArrayLike<number> | undefined;
  /**
   * [batch, length], other than 0 where a sequence is padded. With the spec's `padding zero` an encoder clears padded tokens and attends
   * to them, as torchscale does; otherwise each sequence runs at its own length, and rows of padding come out as zeros.
   */
  readonly paddingMask?: ArrayLike<number> | undefined;
};
/**
 * `logits` [batch, length, vocab] or `out` [batch, length, dim]; of a pooled model `out` [batch, dim] or `logits` [batch, classes]. A
 * class token adds one row to the length.
 */
export type ForwardResult<O extends ModelOutput> = O extends ModelOutput
  ? { readonly [K in O]: Float32Array } & {
      /** [layers + 1, batch, dim]: pooled rows of the embedding and of every layer, of a model with `states all`. */
      readonly states?: Float32Array;
      /** [layers + 1, batch, length, dim], of a program compiled with hidden values. */
      readonly hidden?: Float32Array;
    }
  : never;
export type BitsOptions = {
  /** Tokens a window reads; the whole sequence unless given. */
  readonly window?: number;
  readonly progress?: (done: number, of: number) => void;
};

export type ModelSession<I extends ModelInput = ModelInput, O extends ModelOutput = ModelOutput> = {
  readonly device: string;
  /** Tokens [batch, length], or features [batch, length, width]. Rejects with an InputError where they do not fit. */
  readonly forward: (
    input: I extends "tokens" ? ArrayLike<number> : Float32Array,
    options?: ForwardOptions,
  ) => Promise<ForwardResult<O>>;
  /** Bits that each token of one sequence costs, given those before it in its window. For models from tokens to logits. */
  readonly bits: (tokens: ArrayLike<number>, options?: BitsOptions) => Promise<Bits>;
  /** Bytes that a length needs. */
  readonly memory: (at: { readonly length: number; readonly batch?: number }) => Memory;
  /** Bytes that are taken now; what a length needs is taken by the first run at that length. */
  readonly memoryInUse: () => MemoryUse;
  readonly dispose: () => void;
};

export type Model<
  I extends ModelInput = ModelInput,
  O extends ModelOutput = ModelOutput,
  V extends number = number,
  E extends number = number,
> = ModelDefinition<I, O, V, E> & {
  /** Rejects with a WeightsError that lists every tensor that is missing, extra or misshapen. */
  readonly create: (options: CreateOptions) => Promise<ModelSession<I, O>>;
  /** Bytes that a device needs, before anything is loaded. @throws InputError where it was not compiled for the device. */
  readonly plan: (at: PlanOptions) => Memory;
};

/** A model that can be run, from what a generated module holds. */
export function model<
  const I extends ModelInput,
  const O extends ModelOutput,
  const V extends number,
  const E extends number,
>(definition: ModelDefinition<I, O, V, E>): Model<I, O, V, E> {
  return {
    ...definition,
    create: (options) => createModel(definition, options),
    plan: (at) => plannedMemory(definition.program, { ...at, length: rowsFor(definition, at.length) }),
  };
}

async function createModel<I extends ModelInput, O extends ModelOutput>(
  definition: ModelDefinition<I, O>,
  options: CreateOptions,
): Promise<ModelSession<I, O>> {
  const { name, program, vocab, output } = definition;
  const { plan } = program;
  const loaded = await openWith(program, options);
  const turn = oneAtATime(`model '${name}'`);
  const pass: Pass = async (at, inputs) => {
    const outputs = await loaded.run(at, inputs);
    const named = (name: string) => produced(outputs[plan.outputs.findIndex((o) => o.name === name)]);
    const stacked = (arrays: readonly ArrayLike<number>[]) => {
      const all = new Float32Array(arrays.reduce((n, a) => n + a.length, 0));
      arrays.reduce((n, a) => (all.set(a, n), n + a.length), 0);
      return all;
    };
    const layers = Array.from({ length: definition.layers + 1 }, (_, i) => `state.${i}`);
    const hidden = definition.hidden?.map((place) =>
      place.in === "output" ? produced(outputs[place.index]) : (inputs[place.index] ?? []),
    );
    return {
      result: named(output),
      ...(definition.states === true ? { states: stacked(layers.map(named)) } : {}),
      ...(hidden === undefined ? {} : { hidden: stacked(hidden) }),
    };
  };
  const run = async (given: ForwardInputs): Promise<ForwardResult<O>> => {
    const { result, ...rest } = await forward(definition, given, pass);
    // The name of the output is the type parameter, which a computed key cannot carry.
    return { [output]: result, ...rest } as ForwardResult<O>;
  };

  return {
    device: loaded.device,
    forward: (input, { batch = 1, length, coords, paddingMask } = {}) =>
      turn.take(async () => {
        const B = whole(batch, "batch", 1);
        const wide = definition.input === "tokens" ? 1 : widthOf(definition);
        const tokens = whole(length ?? input.length / (B * wide), "length", 1);
        return run({ input, batch: B, length: tokens, coords, paddingMask });
      }),
    bits: (tokens, { window, progress } = {}) =>
      turn.take(async () => {
        if (definition.input !== "tokens" || output !== "logits" || definition.pooled === true)
          throw inputError(
            `model '${name}' goes from ${definition.input} to ${output}: it predicts no tokens`,
          );
        if (tokens.length < 2)
          throw inputError(`there is nothing to predict in ${tokens.length} tokens; it takes two or more`);
        const W = whole(window ?? tokens.length - 1, "window", 1);
        positionsFit(definition, Math.min(W, tokens.length - 1));
        const all = tokensOf(tokens, tokens.length, vocab);
        const logitsOf = async (part: Int32Array) => {
          const { logits } = (await run({
            input: part,
            batch: 1,
            length: part.length,
          })) as ForwardResult<"logits">;
          return logits;
        };
        return bitsOver(all, vocab, W, logitsOf, progress);
      }),
    memory: ({ length, batch = 1 }) => memoryOf(loaded.plan, { N: rowsFor(definition, length), B: batch }),
    memoryInUse: loaded.memory,
    dispose: () => {
      turn.close();
      loaded.dispose();
    },
  };
}

/** The device with the checkpoint in it; nothing stays behind when the checkpoint does not fit. */
export async function openWith(program: Program, options: CreateOptions): Promise<Loaded> {
  let { signal } = options;
  signal?.throwIfAborted();
  const loaded = await openDevice(program, options, async (set) => {
    let done = 0;
    const sink = async (index: number, data: Float32Array) => {
      await set(index, data);
      options.progress?.(++done, program.plan.weights.length);
    };
    await loadWeights(program.plan, options.weights, sink, { signal, bytes: options.progressBytes });
  });
  if (signal?.aborted === true) {
    loaded.dispose();
    throw signal.reason;
  }
  signal = undefined;
  return loaded;
}

function produced(output: Float32Array | undefined): Float32Array {
  if (output === undefined) throw new Error("heddle: internal: the device gave no output");
  return output;
}

/** Runs share one arena, so they wait for each other. */
export function oneAtATime(what: string) {
  let last: Promise<unknown> = Promise.resolve();
  let closed = false;
  return {
    take: <T>(work: () => Promise<T>): Promise<T> => {
      const next = last.then(() => {
        if (closed) throw inputError(`${what} has been disposed`);
        return work();
      });
      last = next.catch(() => undefined);
      return next;
    },
    close: () => {
      closed = true;
    },
  };
}
