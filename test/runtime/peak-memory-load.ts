/**
 * Run by peak-memory.test.ts: loads a checkpoint into nothing, and prints what that took beyond what the process had. Without tensors it
 * fetches the same bytes with nothing but `fetch`: what Node itself takes for that.
 */
import { fileCheckpoint } from "../../runtime/node.ts";
import { memorySource, writeSafetensors } from "../../runtime/safetensors.ts";
import { urlCheckpoint } from "../../runtime/sources.ts";
import type { Checkpoint } from "../../runtime/sources.ts";
import { WINDOW } from "../../runtime/sources/windows.ts";
import { loadWeights } from "../../runtime/weights.ts";

const [, , source = "", list = "[]"] = process.argv;
const tensors = JSON.parse(list) as readonly { readonly name: string; readonly shape: readonly number[] }[];
const weights = tensors.map(({ name, shape }) => ({
  name,
  shape,
  layout: shape.length === 2 ? ("panels" as const) : ("rows" as const),
}));

async function load(checkpoint: Checkpoint): Promise<number> {
  let elements = 0;
  await loadWeights({ weights, accepts: [] }, checkpoint, (_index, data, { shape }) => {
    elements += shape.reduce((product, dim) => product * dim, 1);
    for (let i = 0; i < data.length; i += 997) if (data[i] !== 0) throw new Error("the file holds zeros");
  });
  return elements;
}

/** The same bytes, two requests at a time, as the loader has. */
async function bare(): Promise<number> {
  const size = Number((await range(0, 1)).headers.get("content-range")?.split("/")[1]);
  for (let at = 0; at < size; at += 2 * WINDOW)
    await Promise.all(
      [at, at + WINDOW]
        .filter((start) => start < size)
        .map(async (start) => {
          const reader = (await range(start, Math.min(size, start + WINDOW))).body?.getReader();
          while (reader !== undefined && !(await reader.read()).done);
        }),
    );
  return size;
}
const range = (start: number, end: number) =>
  fetch(source, { headers: { Range: `bytes=${start}-${end - 1}` } });

// The process with the loader in it, its code warm and the checkpoint open.
const data = new Float32Array(8);
const one = memorySource(writeSafetensors([{ name: "x", dtype: "F32", shape: [2, 4], data }]));
await loadWeights(
  { weights: [{ name: "x", shape: [2, 4], layout: "panels" }], accepts: [] },
  one,
  () => undefined,
);
const checkpoint = await (source.startsWith("http") ? urlCheckpoint(source) : fileCheckpoint(source));
const before = process.resourceUsage().maxRSS;

const start = performance.now();
const done = tensors.length === 0 ? await bare() : await load(checkpoint);
const seconds = (performance.now() - start) / 1000;
console.log(JSON.stringify({ done, seconds, peak: 1024 * (process.resourceUsage().maxRSS - before) }));
process.exit(0);
