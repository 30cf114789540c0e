/** What tests of checkpoints share. */
import { readTensor } from "../../runtime/safetensors.ts";
import type { TensorToWrite } from "../../runtime/safetensors.ts";
import type { Checkpoint } from "../../runtime/sources.ts";

export const f32 = (name: string, values: readonly number[]): TensorToWrite => ({
  name,
  dtype: "F32",
  shape: [values.length],
  data: Float32Array.from(values),
});
/** Code and message of the error that some work ends with. */
export const failure = (work: () => Promise<unknown> | unknown): Promise<string> =>
  (async () => work())().then(
    () => "it went well",
    (error: unknown) =>
      `${(error as { code?: string }).code ?? (error as Error).name}: ${(error as Error).message}`,
  );
/** Names and numbers of all tensors. */
export async function contents(of: Checkpoint): Promise<Record<string, readonly number[]>> {
  const read = [...of.tensors].map(
    async ([name, t]) => [name, [...(await readTensor(t.source, t))]] as const,
  );
  return Object.fromEntries(await Promise.all(read));
}
