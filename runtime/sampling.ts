/** From the logits of a token to a token: pure functions, so that the same numbers and the same state always choose the same token. */
import { inputError } from "./input-error.ts";
import { uniform } from "./random.ts";
import type { RandomState } from "./random.ts";

export type SamplingOptions = {
  /** Divides the logits. 0: the largest logit, of equal ones the lowest token. Default 1. */
  readonly temperature?: number;
  /** Only the k likeliest tokens are drawn from; of equal ones at the border the lower. Default: all. */
  readonly topK?: number;
  /** Only the likeliest tokens that together reach this probability are drawn from, one at least. Default 1: all. */
  readonly topP?: number;
  /** Logits of tokens that were there already are divided by this where positive, multiplied where negative (CTRL). Default 1: none. */
  readonly repetitionPenalty?: number;
};

/** @throws InputError naming the option that makes no sense. */
export function checkSampling(options: SamplingOptions): void {
  const { temperature = 1, topK, topP = 1, repetitionPenalty = 1 } = options;
  const check = (name: string, ok: boolean, wanted: string, found: number | undefined) => {
    if (!ok) throw inputError(`${name} must be ${wanted}, found ${found}`);
  };
  check("temperature", temperature >= 0 && temperature < Infinity, "a number from 0 on", temperature);
  check(
    "topK",
    topK === undefined || (Number.isInteger(topK) && topK >= 1),
    "a whole number from 1 on",
    topK,
  );
  check("topP", topP > 0 && topP <= 1, "above 0 and at most 1", topP);
  check(
    "repetitionPenalty",
    repetitionPenalty > 0 && repetitionPenalty < Infinity,
    "a number above 0",
    repetitionPenalty,
  );
}

/** Tokens in order of falling probability, of equal ones the lower first, with their probabilities, which sum to 1. */
export type Candidates = { readonly tokens: readonly number[]; readonly probabilities: readonly number[] };

/** Logits after the penalty; `seen` lists the tokens that were there. */
export function penalized(logits: Float32Array, seen: Iterable<number>, penalty: number): Float32Array {
  if (penalty === 1) return logits;
  const changed = logits.slice();
  for (const token of seen) {
    const x = logits[token];
    if (x !== undefined) changed[token] = x > 0 ? x / penalty : x * penalty;
  }
  return changed;
}

/** The token of the largest logit, the lowest of equal ones. @throws InputError where there is none. */
export function likeliest(logits: Float32Array): number {
  let best = -1;
  for (let i = 0; i < logits.length; i++) {
    const x = logits[i] ?? NaN;
    if (Number.isNaN(x)) throw inputError(`the logit of token ${i} is not a number`);
    if (x > -Infinity && (best < 0 || x > (logits[best] ?? 0))) best = i;
  }
  if (best < 0) throw inputError("no token is left to choose from: all logits are −∞");
  return best;
}

/** What is drawn from at a temperature above 0. @throws InputError where no token is left. */
export function candidatesOf(logits: Float32Array, options: SamplingOptions = {}): Candidates {
  const { temperature = 1, topK = Infinity, topP = 1 } = options;
  const most = logits[likeliest(logits)] ?? 0;
  // At +∞ differences are NaN: such tokens share everything.
  const weights = Float64Array.from(logits, (x) =>
    most === Infinity ? Number(x === Infinity) : Math.exp((x - most) / temperature),
  );
  const limit = Math.min(topK, weights.length);
  const total = (list: readonly number[]) => list.reduce((sum, token) => sum + (weights[token] ?? 0), 0);
  let tokens: readonly number[];
  if (topP < 1 && limit === weights.length) {
    // Mostly a few tokens suffice; sorting a whole vocabulary for them would cost more than a layer.
    const all = weights.reduce((sum, w) => sum + w, 0);
    let size = Math.min(64, limit);
    tokens = largest(weights, size);
    while (size < limit && total(tokens) < topP * all)
      tokens = largest(weights, (size = Math.min(8 * size, limit)));
    tokens = nucleus(tokens, weights, topP * all);
  } else {
    tokens = largest(weights, limit);
    if (topP < 1) tokens = nucleus(tokens, weights, topP * total(tokens));
  }
  const sum = total(tokens);
  return { tokens, probabilities: tokens.map((token) => (weights[token] ?? 0) / sum) };
}

/** The shortest beginning of a list whose weights reach `wanted`. */
function nucleus(tokens: readonly number[], weights: Float64Array, wanted: number): readonly number[] {
  let sum = 0;
  const end = tokens.findIndex((token) => (sum += weights[token] ?? 0) >= wanted);
  return end < 0 ? tokens : tokens.slice(0, end + 1);
}

/** The `count` indices of the largest weights above 0 (one at least), falling, the lower first of equal ones. */
function largest(weights: Float64Array, count: number): readonly number[] {
  const above = (a: number, b: number) => (weights[a] ?? 0) - (weights[b] ?? 0) || b - a;
  // A heap with the least of those kept on top.
  const heap: number[] = [];
  const sink = (from: number): void => {
    for (let at = from; ;) {
      const [left, right] = [2 * at + 1, 2 * at + 2];
      let least = at;
      for (const child of [left, right])
        if (child < heap.length && above(heap[child] ?? 0, heap[least] ?? 0) < 0) least = child;
      if (least === at) return;
      [heap[at], heap[least]] = [heap[least] ?? 0, heap[at] ?? 0];
      at = least;
    }
  };
  for (let i = 0; i < weights.length; i++) {
    if (weights[i] === 0) continue;
    if (heap.length < count) {
      heap.push(i);
      if (heap.length === count) for (let at = count >> 1; at >= 0; at--) sink(at);
    } else if (above(i, heap[0] ?? 0) > 0) {
      heap[0] = i;
      sink(0);
    }
  }
  return heap.sort((a, b) => above(b, a));
}

/**
 * The next token, and the state after it. `seen` lists the tokens that the repetition penalty counts. At temperature 0 nothing is drawn.
 * @throws InputError where a logit is no number or none is above −∞.
 */
export function sample(
  logits: Float32Array,
  options: SamplingOptions,
  state: RandomState,
  seen: Iterable<number> = [],
): { readonly token: number; readonly state: RandomState } {
  const { temperature = 1, repetitionPenalty = 1 } = options;
  const judged = penalized(logits, seen, repetitionPenalty);
  if (temperature === 0) return { token: likeliest(judged), state };
  const { tokens, probabilities } = candidatesOf(judged, options);
  const [drawn, after] = uniform(state);
  let sum = 0;
  const at = probabilities.findIndex((p) => (sum += p) > drawn);
  // Rounding may leave the sum a little below 1.
  return { token: tokens[at] ?? tokens[tokens.length - 1] ?? 0, state: after };
}
