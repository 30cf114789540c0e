/** `create` of a model: where its weights come from, what it tells meanwhile, and how it is ended. */
import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { jargon } from "../../examples/jargon.generated.ts";
import { memorySource, readHeader } from "../../runtime/safetensors.ts";
import type { ByteSource } from "../../runtime/safetensors.ts";
import { tensorHashes, urlCheckpoint } from "../../runtime/sources.ts";
import { fetchFrom, inMemory, numbers } from "./range-server.ts";

const path = fileURLToPath(new URL("../../examples/jargon/jargon.safetensors", import.meta.url));
const tokens = Array.from("The hacker ethic", (c) => c.charCodeAt(0));
const wasm = { device: "wasm", threads: 1 } as const;

describe("create", () => {
  it("gives the same numbers from a URL that is cut at random points, under other names, with checked hashes", async () => {
    const bytes = new Uint8Array(await readFile(path));
    const plain = await jargon.create({ ...wasm, weights: memorySource(bytes) });
    const wanted = await plain.forward(tokens);
    plain.dispose();

    const random = numbers(3);
    const { fetch, asked } = fetchFrom(
      { "j.safetensors": inMemory(bytes, { etag: '"1"' }) },
      {
        cut: (n, { start = 0, end = 0 }) =>
          n === 0 ? undefined : Math.floor(random() * 1.5 * (end - start)),
      },
    );
    const weights = await urlCheckpoint("https://a/j.safetensors", {
      fetch,
      backoffMs: 0,
      retries: 30,
      rename: (name) => name,
      sha256: await tensorHashes(memorySource(bytes)),
    });
    const tensors: number[] = [];
    const shares: (readonly [number, number])[] = [];
    const session = await jargon.create({
      ...wasm,
      weights,
      progress: (done) => void tensors.push(done),
      progressBytes: (done, of) => void shares.push([done, of]),
    });
    expect((await session.forward(tokens)).logits).toEqual(wanted.logits);
    session.dispose();
    expect(asked.length).toBeGreaterThan(4);
    const count = jargon.program.plan.weights.length;
    expect(tensors).toEqual(Array.from({ length: count }, (_x, i) => i + 1));
    const { tensors: entries } = await readHeader(memorySource(bytes));
    const names = new Set(jargon.program.plan.weights.map(({ name }) => name));
    const of = [...entries.values()]
      .filter(({ name }) => names.has(name))
      .reduce((sum, e) => sum + e.end - e.start, 0);
    expect(shares.at(-1)).toEqual([of, of]);
  });

  it("is ended by its signal, before and while it reads; later calls do not hear it", async () => {
    const bytes = new Uint8Array(await readFile(path));
    const gone = AbortSignal.abort(new Error("gone"));
    let reads = 0;
    const counting: ByteSource = {
      size: bytes.length,
      read: async (start, end) => {
        reads++;
        return bytes.subarray(start, end);
      },
    };
    await expect(jargon.create({ ...wasm, weights: counting, signal: gone })).rejects.toThrow("gone");
    expect(reads).toBe(0);
    const stop = new AbortController();
    const ending = jargon.create({
      ...wasm,
      weights: counting,
      signal: stop.signal,
      progress: (done) => void (done === 3 && stop.abort(new Error("enough"))),
    });
    await expect(ending).rejects.toThrow("enough");
    // At the last tensor too: nobody is given a session that was not wanted any more.
    const last = new AbortController();
    const late = jargon.create({
      ...wasm,
      weights: counting,
      signal: last.signal,
      progress: (done, of) => void (done === of && last.abort(new Error("late"))),
    });
    await expect(late).rejects.toThrow("late");
    const after = new AbortController();
    const session = await jargon.create({ ...wasm, weights: counting, signal: after.signal });
    after.abort(new Error("after"));
    expect((await session.forward(tokens)).logits.length).toBe(256 * tokens.length);
    session.dispose();
  });
});
