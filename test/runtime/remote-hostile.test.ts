/** Thousands of broken headers and indices, over HTTP: never a crash, a hang or an allocation that the file does not justify. */
import { afterEach, describe, expect, it, vi } from "vitest";
import { memorySource, readHeader, readTensor, writeSafetensors } from "../../runtime/safetensors.ts";
import { checkpoint, shardedCheckpoint, urlCheckpoint, urlSource } from "../../runtime/sources.ts";
import { checkWeights, loadWeights } from "../../runtime/weights.ts";
import { watchAllocations } from "./allocations.ts";
import { fetchFrom, inMemory, numbers } from "./range-server.ts";
import { file, smallFile } from "./safetensors-files.ts";

afterEach(() => vi.unstubAllGlobals());

const known = new Set(["SafetensorsError", "SourceError", "WeightsError"]);
const nameOf = (work: Promise<unknown>): Promise<string> =>
  work.then(
    () => "",
    (error: unknown) => (error instanceof Error ? error.name : typeof error),
  );

const tokens = ["{", "}", "[", "]", ",", ":", '"', "0", "-1", "1e999", "9007199254740993", "null", '"F32"', '"__proto__"', "\\u0000", "\u00ff"]; // prettier-ignore
const encoder = new TextEncoder();

/** Bits flipped, bytes changed, cut or repeated, tokens put in, and lengths that lie. */
function mutated(bytes: Uint8Array, random: () => number): Uint8Array {
  const whole = (n: number) => Math.floor(random() * n);
  let made = bytes.slice();
  for (let times = 1 + whole(4); times > 0; times--) {
    const at = whole(made.length);
    const kind = whole(6);
    if (kind === 0) made[at] = (made[at] ?? 0) ^ (1 << whole(8));
    else if (kind === 1) made[at] = whole(256);
    else if (kind === 2) made = made.slice(0, at);
    else if (kind === 3) made = Uint8Array.from([...made.slice(0, at), ...made.slice(whole(made.length))]);
    else if (kind === 4) {
      const token = encoder.encode(tokens[whole(tokens.length)] ?? "");
      made = Uint8Array.from([...made.slice(0, at), ...token, ...made.slice(at + whole(2))]);
    } else if (made.length >= 8)
      new DataView(made.buffer).setBigUint64(
        0,
        BigInt(Math.floor(2 ** (64 * random()))) & (2n ** 64n - 1n),
        true,
      );
    if (made.length === 0) return made;
  }
  return made;
}

describe("over HTTP", () => {
  it("5,000 mutated files", async () => {
    const random = numbers(20_261_125);
    let current = smallFile;
    const seen = watchAllocations();
    const outcomes = new Map<string, number>();
    for (let i = 0; i < 5000; i++) {
      current = mutated(smallFile, random);
      const { fetch } = fetchFrom({ m: inMemory(current, { etag: `"${i}"` }) });
      const name = await nameOf(
        (async () => {
          const source = await urlSource("https://a/m", { fetch, retries: 0, backoffMs: 0 });
          const { tensors } = await readHeader(source);
          for (const entry of tensors.values()) await readTensor(source, entry);
        })(),
      );
      outcomes.set(name, (outcomes.get(name) ?? 0) + 1);
      if (name !== "" && !known.has(name))
        expect([i, name, current]).toEqual([i, "an error of its kind", current]);
    }
    vi.unstubAllGlobals();
    expect(outcomes.get("SafetensorsError")).toBeGreaterThan(4000);
    // A window of the small file, its first bytes, and pieces of its tensors.
    expect(seen.largest).toBeLessThan(1 << 20);
  });

  it("a size that is a lie takes no memory", async () => {
    const { fetch } = fetchFrom(
      { m: inMemory(smallFile) },
      { headers: () => ({ "content-range": `bytes 0-65535/${2 ** 49}` }) },
    );
    const seen = watchAllocations();
    const name = await nameOf(urlCheckpoint("https://a/m", { fetch, retries: 1, backoffMs: 0 }));
    vi.unstubAllGlobals();
    expect(known).toContain(name);
    expect(seen.largest).toBeLessThan(1 << 20);
  });
});

describe("an index", () => {
  const shard = (...names: readonly string[]) =>
    writeSafetensors(names.map((name) => ({ name, dtype: "F32", shape: [1], data: new Float32Array(1) })));
  const shards = { "a.safetensors": shard("x", "y"), "b.safetensors": shard("z") };
  const text = JSON.stringify({
    metadata: { total_size: 12 },
    weight_map: { x: "a.safetensors", y: "a.safetensors", z: "b.safetensors" },
  });

  it("2,000 mutated ones", async () => {
    const random = numbers(7);
    const seen = watchAllocations();
    let refused = 0;
    for (let i = 0; i < 2000; i++) {
      const bytes = mutated(encoder.encode(text), random);
      const { fetch } = fetchFrom({
        "m.safetensors.index.json": inMemory(bytes),
        ...Object.fromEntries(Object.entries(shards).map(([name, b]) => [name, inMemory(b)])),
      });
      const name = await nameOf(
        urlCheckpoint("https://a/m.safetensors.index.json", { fetch, retries: 0, backoffMs: 0 }),
      );
      if (name !== "") refused++;
      if (name !== "" && !known.has(name))
        expect([i, name, bytes]).toEqual([i, "an error of its kind", bytes]);
    }
    vi.unstubAllGlobals();
    expect(refused).toBeGreaterThan(1500);
    expect(seen.largest).toBeLessThan(1 << 20);
  });

  it.each([
    "../secret.safetensors",
    "/etc/passwd",
    "https://elsewhere/x.safetensors",
    "..",
    "a\\b",
    "x?y",
    "%2e%2e%2fx",
    "",
    "a\u0000b",
  ])("may not lead to %j", async (place) => {
    const index = memorySource(encoder.encode(JSON.stringify({ weight_map: { x: place } })), "i.index.json");
    let asked = 0;
    const error = await shardedCheckpoint(index, async () => {
      asked++;
      return memorySource(shards["a.safetensors"]);
    }).catch((e: unknown) => e as Error);
    expect(error).toMatchObject({ name: "SafetensorsError", code: "index" });
    expect(String(error)).toContain("i.index.json: places tensor 'x' in");
    expect(asked).toBe(0);
  });
});

describe("headers of a million names", () => {
  const million = () => {
    const entries = Array.from({ length: 200_000 }, (_x, i) => `"layers.${i}.self_attn.q_proj.weight":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}`); // prettier-ignore
    return memorySource(file(`{${entries.join(",")}}`));
  };
  const weights = Array.from({ length: 300 }, (_x, i) => ({
    name: `layer.${i}.self_attn.query.weight`,
    shape: [4, 4],
    layout: "rows" as const,
  }));
  it("are compared in seconds, and told in a message of some lines", async () => {
    const source = million();
    const start = performance.now();
    const header = await readHeader(source);
    expect(checkWeights({ weights, accepts: [] }, header)).toHaveLength(200_300);
    const error = await loadWeights({ weights, accepts: [] }, source, () => undefined).catch(
      (e: unknown) => e as Error,
    );
    expect(String(error).split("\n").length).toBeLessThan(110);
    expect(String(error)).toContain("… and 200200 more.");
    expect(performance.now() - start).toBeLessThan(20_000);
  });

  it("names of a million dots and shapes of a million sizes", async () => {
    const start = performance.now();
    const dots = "a.".repeat(500_000);
    const named = memorySource(file(`{"${dots}":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}`));
    const opened = await checkpoint(named, { rename: { "b.": "" } });
    expect(checkWeights({ weights, accepts: [] }, opened)).toHaveLength(301);
    const sizes = Array.from({ length: 200_000 }, () => 2 ** 52).join(",");
    const shaped = memorySource(file(`{"x":{"dtype":"F32","shape":[${sizes}],"data_offsets":[0,0]}}`));
    await expect(readHeader(shaped)).rejects.toThrow("has 200000 dimensions; at most 64 are read");
    expect(performance.now() - start).toBeLessThan(10_000);
  });
});
