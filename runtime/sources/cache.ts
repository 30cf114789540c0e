/**
 * Ranges of remote files that are kept, so that a reload goes on where it stopped. A cache may forget any entry at any time, and damage one:
 * what it gives is checked, and fetched again where it is not what was put there.
 */
import { sha256 } from "./sha256.ts";

export type RangeCache = {
  /** The ranges of one version of a file; what is kept of its other versions may be forgotten now. */
  readonly open: (url: string, version: string) => Promise<RangeStore>;
};
/** Names of ranges are short and made of digits and "-". */
export type RangeStore = {
  readonly get: (range: string) => Promise<Uint8Array | undefined>;
  readonly set: (range: string, bytes: Uint8Array) => Promise<void>;
};

const DIGEST = 32;

function digest(bytes: Uint8Array): Uint8Array {
  const hash = sha256();
  hash.add(bytes);
  return hash.digest();
}

/** Bytes [start, end) into `to`: from the store where they are whole there, otherwise by `fetch` and then into the store. */
export async function kept(
  store: RangeStore | undefined,
  start: number,
  end: number,
  to: Uint8Array,
  fetch: () => Promise<void>,
): Promise<void> {
  if (store === undefined) return fetch();
  const range = `${start}-${end}`;
  const found = await store.get(range).catch(() => undefined);
  if (found?.length === end - start + DIGEST) {
    const bytes = found.subarray(DIGEST);
    const expected = digest(bytes);
    if (expected.every((byte, i) => byte === found[i])) {
      to.set(bytes);
      return;
    }
  }
  await fetch();
  const entry = new Uint8Array(DIGEST + to.length);
  entry.set(digest(to));
  entry.set(to, DIGEST);
  // A full disk or a closed store costs the next reload some time, not this one its weights.
  await store.set(range, entry).catch(() => undefined);
}
