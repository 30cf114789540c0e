/** Embedding a generated module: `jargon.generated.ts` was made from jargon.heddle and imports only `heddle/runtime`. */
import { fileURLToPath } from "node:url";
import { fileSource } from "heddle/runtime/node";
import { jargon, small } from "./jargon.generated.ts";

const checkpoint = await fileSource(
  fileURLToPath(new URL("../../examples/jargon/jargon.safetensors", import.meta.url)),
);
const session = await jargon.create({ weights: checkpoint });
await checkpoint.close();

// A model's tokens are plain integers; here bytes. Greedy decoding reads the whole text again for every byte.
const prompt = process.argv[2] ?? "hacker: n. ";
const text = [...new TextEncoder().encode(prompt)];
for (let i = 0; i < 40; i++) {
  const { logits } = await session.forward(text);
  const last = logits.subarray((text.length - 1) * jargon.vocab);
  text.push(last.indexOf(Math.max(...last)));
}
console.log(new TextDecoder().decode(Uint8Array.from(text)));
session.dispose();

// An attention alone, on any q, k, v: heads and head widths are part of the type.
const length = 600;
const width: number = length * small.heads * small.headDim;
const wave = (step: number) => Float32Array.from({ length: width }, (_, i) => Math.sin(i * step));
const attention = await small.create();
const { out, lse } = await attention.run({ q: wave(0.1), k: wave(0.2), v: wave(0.3), length });
console.log(`${small.name}: out of ${out.length} numbers, lse of ${lse.length}; ${attention.device}`);
attention.dispose();
