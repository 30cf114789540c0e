/** Bytes by HTTP ranges: what is asked for, from servers that cut, stall or are busy. */
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { readHeader, readTensor, writeSafetensors } from "../../runtime/safetensors.ts";
import { urlSource } from "../../runtime/sources.ts";
import { WINDOW } from "../../runtime/sources/windows.ts";
import { loadWeights } from "../../runtime/weights.ts";
import { fetchFrom, inMemory, numbers, rangeServer } from "./range-server.ts";
import type { RangeServer } from "./range-server.ts";
import { big, equal, failure, fast, fresh, MiB, readAll, small } from "./urls.ts";

let server: RangeServer;
beforeAll(async () => {
  server = await rangeServer(fresh);
});
afterEach(() => {
  server.behave({});
  server.serve(fresh);
  server.asked.length = 0;
});
afterAll(() => server.close());

describe("ranges", () => {
  it("opens with one request, reads what is asked for, and merges neighbours", async () => {
    const source = await urlSource(`${server.url}big.bin`, fast);
    expect(source.size).toBe(big.length);
    expect(server.asked.map(({ start, end }) => [start, end])).toEqual([[0, 65_536]]);
    expect(equal(await source.read(10, 5000), big.slice(10, 5000))).toBe(true);
    expect(server.asked).toHaveLength(1);
    // 300 small neighbours, and the hint of how far they go: one request.
    for (let at = 100_000; at < 400_000; at += 1000)
      expect(equal(await source.read(at, at + 1000, { until: 400_000 }), big.slice(at, at + 1000))).toBe(
        true,
      );
    expect(server.asked.slice(1).map(({ start, end }) => [start, end])).toEqual([[100_000, 400_000]]);
    expect(equal(await source.read(9 * MiB, 9 * MiB + 7), big.slice(9 * MiB, 9 * MiB + 7))).toBe(true);
    expect(server.asked.slice(2).map(({ start, end }) => [start, end])).toEqual([[9 * MiB, 9 * MiB + 7]]);
    // Past the end there is nothing.
    expect((await source.read(big.length - 3, big.length + 10)).length).toBe(3);
    expect((await source.read(big.length + 1, big.length + 10)).length).toBe(0);
  });

  it("reads a large file in windows, each byte once, whatever the pieces", async () => {
    for (const piece of [MiB, 1_000_003, 9 * MiB, 21 * MiB]) {
      server.asked.length = 0;
      const source = await urlSource(`${server.url}big.bin`, fast);
      expect(equal(await readAll(source, piece), big), String(piece)).toBe(true);
      const parts = server.asked.slice(1).map(({ start = 0, end = 0 }) => [start, end] as const);
      expect(Math.max(...parts.map(([start, end]) => end - start))).toBeLessThanOrEqual(WINDOW);
      expect(parts.reduce((sum, [start, end]) => sum + end - start, 0)).toBeLessThanOrEqual(big.length + MiB);
      for (const [i, [start]] of parts.entries()) if (i > 0) expect(start).toBe(parts[i - 1]?.[1]);
    }
  });

  it("a file that fits into the first request is never asked for again", async () => {
    const source = await urlSource(`${server.url}small.bin`, fast);
    expect(equal(await readAll(source, 7), small)).toBe(true);
    expect(server.asked).toHaveLength(1);
    server.serve({ empty: inMemory(new Uint8Array(0)) });
    const empty = await urlSource(`${server.url}empty`, fast);
    expect([empty.size, (await empty.read(0, 8)).length]).toEqual([0, 0]);
    await expect(readHeader(empty)).rejects.toMatchObject({ code: "truncated" });
  });

  it("sends headers of its caller, and the tag it knows when it reads on", async () => {
    const source = await urlSource(`${server.url}big.bin?token=secret`, {
      ...fast,
      headers: { Authorization: "Bearer t" },
    });
    await source.read(MiB, MiB + 1);
    expect(server.asked.map(({ headers }) => [headers["authorization"], headers["if-range"]])).toEqual([
      ["Bearer t", undefined],
      ["Bearer t", '"one"'],
    ]);
    // What may be secret is in no message.
    expect(source.name).toBe(`${server.url}big.bin`);
    // Weak tags are for pages, not for ranges.
    server.serve({
      "big.bin": inMemory(big, { etag: 'W/"weak"', modified: "Wed, 25 Nov 2026 10:00:00 GMT" }),
    });
    const weak = await urlSource(`${server.url}big.bin`, fast);
    await weak.read(MiB, MiB + 1);
    expect(server.asked.at(-1)?.headers["if-range"]).toBe("Wed, 25 Nov 2026 10:00:00 GMT");
  });

  it("two readers with signals of their own do not end each other's reads", async () => {
    const source = await urlSource(`${server.url}big.bin`, fast);
    const [a, b] = [new AbortController(), new AbortController()];
    const one = source.read(2 * MiB, 3 * MiB, { signal: a.signal });
    const two = source.read(2 * MiB, 3 * MiB, { signal: b.signal });
    a.abort(new Error("enough"));
    await expect(one).rejects.toThrow("enough");
    expect(equal(await two, big.slice(2 * MiB, 3 * MiB))).toBe(true);
  });
});

describe("connections that are cut", () => {
  /** Some are cut before the first byte, some never. */
  const cuts = (random: () => number) => (length: number) => {
    const dice = random();
    return dice < 0.1 ? 0 : dice < 0.8 ? Math.floor(random() * length) : undefined;
  };

  it.each([1, 2, 3, 4, 5])("at random points: gives the bytes of the file (seed %i)", async (seed) => {
    const cut = cuts(numbers(seed));
    server.behave({ cut: (_n, { start = 0, end = 0 }) => cut(end - start) });
    const source = await urlSource(`${server.url}big.bin`, { ...fast, retries: 20 });
    expect(equal(await readAll(source), big)).toBe(true);
    expect(server.asked.length).toBeGreaterThan(6);
  });

  it.each([1, 2, 3, 4, 5])("at random points: asks for no byte twice (seed %i)", async (seed) => {
    const cut = cuts(numbers(seed));
    const ends: number[] = [];
    const { fetch, asked } = fetchFrom(fresh, {
      cut: (n, { start = 0, end = 0 }) => {
        // The first request is not taken up but made again: it is small.
        const made = n === 0 ? undefined : cut(end - start);
        ends[n] = start + (made ?? end - start);
        return made;
      },
    });
    const source = await urlSource("https://a/big.bin", { ...fast, retries: 50, fetch });
    expect(equal(await readAll(source), big)).toBe(true);
    const sent = asked.slice(1).reduce((sum, { start = 0 }, i) => sum + (ends[i + 1] ?? 0) - start, 0);
    expect(sent).toBe(big.length);
    expect(asked.length).toBeGreaterThan(6);
  });

  it("gives up after so many attempts in a row that bring nothing, and says where", async () => {
    const source = await urlSource(`${server.url}big.bin`, { ...fast, retries: 3 });
    server.behave({ cut: () => 0 });
    server.asked.length = 0;
    const error = await failure(source.read(MiB, 2 * MiB));
    expect(error).toMatchObject({ name: "SourceError", code: "network" });
    expect(error.message).toMatch(
      new RegExp(`big\\.bin: reading byte ${MiB} of ${big.length} failed 4 times in a row: the connection`),
    );
    expect(server.asked).toHaveLength(4);
    // The failure is not kept: the next read tries again.
    server.behave({});
    expect((await source.read(MiB, 2 * MiB)).length).toBe(MiB);
  });

  it("a server that is not there, and one that is busy", async () => {
    const gone = await rangeServer({});
    await gone.close();
    const error = await failure(urlSource(`${gone.url}x`, { ...fast, retries: 1 }));
    expect(error.code).toBe("network");
    expect(error.message).toMatch(/opening it failed 2 times in a row: fetch failed \(.*ECONNREFUSED/);

    server.behave({
      status: (n) =>
        n < 3 ? { status: [503, 429, 500][n] ?? 500, headers: { "retry-after": "0" } } : undefined,
    });
    expect((await urlSource(`${server.url}big.bin`, fast)).size).toBe(big.length);
    expect(server.asked).toHaveLength(4);
    server.behave({ status: () => ({ status: 503, headers: { "retry-after": "3600" } }) });
    server.asked.length = 0;
    expect((await failure(urlSource(`${server.url}big.bin`, fast))).message).toContain("answered 503");
    expect(server.asked).toHaveLength(1);
  });

  it("waits as long as a busy server asks", async () => {
    server.behave({
      status: (n) => (n === 0 ? { status: 503, headers: { "retry-after": "1" } } : undefined),
    });
    const start = performance.now();
    await urlSource(`${server.url}big.bin`, fast);
    expect(performance.now() - start).toBeGreaterThan(950);
  });

  it("a silence counts as a cut", async () => {
    const source = await urlSource(`${server.url}big.bin`, { ...fast, stallMs: 200 });
    server.asked.length = 0;
    server.behave({ cut: (n) => (n < 2 ? 1000 : undefined), silent: true });
    expect(equal(await source.read(MiB, 2 * MiB), big.slice(MiB, 2 * MiB))).toBe(true);
    // On a busy machine an attempt may end before its first bytes.
    const starts = server.asked.map(({ start = 0 }) => start);
    expect(starts[0]).toBe(MiB);
    expect([MiB + 1000, MiB + 2000]).toContain(starts.at(-1));
    server.behave({ cut: () => 0, silent: true });
    expect((await failure(source.read(0, 2 * MiB))).message).toContain("nothing came for 200 ms");
  });

  it("statuses that do not pass are told at once", async () => {
    expect(await failure(urlSource(`${server.url}nothing`, fast))).toMatchObject({
      code: "http",
      status: 404,
      message: `${server.url}nothing: the server answered 404 Not Found`,
    });
    server.behave({ status: () => ({ status: 401 }) });
    expect((await failure(urlSource(`${server.url}big.bin`, fast))).message).toContain("Authorization");
    expect(server.asked).toHaveLength(2);
    await expect(urlSource("ftp://x/y")).rejects.toMatchObject({ name: "InputError" });
    await expect(urlSource("model.safetensors")).rejects.toThrow("is no address that begins with http");
  });
});

describe("signals", () => {
  it("end an opening, a read, a wait, and are heard before the first request", async () => {
    const gone = AbortSignal.abort(new Error("gone"));
    await expect(urlSource(`${server.url}big.bin`, { ...fast, signal: gone })).rejects.toThrow("gone");
    expect(server.asked).toHaveLength(0);
    const source = await urlSource(`${server.url}big.bin`, { backoffMs: 60_000 });
    await expect(source.read(MiB, 2 * MiB, { signal: gone })).rejects.toThrow("gone");
    expect(server.asked).toHaveLength(1);

    for (const manners of [{ cut: () => 1000, silent: true }, { cut: () => 0 }]) {
      server.behave(manners);
      const late = new AbortController();
      setTimeout(() => late.abort(new Error("late")), 50);
      const start = performance.now();
      await expect(source.read(MiB, 2 * MiB, { signal: late.signal })).rejects.toThrow("late");
      expect(performance.now() - start).toBeLessThan(5000);
    }
    server.behave({ cut: () => 0, silent: true });
    const late = new AbortController();
    setTimeout(() => late.abort(new Error("late")), 50);
    await expect(urlSource(`${server.url}big.bin`, { signal: late.signal })).rejects.toThrow("late");
  });
});

describe("tensors over HTTP", () => {
  it("skips what no model asks for and merges what lies near", async () => {
    const f32 = (name: string, count: number) => ({
      name,
      dtype: "F32" as const,
      shape: [count],
      data: Float32Array.from({ length: count }, (_x, i) => i),
    });
    // By name: a b c (near each other), skipped (large), z.
    const bytes = writeSafetensors([
      f32("a", 10),
      f32("b", 1000),
      f32("c", 5),
      f32("skipped", MiB),
      f32("z", 3 * MiB),
    ]);
    server.serve({ m: inMemory(bytes) });
    const source = await urlSource(`${server.url}m`, fast);
    const { tensors } = await readHeader(source);
    const skipped = tensors.get("skipped");
    const z = tensors.get("z");
    if (skipped === undefined || z === undefined) throw new Error("no tensors");
    server.asked.length = 0;
    const weights = ["a", "b", "c", "z"].map((name) => ({
      name,
      shape: tensors.get(name)?.shape ?? [],
      layout: "rows" as const,
    }));
    const accepts = [{ name: "skipped", shape: [MiB] }];
    const got: number[] = [];
    await loadWeights({ weights, accepts }, source, (_index, data) => void got.push(data.length));
    expect(got).toEqual([10, 1000, 5, 3 * MiB]);
    // a, b and c came with the header.
    const windows = Math.ceil((z.end - z.start) / WINDOW);
    expect(server.asked.map(({ start, end }) => [start, end])).toEqual(
      Array.from({ length: windows }, (_x, i) => [
        z.start + i * WINDOW,
        Math.min(z.end, z.start + (i + 1) * WINDOW),
      ]),
    );
    expect(await readTensor(source, z)).toHaveLength(3 * MiB);
  });
});
