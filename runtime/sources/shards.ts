/** Checkpoints of several files with an index: `model.safetensors.index.json`, which says by `weight_map` which file holds a tensor. */
import { openCheckpoint } from "../checkpoint.ts";
import type { Checkpoint, CheckpointTensor } from "../checkpoint.ts";
import { parseJson } from "../json.ts";
import { safetensorsError } from "../safetensors.ts";
import type { ByteSource, ReadOptions } from "../safetensors.ts";

/** Opens the file of this name beside the index. */
export type OpenShard = (file: string) => Promise<ByteSource>;

/** An index of a million tensors has about as much. */
const MOST_BYTES = 100_000_000;
/** Shards that are opened at once. */
const AT_ONCE = 6;
/** Problems that a message lists. */
const MOST_PROBLEMS = 20;

/** Whether a path or an address names an index. */
export const isIndex = (name: string): boolean => /\.index\.json$/i.test(name);

/**
 * The tensors of all shards of an index. Rejects with a SafetensorsError "index" that lists the problems: an index that says something else, a
 * shard that cannot be opened, a tensor that is not where the index places it, or that two shards have.
 */
export async function shardedCheckpoint(
  index: ByteSource,
  open: OpenShard,
  { signal }: Pick<ReadOptions, "signal"> = {},
): Promise<Checkpoint> {
  const places = await placesOf(index, signal);
  const files = [...new Set(places.values())].sort();
  const problems: string[] = [];
  const tensors = new Map<string, CheckpointTensor>();
  const holders = new Map<string, string>();
  const twice = new Set<string>();
  let cause: unknown;
  for (let at = 0; at < files.length; at += AT_ONCE) {
    const group = files.slice(at, at + AT_ONCE);
    const results = await Promise.allSettled(
      group.map(async (file) => openCheckpoint(await open(file), { signal })),
    );
    signal?.throwIfAborted();
    for (const [i, file] of group.entries()) {
      const result = results[i];
      if (result?.status === "fulfilled")
        for (const [name, tensor] of result.value.tensors) {
          const other = holders.get(name);
          if (other !== undefined) {
            twice.add(name);
            problems.push(`tensor '${name}' is in shard '${other}' and in shard '${file}'`);
          }
          holders.set(name, file);
          tensors.set(name, tensor);
        }
      else {
        cause ??= result?.reason;
        problems.push(`shard '${file}' cannot be read: ${textOf(result?.reason)}`);
      }
    }
  }
  // Where a shard is missing, so are its tensors: one line says it.
  if (cause === undefined)
    for (const [name, file] of places) {
      const holder = holders.get(name);
      if (holder === undefined) problems.push(`tensor '${name}' is not in shard '${file}', nor in another`);
      else if (holder !== file && !twice.has(name))
        problems.push(`tensor '${name}' is not in shard '${file}' but in '${holder}'`);
    }
  if (problems.length > 0) {
    const lines = problems.slice(0, MOST_PROBLEMS).map((line) => `\n  ${line}`);
    if (problems.length > MOST_PROBLEMS) lines.push(`\n  … and ${problems.length - MOST_PROBLEMS} more`);
    throw safetensorsError(index, "index", `does not hold together:${lines.join("")}`, cause);
  }
  return { ...(index.name === undefined ? {} : { name: index.name }), tensors };
}

const textOf = (reason: unknown): string => (reason instanceof Error ? reason.message : String(reason));

/** Files by the names of their tensors. */
async function placesOf(
  index: ByteSource,
  signal: AbortSignal | undefined,
): Promise<ReadonlyMap<string, string>> {
  const fail = (problem: string) => safetensorsError(index, "index", problem);
  if (index.size > MOST_BYTES) throw fail(`is no index: ${index.size} bytes, more than ${MOST_BYTES}`);
  const bytes = await index.read(0, index.size, { signal });
  const parsed = parseJson(new TextDecoder().decode(bytes.slice()));
  if ("problem" in parsed) throw fail(`is no JSON: ${parsed.problem} at character ${parsed.at}`);
  const map =
    parsed.value instanceof Map
      ? (parsed.value as ReadonlyMap<string, unknown>).get("weight_map")
      : undefined;
  if (!(map instanceof Map)) throw fail("has no 'weight_map' from names of tensors to files");
  const places = new Map<string, string>();
  for (const [name, file] of map as ReadonlyMap<string, unknown>) {
    if (typeof file !== "string" || !isPlain(file))
      throw fail(
        `places tensor '${name}' in ${JSON.stringify(file)?.slice(0, 80) ?? "nothing"}; it must be a file beside the index`,
      );
    places.set(name, file);
  }
  if (places.size === 0) throw fail("has an empty 'weight_map'");
  return places;
}

/** An index may not lead out of its folder, nor to another server. */
const isPlain = (file: string): boolean =>
  /^[^/\\:?#%\0]{1,255}$/.test(file) && file !== "." && file !== "..";
