/** Checkpoints of several files with an index, and of Blobs. */
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { fileCheckpoint } from "../../runtime/node.ts";
import { memorySource, readHeader, writeSafetensors } from "../../runtime/safetensors.ts";
import {
  blobSource,
  checkpoint,
  fileListCheckpoint,
  shardedCheckpoint,
  urlCheckpoint,
} from "../../runtime/sources.ts";
import { contents, f32, failure } from "./checkpoints.ts";
import { fetchFrom, inMemory } from "./range-server.ts";

const encoder = new TextEncoder();
const indexOf = (map: Readonly<Record<string, unknown>>) =>
  encoder.encode(JSON.stringify({ metadata: { total_size: 1 }, weight_map: map }));

describe("shards", () => {
  const [a, b] = [writeSafetensors([f32("x", [1]), f32("y", [2, 3])]), writeSafetensors([f32("z", [4])])];
  const map = { x: "m-1.safetensors", y: "m-1.safetensors", z: "m-2 é.safetensors" };
  const files = { "m-1.safetensors": a, "m-2 é.safetensors": b };
  const whole = { x: [1], y: [2, 3], z: [4] };
  const openIn = (shards: Readonly<Record<string, Uint8Array>>) => async (file: string) => {
    const bytes = shards[file];
    if (bytes === undefined) throw new Error(`there is no ${file}`);
    return memorySource(bytes, file);
  };
  const given = (index: Uint8Array, shards: Readonly<Record<string, Uint8Array>> = files) =>
    shardedCheckpoint(memorySource(index, "m.safetensors.index.json"), openIn(shards));

  it("are one checkpoint: in memory, in files, over HTTP and as Blobs", async () => {
    const index = indexOf(map);
    expect(await contents(await given(index))).toEqual(whole);
    const folder = await mkdtemp(join(tmpdir(), "heddle-shards-"));
    try {
      for (const [name, bytes] of Object.entries(files)) await writeFile(join(folder, name), bytes);
      await writeFile(join(folder, "m.safetensors.index.json"), index);
      const opened = await fileCheckpoint(join(folder, "m.safetensors.index.json"));
      expect(await contents(opened)).toEqual(whole);
      await opened.close();
    } finally {
      await rm(folder, { recursive: true });
    }
    const served = { "q/m.safetensors.index.json": inMemory(index), "q/m-1.safetensors": inMemory(a), "q/m-2 é.safetensors": inMemory(b) }; // prettier-ignore
    const { fetch } = fetchFrom(served);
    const seen: string[] = [];
    const spying = (url: string, init: RequestInit) => {
      seen.push(url);
      return fetch(url, init);
    };
    const remote = await urlCheckpoint("https://a/q/m.safetensors.index.json?sig=1", { fetch: spying });
    expect(await contents(remote)).toEqual(whole);
    expect(seen.sort()).toEqual([
      "https://a/q/m-1.safetensors?sig=1",
      "https://a/q/m-2%20%C3%A9.safetensors?sig=1",
      "https://a/q/m.safetensors.index.json?sig=1",
    ]);
    const blobs = [new File([index], "m.safetensors.index.json"), new File([b], "m-2 é.safetensors"), new File([a], "m-1.safetensors")]; // prettier-ignore
    expect(await contents(await fileListCheckpoint(blobs))).toEqual(whole);
  });

  it("a missing shard, one that is damaged, and several at once", async () => {
    expect(await failure(() => given(indexOf(map), { "m-1.safetensors": a }))).toBe(
      "index: m.safetensors.index.json: does not hold together:\n  shard 'm-2 é.safetensors' cannot be read: there is no m-2 é.safetensors",
    );
    const damaged = await failure(() => given(indexOf(map), { "m-2 é.safetensors": a.subarray(0, 30) }));
    expect(damaged).toMatch(
      /shard 'm-1.safetensors' cannot be read: there is no[^]*shard 'm-2 é.safetensors' cannot be read: m-2 é.safetensors: claims a header/,
    );
    expect(await failure(() => fileCheckpoint("/nowhere/m.safetensors.index.json"))).toContain("ENOENT");
  });

  it("a tensor that is not where the index places it", async () => {
    expect(await failure(() => given(indexOf({ ...map, w: "m-1.safetensors" })))).toContain(
      "\n  tensor 'w' is not in shard 'm-1.safetensors', nor in another",
    );
    expect(await failure(() => given(indexOf({ ...map, x: "m-2 é.safetensors" })))).toContain(
      "\n  tensor 'x' is not in shard 'm-2 é.safetensors' but in 'm-1.safetensors'",
    );
  });

  it("two shards with one tensor", async () => {
    const twice = { ...files, "m-2 é.safetensors": writeSafetensors([f32("z", [4]), f32("x", [9])]) };
    expect(await failure(() => given(indexOf(map), twice))).toBe(
      "index: m.safetensors.index.json: does not hold together:\n  tensor 'x' is in shard 'm-1.safetensors' and in shard 'm-2 é.safetensors'",
    );
  });

  it("a tensor that the index does not list is there", async () => {
    const { z } = map;
    expect(await contents(await given(indexOf({ x: map.x, z })))).toEqual(whole);
  });

  it("many problems are some lines", async () => {
    const many = Object.fromEntries(Array.from({ length: 50 }, (_x, i) => [`t${i}`, "m-1.safetensors"]));
    const text = await failure(() => given(indexOf(many)));
    expect(text.split("\n")).toHaveLength(22);
    expect(text).toContain("… and 30 more");
  });

  it("what is no index", async () => {
    expect(await failure(() => given(encoder.encode("[1,")))).toMatch(
      /^index: .*is no JSON: .* at character 3/,
    );
    expect(await failure(() => given(encoder.encode('{"weight_map":[]}')))).toContain("has no 'weight_map'");
    expect(await failure(() => given(indexOf({})))).toContain("has an empty 'weight_map'");
    expect(await failure(() => given(indexOf({ x: 3 })))).toContain(
      "places tensor 'x' in 3; it must be a file",
    );
    // And an index where one file was meant.
    expect(await failure(() => readHeader(blobSource(new Blob([indexOf(map)]), "model.json")))).toContain(
      "format: model.json: is JSON, not a safetensors file; the name of an index of shards ends in .index.json",
    );
    const [two, none] = [
      [new File([a], "a"), new File([b], "b")],
      [new File([indexOf(map)], "i.index.json")],
    ];
    expect(await failure(() => fileListCheckpoint(two))).toContain(
      "choose one safetensors file, or one index",
    );
    expect(await failure(() => fileListCheckpoint(none))).toContain("not among the files that were chosen");
  });

  it("a signal ends the opening", async () => {
    const index = memorySource(indexOf(map));
    const stop = new AbortController();
    const opening = shardedCheckpoint(
      index,
      async (file) => {
        stop.abort(new Error("enough"));
        return openIn(files)(file);
      },
      { signal: stop.signal },
    );
    await expect(opening).rejects.toThrow("enough");
  });
});

describe("Blobs", () => {
  it("are read by ranges, under the name of a File", async () => {
    const bytes = writeSafetensors([f32("x", [1, 2, 3])]);
    const source = blobSource(new File([new Uint8Array(0), bytes], "w.safetensors"));
    expect([source.name, source.size]).toEqual(["w.safetensors", bytes.length]);
    expect(await contents(await checkpoint(source))).toEqual({ x: [1, 2, 3] });
    expect(await contents(await fileListCheckpoint([new File([bytes], "w")]))).toEqual({ x: [1, 2, 3] });
    await expect(source.read(0, 1, { signal: AbortSignal.abort(new Error("gone")) })).rejects.toThrow("gone");
    expect(await failure(() => checkpoint(blobSource(new Blob([new Uint8Array(3)]), "short")))).toContain(
      "truncated: short",
    );
  });
});
