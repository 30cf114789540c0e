/** What weights are read from: tensors by the names of a model, wherever their bytes lie. */
import { readHeader } from "./safetensors.ts";
import type { ByteSource, ReadOptions, TensorEntry } from "./safetensors.ts";

export type Checkpoint = {
  /** For messages. */
  readonly name?: string;
  readonly tensors: ReadonlyMap<string, CheckpointTensor>;
};
/** `name` is the one in the file, for messages; the key in `tensors` is the one that a model asks for. */
export type CheckpointTensor = TensorEntry & {
  readonly source: ByteSource;
  /** Begins a check of the tensor's bytes. */
  readonly verify?: () => Verifier;
};
export type Verifier = {
  /** Is shown all bytes of the tensor, in order. */
  readonly add: (bytes: Uint8Array) => void;
  /** @throws SafetensorsError where they are not the right ones. */
  readonly end: () => void;
};

/** A source is one safetensors file, whose header is read here. @throws SafetensorsError. */
export async function openCheckpoint(
  weights: ByteSource | Checkpoint,
  options?: Pick<ReadOptions, "signal">,
): Promise<Checkpoint> {
  if ("tensors" in weights) return weights;
  const { tensors } = await readHeader(weights, options);
  const placed = [...tensors].map(([name, entry]) => [name, { ...entry, source: weights }] as const);
  return { ...(weights.name === undefined ? {} : { name: weights.name }), tensors: new Map(placed) };
}
