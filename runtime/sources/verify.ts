/** Tensors against the SHA-256 of their bytes in the file. */
import { openCheckpoint } from "../checkpoint.ts";
import type { Checkpoint, CheckpointTensor, Verifier } from "../checkpoint.ts";
import { inputError } from "../input-error.ts";
import { safetensorsError } from "../safetensors.ts";
import type { ByteSource } from "../safetensors.ts";
import { hex, sha256 } from "./sha256.ts";

/** 64 hexadecimal digits by the names of tensors in the file. Tensors that are not named are not checked. */
export type TensorHashes = Readonly<Record<string, string>>;

/**
 * A checkpoint whose named tensors are checked as they are read, before a device sees them: a difference is a SafetensorsError "sha256" with
 * what was expected and found. @throws SafetensorsError "sha256" for a name that the checkpoint lacks, InputError for what is no hash.
 */
export function verified(checkpoint: Checkpoint, hashes: TensorHashes): Checkpoint {
  const tensors = new Map(checkpoint.tensors);
  for (const [name, hash] of Object.entries(hashes)) {
    if (!/^[0-9a-f]{64}$/i.test(hash))
      throw inputError(`'${hash}', for tensor '${name}', is no SHA-256: it takes 64 hexadecimal digits`);
    const tensor = tensors.get(name);
    if (tensor === undefined)
      throw safetensorsError(checkpoint, "sha256", `has no tensor '${name}', for which a SHA-256 is given`);
    tensors.set(name, { ...tensor, verify: () => verifierOf(tensor, hash.toLowerCase()) });
  }
  return { ...checkpoint, tensors };
}

function verifierOf({ name, source }: CheckpointTensor, expected: string): Verifier {
  const hash = sha256();
  return {
    add: hash.add,
    end: () => {
      const found = hex(hash.digest());
      if (found !== expected)
        throw safetensorsError(
          source,
          "sha256",
          `tensor '${name}' has the SHA-256 ${found}, expected ${expected}: the file is damaged, or another one`,
        );
    },
  };
}

/** Bytes that are read at a time. */
const PIECE = 2 ** 20;

/** The SHA-256 of every tensor, by its name, for `sha256`. Reads the whole checkpoint. */
export async function tensorHashes(
  weights: ByteSource | Checkpoint,
  { signal }: { readonly signal?: AbortSignal } = {},
): Promise<Record<string, string>> {
  const { tensors } = await openCheckpoint(weights, { signal });
  const hashes: [string, string][] = [];
  for (const [name, { source, start, end }] of tensors) {
    const hash = sha256();
    for (let at = start; at < end; at += PIECE)
      hash.add(await source.read(at, Math.min(end, at + PIECE), { until: end, signal }));
    hashes.push([name, hex(hash.digest())]);
  }
  // Not by assignment: a tensor may be called __proto__.
  return Object.fromEntries(hashes);
}
