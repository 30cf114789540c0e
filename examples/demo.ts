/**
 * The main job on real input: a spec compiled, a trained LongNet loaded, the held-out text of the Jargon File read by it, and
 * the figure that torchscale got for the same weights beside ours. In the end it continues a long text, over a cache that does not grow.
 */
import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { compileSpec, modelDefinition, readSpec, render } from "heddle";
import { model } from "heddle/runtime";
import { generation } from "heddle/runtime/generate";
import { fileSource } from "heddle/runtime/node";

// This file runs from dist/examples; the data lies in examples/.
const examples = new URL("../../examples/", import.meta.url);
const path = (name: string) => fileURLToPath(new URL(name, examples));
const KiB = (bytes: number) => `${(bytes / 1024).toFixed(1)} KiB`;
const MiB = (bytes: number) => `${(bytes / 2 ** 20).toFixed(1)} MiB`;
const say = (line = "") => console.log(line);
const progress = (text: string) => {
  if (process.stderr.isTTY) process.stderr.write(`\r\x1b[2K${text}`);
};

type Manifest = {
  readonly bits_per_byte: number;
  readonly window: number;
  readonly held_out_from_byte: number;
};
const manifest = JSON.parse(await readFile(path("jargon/manifest.json"), "utf8")) as Manifest;
const text = await readFile(path("jargon/jargon.txt"));
const source = await readFile(path("jargon.heddle"), "utf8");

const { spec, diagnostics } = readSpec(source, "examples/jargon.heddle");
if (spec === null) throw new Error(render(diagnostics, { file: "examples/jargon.heddle", text: source }));
const start = performance.now();
const compiled = compileSpec(spec, { target: "wasm", names: ["jargon"], generate: true })[0];
if (compiled?.item.kind !== "model") throw new Error("examples/jargon.heddle holds no model 'jargon'");
const { plan } = compiled.program;
say("heddle: examples/jargon.heddle → WebAssembly");
say(
  `  compiled in ${(performance.now() - start).toFixed(0)} ms: ${plan.kernels.length} kernels, ` +
    `${KiB(compiled.stats.bytes.base)} of SIMD128 and ${KiB(compiled.stats.bytes.relaxed)} with relaxed SIMD`,
);
for (const variant of plan.variants)
  say(
    `  ${variant.upTo === null ? "any length" : `up to ${variant.upTo} tokens`}: ${variant.steps.length} steps, attention by '${variant.schedule}'`,
  );
for (const kernel of plan.kernels)
  say(`    ${kernel.entry.padEnd(36)} tiles ${KiB(kernel.sharedBytes).padStart(9)}`);

const checkpoint = await fileSource(path("jargon/jargon.safetensors"));
const loading = performance.now();
const definition = { ...modelDefinition(compiled.item.spec), program: compiled.program };
const jargon = await model(definition).create({ weights: checkpoint });
const parameters = plan.weights.reduce((n, w) => n + w.shape.reduce((a, b) => a * b, 1), 0);
say();
say(
  `loaded ${(parameters / 1e6).toFixed(2)} M parameters in ${(performance.now() - loading).toFixed(0)} ms; ${jargon.device}`,
);

const heldOut = text.subarray(manifest.held_out_from_byte);
const reading = performance.now();
const bits = await jargon.bits(heldOut, {
  window: manifest.window,
  progress: (done, of) => progress(`reading the held-out text: window ${done} of ${of}`),
});
const seconds = (performance.now() - reading) / 1000;
progress("");
say();
say(`held-out text, ${heldOut.length - 1} bytes predicted in windows of ${manifest.window}:`);
say(`  heddle      ${bits.mean.toFixed(5)} bits per byte`);
say(
  `  torchscale  ${manifest.bits_per_byte.toFixed(5)} bits per byte (difference ${(bits.mean - manifest.bits_per_byte).toExponential(1)})`,
);
say(
  `  ${(heldOut.length / seconds).toFixed(0)} tokens per second over ${seconds.toFixed(1)} s; ` +
    `peak memory of the process ${MiB(process.resourceUsage().maxRSS * 1024)}, ` +
    `of the model ${MiB(jargon.memory({ length: manifest.window }).total)}`,
);

say();
for (const prompt of [
  "The hacker ethic is the belief that information-shari",
  ":foo: /foo/ 1. interj. Term of disgus",
  "A UNIX wizar",
]) {
  const bytes = new TextEncoder().encode(prompt);
  const { logits } = (await jargon.forward(bytes)) as { readonly logits: Float32Array };
  const last = logits.subarray((bytes.length - 1) * 256);
  const top = Math.max(...last);
  const sum = last.reduce((s, x) => s + Math.exp(x - top), 0);
  const best = [...last]
    .map((x, byte) => ({ byte, p: Math.exp(x - top) / sum }))
    .sort((a, b) => b.p - a.p)
    .slice(0, 5);
  const shown = best.map(
    ({ byte, p }) => `${JSON.stringify(String.fromCharCode(byte))} ${(100 * p).toFixed(1)} %`,
  );
  say(`${JSON.stringify(prompt)} → ${shown.join("  ")}`);
}
jargon.dispose();

const session = await generation(definition, { weights: checkpoint });
await checkpoint.close();
// To the end of a line, so that something new begins.
const end = heldOut.indexOf(10, 16_384) + 1;
const prompt = [...heldOut.subarray(0, end)];
const asked = performance.now();
let [answer, tokens, first] = ["", 0, 0];
for await (const part of session.generate(prompt, { maxTokens: 400, temperature: 0.6, seed: 1 })) {
  if (tokens++ === 0) first = performance.now();
  answer += part.text;
}
const said = performance.now();
const cache = session.cache();
session.dispose();
const tail = new TextDecoder().decode(Uint8Array.from(prompt.slice(-160)));
say();
say(`after ${prompt.length} bytes of that text, read in ${((first - asked) / 1000).toFixed(1)} s:`);
for (const line of `…${tail}⟶${answer}`.split("\n")) say(`  │ ${line}`);
say(
  `  ${(((tokens - 1) * 1000) / (said - first)).toFixed(0)} tokens per second; cache ${MiB(cache.bytes)} at any length, ` +
    `a dense one ${MiB(cache.dense)} by now`,
);

if (Math.abs(bits.mean - manifest.bits_per_byte) > 0.002) {
  say("The figure is further than 0.002 bits per byte from torchscale's.");
  process.exitCode = 1;
}
