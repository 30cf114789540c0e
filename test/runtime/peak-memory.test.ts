/** A checkpoint of 2 GiB over HTTP, in a process of its own, whose memory at its highest is measured. */
import { execFile } from "node:child_process";
import { mkdtemp, open, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { build } from "esbuild";
import { afterAll, beforeAll, expect, it } from "vitest";
import { onDisk, rangeServer } from "./range-server.ts";
import type { RangeServer } from "./range-server.ts";

const MiB = 2 ** 20;
const here = fileURLToPath(new URL(".", import.meta.url));

/** [rows, columns] as panels or rows, in F32 or F16; 2 GiB in all. The largest has 256 MiB as the numbers that a device is given. */
const tensors = [
  ...Array.from({ length: 4 }, (_x, i) => ({ name: `f32.${i}`, dtype: "F32", shape: [16_384, 4096] })),
  ...Array.from({ length: 8 }, (_x, i) => ({ name: `f16.${i}`, dtype: "F16", shape: [16_384, 4096] })),
  // Not a multiple of eight outputs: panels are larger than rows.
  { name: "odd", dtype: "F16", shape: [16_381, 4096] },
  ...Array.from({ length: 500 }, (_x, i) => ({ name: `small.${i}`, dtype: "F32", shape: [1000] })),
];
const bytesOf = ({ dtype, shape }: (typeof tensors)[number]) =>
  shape.reduce((product, dim) => product * dim, dtype === "F32" ? 4 : 2);
const LARGEST = 256 * MiB;

let folder: string;
let server: RangeServer;
let program: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "heddle-peak-"));
  const path = join(folder, "big.safetensors");
  let at = 0;
  const header = Object.fromEntries(
    tensors.map((tensor) => {
      const begin = at;
      at += bytesOf(tensor);
      return [tensor.name, { dtype: tensor.dtype, shape: tensor.shape, data_offsets: [begin, at] }];
    }),
  );
  const text = new TextEncoder().encode(JSON.stringify(header));
  const start = new Uint8Array(8 + text.length);
  new DataView(start.buffer).setBigUint64(0, BigInt(text.length), true);
  start.set(text, 8);
  const file = await open(path, "w");
  await file.write(start);
  await file.truncate(start.length + at);
  await file.close();
  expect(at).toBeGreaterThan(2 ** 31);
  server = await rangeServer({ "big.safetensors": await onDisk(path, { etag: '"big"' }) });
  program = join(folder, "load.mjs");
  await build({
    entryPoints: [join(here, "peak-memory-load.ts")],
    bundle: true,
    platform: "node",
    format: "esm",
    outfile: program,
  });
});
afterAll(async () => {
  await server?.close();
  await rm(folder, { recursive: true, force: true });
});

type Measured = { readonly done: number; readonly seconds: number; readonly peak: number };
/** Loads the tensors in a new process; none of them: fetches the same bytes without heddle. */
async function load(source: string, list: readonly (typeof tensors)[number][] = tensors): Promise<Measured> {
  const names = list.map(({ name, shape }) => ({ name, shape }));
  const { stdout } = await promisify(execFile)(process.execPath, [program, source, JSON.stringify(names)]);
  return JSON.parse(stdout) as Measured;
}
const all = tensors.reduce((sum, { shape }) => sum + shape.reduce((n, dim) => n * dim, 1), 0);
const inMiB = (bytes: number) => `${(bytes / MiB).toFixed(0)} MiB`;

it("2 GiB over HTTP take 64 MiB more than the largest tensor, and what Node takes to fetch them", async () => {
  const url = `${server.url}big.safetensors`;
  const bare = await load(url, []);
  const [sent, requests] = [server.sent(), server.asked.length];
  const { done, seconds, peak } = await load(url);
  console.log(
    `${inMiB(server.sent() - sent)} in ${server.asked.length - requests} requests and ${seconds.toFixed(1)} s: ` +
      `${inMiB(peak)} at most, ${inMiB(peak - LARGEST)} besides the largest tensor; ` +
      `fetch alone takes ${inMiB(bare.peak)} for the same bytes in ${bare.seconds.toFixed(1)} s`,
  );
  expect(done).toBe(all);
  expect(peak).toBeLessThanOrEqual(LARGEST + 64 * MiB + bare.peak);
  // And whatever Node takes, this is in reach of everyone.
  expect(peak).toBeLessThanOrEqual(LARGEST + 128 * MiB);
  // The tensor itself is there: what is measured is memory.
  expect(peak).toBeGreaterThan(LARGEST);
}, 120_000);

it("2 GiB from a file take 64 MiB more than the largest tensor", async () => {
  const { done, peak, seconds } = await load(join(folder, "big.safetensors"));
  console.log(`from a file, ${seconds.toFixed(1)} s: ${inMiB(peak - LARGEST)} besides the largest tensor`);
  expect(done).toBe(all);
  expect(peak).toBeLessThanOrEqual(LARGEST + 64 * MiB);
}, 120_000);
