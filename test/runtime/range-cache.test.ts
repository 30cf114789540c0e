/** Ranges that are kept: a reload fetches nothing again, and what was damaged or forgotten anew. */
import { mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { folderCache } from "../../runtime/node.ts";
import type { ByteSource } from "../../runtime/safetensors.ts";
import { urlSource } from "../../runtime/sources.ts";
import type { RangeCache } from "../../runtime/sources.ts";
import { WINDOW } from "../../runtime/sources/windows.ts";
import { fetchFrom, inMemory } from "./range-server.ts";

const size = 2 * WINDOW + 12_345;
const bytes = Uint8Array.from({ length: size }, (_x, i) => (i * 7 + (i >> 9)) & 255);
const other = bytes.map((byte) => byte ^ 1);

/** A cache in memory, whose entries a test may touch: by URL and version, then by range. */
function fakeCache() {
  const files = new Map<string, Map<string, Uint8Array>>();
  const cache: RangeCache = {
    open: async (url, version) => {
      const key = `${url} ${version}`;
      for (const known of files.keys()) if (known.startsWith(`${url} `) && known !== key) files.delete(known);
      const ranges = files.get(key) ?? new Map<string, Uint8Array>();
      files.set(key, ranges);
      return {
        get: async (range) => ranges.get(range),
        set: async (range, entry) => void ranges.set(range, entry.slice()),
      };
    },
  };
  const entries = () => [...files.values()].flatMap((ranges) => [...ranges]);
  return { cache, files, entries };
}

async function readAll(source: ByteSource): Promise<Uint8Array> {
  const whole = new Uint8Array(source.size);
  for (let at = 0; at < source.size; at += 1 << 20)
    whole.set(await source.read(at, Math.min(source.size, at + (1 << 20)), { until: source.size }), at);
  return whole;
}
const equal = (a: Uint8Array, b: Uint8Array) => Buffer.compare(a, b) === 0;
/** Reads all of it by a new source; returns the ranges that were fetched besides the first bytes. */
async function reload(cache: RangeCache, served: Uint8Array = bytes, etag: string | undefined = '"one"') {
  const { fetch, asked } = fetchFrom({ m: inMemory(served, etag === undefined ? {} : { etag }) });
  const source = await urlSource("https://a/m", { fetch, cache, backoffMs: 0 });
  expect(equal(await readAll(source), served)).toBe(true);
  return asked.slice(1).map(({ start, end }) => [start, end]);
}
const windows = [
  [0, WINDOW],
  [WINDOW, 2 * WINDOW],
  [2 * WINDOW, size],
];

describe("a cache of ranges", () => {
  it("makes a reload fetch the first bytes only", async () => {
    const { cache, entries } = fakeCache();
    expect(await reload(cache)).toEqual(windows);
    expect(entries().map(([range]) => range)).toEqual(windows.map(([start, end]) => `${start}-${end}`));
    expect(await reload(cache)).toEqual([]);
  });

  it("goes on where a load ended", async () => {
    const { cache } = fakeCache();
    const { fetch } = fetchFrom(
      { m: inMemory(bytes, { etag: '"one"' }) },
      { cut: (n) => (n < 2 ? undefined : 0) },
    );
    const source = await urlSource("https://a/m", { fetch, cache, backoffMs: 0, retries: 1 });
    await expect(readAll(source)).rejects.toMatchObject({ code: "network" });
    expect(await reload(cache)).toEqual(windows.slice(1));
  });

  it("fetches damaged, shortened and evicted entries again", async () => {
    const { cache, files } = fakeCache();
    await reload(cache);
    const [ranges] = files.values();
    const damage: readonly ((entry: Uint8Array) => Uint8Array | undefined)[] = [
      (entry) => entry.map((byte, i) => (i === entry.length - 1 ? byte ^ 1 : byte)),
      (entry) => entry.map((byte, i) => (i === 0 ? byte ^ 1 : byte)),
      (entry) => entry.subarray(0, entry.length - 1),
      () => new Uint8Array(0),
      () => undefined,
    ];
    for (const change of damage) {
      const key = `${WINDOW}-${2 * WINDOW}`;
      const changed = change(ranges?.get(key) ?? new Uint8Array());
      if (changed === undefined) ranges?.delete(key);
      else ranges?.set(key, changed);
      expect(await reload(cache)).toEqual([windows[1]]);
      // And keeps it again.
      expect(await reload(cache)).toEqual([]);
    }
  });

  it("never gives the bytes of another version", async () => {
    const { cache, files } = fakeCache();
    await reload(cache);
    expect(await reload(cache, other, '"two"')).toEqual(windows);
    expect([...files.keys()]).toEqual(['https://a/m "two"']);
  });

  it("keeps nothing of a file whose versions the server does not tell apart", async () => {
    const { cache, entries } = fakeCache();
    const { fetch } = fetchFrom({ m: inMemory(bytes) });
    await readAll(await urlSource("https://a/m", { fetch, cache }));
    expect(entries()).toEqual([]);
  });

  it("that fails at everything costs nothing but the bytes", async () => {
    const no = () => Promise.reject(new Error("QuotaExceededError"));
    expect(await reload({ open: no })).toEqual(windows);
    expect(await reload({ open: async () => ({ get: no, set: no }) })).toEqual(windows);
  });
});

describe("a folder as cache", () => {
  let folder: string;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "heddle-ranges-"));
  });
  afterAll(() => rm(folder, { recursive: true, force: true }));

  it("keeps, forgets other versions, and outlives damage", async () => {
    const cache = folderCache(join(folder, "new/one"));
    expect(await reload(cache)).toEqual(windows);
    expect(await reload(cache)).toEqual([]);
    const paths = await readdir(join(folder, "new/one"), { recursive: true });
    const entry = paths.find((path) => path.endsWith(`/0-${WINDOW}`));
    await writeFile(join(folder, "new/one", entry ?? ""), "damaged");
    expect(await reload(cache)).toEqual([windows[0]]);
    expect(await reload(cache, other, '"two"')).toEqual(windows);
    expect(await readdir(join(folder, "new/one"), { recursive: true })).toHaveLength(2 + windows.length);
    expect(await reload(cache)).toEqual(windows);
  });
});
