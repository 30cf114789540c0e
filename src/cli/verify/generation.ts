/** A model's generation on a device: what a prompt and the steps behind it give, against the reference's forward pass. */
import { xposRows } from "../../../runtime/tables.ts";
import type { Decoding } from "../../../runtime/generate/decoding.ts";
import type { PlanDecoding } from "../../../runtime/plan.ts";
import type { Extent } from "./random.ts";

/** Steps behind each prompt at most. */
const STEPS = 4;

/** Logits [rows.length, vocab], and which rows of [B·N] they are of. */
export type Generated = { readonly logits: Float32Array; readonly rows: readonly number[] };

/**
 * Each of B sequences [B, N] in a lane of its own: the first ends with the last token, the others' prompts are shorter by a third and more, so
 * that they stand at other places. A prompt is read in one pass, without one where it has no token, and then all go on token by token together.
 */
export async function generated(
  decoding: Decoding,
  how: PlanDecoding,
  tokens: Int32Array,
  { N, B }: Extent,
): Promise<Generated> {
  const steps = Math.min(STEPS, N);
  const prompts = Array.from({ length: B }, (_, b) => Math.floor((N - steps) / (b + 1)));
  // Lanes need not be in the order of the batch.
  const lanes = prompts.map((_, b) => B - 1 - b);
  await decoding.reserve({ capacity: N, lanes: B });
  for (const [b, length] of prompts.entries())
    if (length > 0) {
      const place = Int32Array.of(0, lanes[b] ?? 0, N);
      const text = tokens.slice(b * N, b * N + length);
      await decoding.run("prefill", { tokens: text, place }, { N: length, B: 1 });
    }
  const parts: Float32Array[] = [];
  const rows: number[] = [];
  for (let step = 0; step < steps; step++) {
    const at = prompts.map((length) => length + step);
    const place = Int32Array.of(...at, ...lanes, ...lanes.map(() => N));
    const extent = { N: 1, B };
    if (how.moves.some((w) => at.some((t) => t > 0 && t % w === 0)))
      await decoding.run("promote", { place }, extent);
    const given = how.rows.map(({ input, table }) => [input, xposRows(table, B, (b) => at[b] ?? 0)] as const);
    const next = Int32Array.from(at, (t, b) => tokens[b * N + t] ?? 0);
    const { logits } = await decoding.run(
      "step",
      { tokens: next, place, ...Object.fromEntries(given) },
      extent,
    );
    if (!(logits instanceof Float32Array)) throw new Error("heddle: internal: a step gave no logits");
    parts.push(logits);
    rows.push(...at.map((t, b) => b * N + t));
  }
  const all = new Float32Array(parts.reduce((n, p) => n + p.length, 0));
  let end = 0;
  for (const part of parts) {
    all.set(part, end);
    end += part.length;
  }
  return { logits: all, rows };
}
