/**
 * Where weights come from besides one file or memory: URLs by range, Blobs, indices of shards; under other names, with checked hashes, with
 * ranges that are kept. An entry point of its own, since not every page needs it. Of a host it takes `fetch` and timers.
 */
import { openCheckpoint } from "./checkpoint.ts";
import type { Checkpoint } from "./checkpoint.ts";
import { inputError } from "./input-error.ts";
import type { ByteSource } from "./safetensors.ts";
import { blobSource } from "./sources/blob.ts";
import { renamed } from "./sources/rename.ts";
import type { Rename } from "./sources/rename.ts";
import { isIndex, shardedCheckpoint } from "./sources/shards.ts";
import type { OpenShard } from "./sources/shards.ts";
import { absolute } from "./sources/link.ts";
import { urlSource } from "./sources/url.ts";
import type { UrlOptions } from "./sources/url.ts";
import { verified } from "./sources/verify.ts";
import type { TensorHashes } from "./sources/verify.ts";

export { writeSafetensors } from "./safetensors-writer.ts";
export type { TensorToWrite } from "./safetensors-writer.ts";
export { blobSource } from "./sources/blob.ts";
export type { RangeCache, RangeStore } from "./sources/cache.ts";
export { clearOpfsCache, opfsCache } from "./sources/opfs.ts";
export { renamed } from "./sources/rename.ts";
export type { Rename } from "./sources/rename.ts";
export { shardedCheckpoint } from "./sources/shards.ts";
export type { OpenShard } from "./sources/shards.ts";
export type { SourceCode, SourceError } from "./sources/source-error.ts";
export { urlSource } from "./sources/url.ts";
export type { UrlOptions } from "./sources/url.ts";
export { tensorHashes, verified } from "./sources/verify.ts";
export type { TensorHashes } from "./sources/verify.ts";
export type { Checkpoint, CheckpointTensor } from "./checkpoint.ts";

export type CheckpointOptions = {
  /** What tensors are called in the model, where the file calls them otherwise. */
  readonly rename?: Rename;
  /** SHA-256 of tensors, by their names in the file; checked as they are read. */
  readonly sha256?: TensorHashes;
  /** Ends the opening, which rejects with the signal's reason. */
  readonly signal?: AbortSignal;
};

/**
 * A checkpoint of one safetensors file, or of shards with `open` (then `source` is their index). Rejects with a SafetensorsError for a bad
 * file or index, a rename that gives two tensors one name, or a hash for a tensor that is not there.
 */
export async function checkpoint(
  source: ByteSource | Checkpoint,
  { rename, sha256, signal, open }: CheckpointOptions & { readonly open?: OpenShard } = {},
): Promise<Checkpoint> {
  const found =
    open === undefined || "tensors" in source
      ? await openCheckpoint(source, { signal })
      : await shardedCheckpoint(source, open, { signal });
  const checked = sha256 === undefined ? found : verified(found, sha256);
  return rename === undefined ? checked : renamed(checked, rename);
}

/** An index is small: it may come whole from any server. */
const INDEX_BYTES = 2 ** 26;

/** A checkpoint by its URL: of a safetensors file, or of an index (`….index.json`) with its shards beside it, under the same query. */
export async function urlCheckpoint(
  address: string | URL,
  options: UrlOptions & CheckpointOptions = {},
): Promise<Checkpoint> {
  const url = absolute(address);
  if (!isIndex(url.pathname)) return checkpoint(await urlSource(url, options), options);
  const index = await urlSource(url, {
    ...options,
    wholeUpTo: Math.max(INDEX_BYTES, options.wholeUpTo ?? 0),
  });
  const open = (file: string) => {
    const shard = new URL(encodeURIComponent(file), url);
    shard.search = url.search;
    return urlSource(shard, options);
  };
  return checkpoint(index, { ...options, open });
}

/** A checkpoint of files that a user chose: one safetensors file, or an index (`….index.json`) and its shards. */
export async function fileListCheckpoint(
  files: Iterable<File>,
  options: CheckpointOptions = {},
): Promise<Checkpoint> {
  const all = [...files];
  const [only] = all;
  if (all.length === 1 && only !== undefined && !isIndex(only.name))
    return checkpoint(blobSource(only), options);
  const indices = all.filter(({ name }) => isIndex(name));
  const [index] = indices;
  if (index === undefined || indices.length > 1)
    throw inputError(
      `${all.length} files with ${indices.length} indices: choose one safetensors file, or one index (.index.json) and its shards`,
    );
  const open = async (file: string) => {
    const shard = all.find(({ name }) => name === file);
    if (shard === undefined) throw inputError("it is not among the files that were chosen");
    return blobSource(shard);
  };
  return checkpoint(blobSource(index), { ...options, open });
}
