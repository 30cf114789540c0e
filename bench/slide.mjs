// A whole slide through an encoder of Prov-GigaPath's shape with random weights: time, memory, chunks beside the whole.
//   node bench/slide.mjs --tiles 10000 --preset gigapath [--whole] [--device wasm|webgpu] [--threads 2]
//   node bench/slide.mjs --tiles 10000 --maps: and the relevance of all tiles, through all layers
import { readFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { compileSpec, modelDefinition, readSpec } from "../dist/src/index.js";
import { model } from "../dist/runtime/index.js";
import { attentionMaps } from "../dist/runtime/maps.js";
import { vulkanDrivers } from "../dist/runtime/node.js";
import { presets } from "../dist/src/cli/presets.js";
import { writeSafetensors } from "../dist/runtime/sources.js";
import { memorySource } from "../dist/runtime/index.js";
import { uniform } from "./random.mjs";

const { values: o } = parseArgs({
  options: {
    tiles: { type: "string", default: "10000" },
    preset: { type: "string", default: "gigapath" },
    device: { type: "string", default: "wasm" },
    threads: { type: "string" },
    whole: { type: "boolean", default: false },
    maps: { type: "boolean", default: false },
  },
});
const tiles = Number(o.tiles);
const text = presets.find((p) => p.name === o.preset)?.text;
const [spec, found] = [readSpec(text ?? "").spec, readSpec(text ?? "").spec?.models[0]];
if (spec === null || found === undefined) throw new Error(`no preset '${o.preset}'`);
const next = uniform(1);
const numbers = (/** @type {number} */ count, /** @type {number} */ scale) => {
  const all = new Float32Array(count);
  for (let i = 0; i < count; i++) all[i] = (next() - 0.5) * 2 * scale;
  return all;
};

const [compiled] = compileSpec(spec, {
  target: o.device === "wasm" ? "wasm" : "wgsl",
  names: [found.name],
  length: tiles + 1,
  ...(o.whole ? { chunk: null } : {}),
  ...(o.maps ? { maps: true } : {}),
});
const { plan } = compiled.program;
// Xavier, as Prov-GigaPath begins; norms near 1.
const tensors = [...new Map(plan.weights.map((w) => [w.name, w])).values()].map(({ name, shape }) => {
  const count = shape.reduce((a, b) => a * b, 1);
  const [out = 1, ins = 1] = shape;
  const data = numbers(count, shape.length === 1 ? 0.1 : Math.sqrt(6 / (out + ins)));
  if (shape.length === 1 && name.endsWith(".weight")) data.forEach((x, i) => (data[i] = 1 + x));
  return { name, dtype: /** @type {"F32"} */ ("F32"), shape, data };
});
const options = {
  weights: memorySource(writeSafetensors(tensors)),
  device: /** @type {"wasm" | "webgpu"} */ (o.device),
  webgpu: { drivers: vulkanDrivers },
  ...(o.threads === undefined ? {} : { threads: Number(o.threads) }),
};
const definition = { ...modelDefinition(found), program: compiled.program };
tensors.length = 0;
const features = numbers(tiles * (found.patchEmbed ?? found.dim), 1);
const coords = new Float32Array(2 * tiles);
const side = Math.ceil(Math.sqrt(tiles));
for (let i = 0; i < tiles; i++) coords.set([(i % side) * 256, Math.floor(i / side) * 256], 2 * i);

const gib = (/** @type {number} */ bytes) => `${(bytes / 2 ** 30).toFixed(2)} GiB`;
const peakBytes = () =>
  Number(/VmHWM:\s+(\d+) kB/.exec(readFileSync("/proc/self/status", "utf8"))?.[1] ?? NaN) * 1024;
if (o.maps) {
  const { maps } = compiled;
  if (maps === undefined) throw new Error("no maps");
  const session = await attentionMaps({ ...definition, maps }, options);
  const start = performance.now();
  const map = await session.read(features, { length: tiles, coords });
  const read = performance.now();
  const relevance = await map.relevance();
  const followed = performance.now();
  const { tokens } = map.attentionOf("class", found.layers - 1);
  const asked = performance.now();
  console.log(
    `${o.preset}, ${tiles.toLocaleString("en")} tiles, ${session.device}: pass ${((read - start) / 1000).toFixed(1)} s, relevance ` +
      `${((followed - read) / 1000).toFixed(1)} s (sum ${relevance.reduce((a, b) => a + b, 0).toFixed(4)}), the class token's ` +
      `attention in the last layer ${(asked - followed).toFixed(1)} ms (${tokens.length} tiles), peak of the process ${gib(peakBytes())}`,
  );
  session.dispose();
  process.exit(0);
}
const session = await model(definition).create(options);
const start = performance.now();
const { out, states } = await session.forward(features, { length: tiles, coords });
const seconds = (performance.now() - start) / 1000;
const peak = peakBytes();
const memory = session.memory({ length: tiles });
let hash = 2166136261;
for (const x of new Uint32Array((states ?? out).buffer)) hash = Math.imul(hash ^ x, 16777619) >>> 0;
console.log(
  `${o.preset}, ${tiles.toLocaleString("en")} tiles, ${o.whole ? "whole" : "in chunks"}, ${session.device}: ` +
    `${seconds.toFixed(1)} s, peak of the process ${gib(peak)}, planned ${gib(memory.total)} ` +
    `(weights ${gib(memory.weights)}, between the steps ${gib(memory.activations)}), bits ${hash.toString(16)}`,
);
session.dispose();
