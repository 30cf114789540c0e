/** Weights in Chromium: by range with kept ranges in the page's own file system, over a reload; and of chosen files. */
import { afterAll, beforeAll, beforeEach, describe, expect, it } from "vitest";
import type { Page } from "playwright-core";
import { WINDOW } from "../../runtime/sources/windows.ts";
import { missing } from "../webgpu/require.ts";
import { chromiumMissing, openChromium, type Chromium } from "./chromium.ts";

const absent = chromiumMissing();
if (absent !== null) missing("chromium", absent);

const size = 2 * WINDOW + 12_345;
const bytes = Uint8Array.from({ length: size }, (_x, i) => (i * 7 + (i >> 9)) & 255);
const windows = [
  [0, WINDOW],
  [WINDOW, 2 * WINDOW],
  [2 * WINDOW, size],
];
const sum = bytes.reduce((total, byte, i) => (total + byte * (i % 65_521)) % 2 ** 40, 0);

describe.skipIf(absent !== null)("in a page", { timeout: 120_000 }, () => {
  let browser: Chromium;
  let page: Page;
  let complaints: readonly string[];
  let asked: (readonly number[])[] = [];
  let etag = '"one"';
  beforeAll(async () => {
    browser = await openChromium();
    const headers = { "Cross-Origin-Embedder-Policy": "require-corp" };
    ({ page, complaints } = await browser.open("test/browser/page/", {
      before: async (made) => {
        const nothing = { body: "", contentType: "text/javascript", headers };
        await made.route("**/page/tasks.js", (r) => r.fulfill(nothing));
        await made.route("**/weights.bin", (r) => {
          const [, from = "", last = ""] =
            /^bytes=(\d+)-(\d+)$/.exec(r.request().headers()["range"] ?? "") ?? [];
          const [start, end] = [Number(from), Math.min(size, Number(last) + 1)];
          asked.push([start, end]);
          const range = { "Content-Range": `bytes ${start}-${end - 1}/${size}`, ETag: etag };
          return r.fulfill({ status: 206, headers: range, body: Buffer.from(bytes.subarray(start, end)) });
        });
      },
    }));
  });
  afterAll(() => browser?.close());
  beforeEach(() => {
    asked = [];
  });

  /** Runs statements that may use what `heddle/runtime/sources` exports as `s`. */
  const inPage = <T>(body: string) =>
    page.evaluate<T>(`import("/dist/runtime/sources.js").then(async (s) => { ${body} })`);
  /** Reads all of it through the cache, after a reload; returns a sum of its bytes. */
  const load = async () => {
    await page.reload();
    return inPage<number>(`
      const source = await s.urlSource("weights.bin", { cache: s.opfsCache("test") });
      let total = 0;
      for (let at = 0; at < source.size; at += 1 << 20) {
        const part = await source.read(at, Math.min(source.size, at + (1 << 20)), { until: source.size });
        part.forEach((byte, i) => (total = (total + byte * ((at + i) % 65521)) % 2 ** 40));
      }
      return total;`);
  };
  /** The folder of the only version of the only file in the cache. */
  const folder = `
    const all = await (await navigator.storage.getDirectory()).getDirectoryHandle("test");
    const [file] = await Array.fromAsync(all.values());
    const versions = await Array.fromAsync(file.values());
    const ranges = async () => (await Array.fromAsync(versions[0].keys())).sort();`;

  it("goes on after a reload with what is kept, fetches what was damaged or evicted, and forgets other versions", async () => {
    expect(await load()).toBe(sum);
    expect(asked.slice(1)).toEqual(windows);
    expect(await inPage(`${folder} return [versions.length, ...(await ranges())];`)).toEqual([
      1,
      ...windows.map(([start, end]) => `${start}-${end}`).sort(),
    ]);

    asked = [];
    expect(await load()).toBe(sum);
    expect(asked).toEqual([[0, 65_536]]);

    await inPage(`${folder}
      const writable = await (await versions[0].getFileHandle("0-${WINDOW}")).createWritable({ keepExistingData: true });
      await writable.write({ type: "write", position: 1000, data: "damaged" });
      await writable.close();
      await versions[0].removeEntry("${2 * WINDOW}-${size}");`);
    asked = [];
    expect(await load()).toBe(sum);
    expect(asked.slice(1)).toEqual([windows[0], windows[2]]);

    etag = '"two"';
    asked = [];
    expect(await load()).toBe(sum);
    expect(asked.slice(1)).toEqual(windows);
    expect(await inPage(`${folder} return versions.length;`)).toBe(1);
    await inPage(`await s.clearOpfsCache("test");`);
    asked = [];
    expect(await load()).toBe(sum);
    expect(asked.slice(1)).toEqual(windows);
    expect(complaints).toEqual([]);
  });

  it("reads chosen files by range: one, and an index with its shards", async () => {
    const found = await inPage<readonly string[]>(`
      const { readTensor } = await import("/dist/runtime/index.js");
      const f32 = (name, ...values) => ({ name, dtype: "F32", shape: [values.length], data: Float32Array.from(values) });
      const shard = (name, ...tensors) => new File([s.writeSafetensors(tensors)], name);
      const index = { weight_map: { x: "1.safetensors", y: "2.safetensors" } };
      const chosen = [
        new File([JSON.stringify(index)], "m.safetensors.index.json"),
        shard("2.safetensors", f32("y", 3)),
        shard("1.safetensors", f32("x", 1, 2)),
      ];
      const shown = async ({ tensors }) => {
        const lines = [];
        for (const [name, t] of tensors) lines.push(name + "=" + (await readTensor(t.source, t)).join());
        return lines;
      };
      return [
        ...(await shown(await s.fileListCheckpoint(chosen))),
        ...(await shown(await s.fileListCheckpoint(chosen.slice(2), { rename: { x: "z" } }))),
        await s.fileListCheckpoint(chosen.slice(0, 2)).catch((e) => e.code),
      ];`);
    expect(found).toEqual(["x=1,2", "y=3", "z=1,2", "index"]);
    expect(complaints).toEqual([]);
  });
});
