/** Loss in bits: how many bits a model needs for each token, given what stands before it in its window. */

/**
 * −log₂ p(target) for each row of logits [rows, vocab], the softmax in f64. A token that the model holds impossible
 * costs Infinity.
 */
export function bitsOf(logits: Float32Array, vocab: number, targets: ArrayLike<number>): Float64Array {
  const bits = new Float64Array(targets.length);
  for (let i = 0; i < targets.length; i++) {
    const row = logits.subarray(i * vocab, (i + 1) * vocab);
    let top = -Infinity;
    for (const x of row) top = Math.max(top, x);
    let sum = 0;
    for (const x of row) sum += Math.exp(x - top);
    bits[i] = (Math.log(sum) + top - (row[targets[i] ?? 0] ?? NaN)) / Math.LN2;
  }
  return bits;
}

export type Window = {
  /** Tokens that are read: [start, end). Those predicted are one further on: [start + 1, end + 1). */
  readonly start: number;
  readonly end: number;
};

/**
 * Consecutive windows over `count` tokens: window i reads tokens iW … iW+W−1 and predicts iW+1 … iW+W. The last one is
 * shorter, so every token but the first is predicted exactly once.
 */
export function windowsOf(count: number, window: number): readonly Window[] {
  const windows: Window[] = [];
  for (let start = 0; start < count - 1; start += window)
    windows.push({ start, end: Math.min(start + window, count - 1) });
  return windows;
}

export type Bits = {
  /** Mean over all predicted tokens. */
  readonly mean: number;
  /** Mean of each window, in order. */
  readonly windows: Float64Array;
  /** Of tokens 1 … count−1. */
  readonly tokens: Float64Array;
};

/**
 * Loss of one sequence of tokens, window by window. `logitsOf` gives the logits [length, vocab] of a window from its own
 * tokens only. Throws when there is nothing to predict.
 */
export async function bitsOver(
  tokens: Int32Array,
  vocab: number,
  window: number,
  logitsOf: (tokens: Int32Array) => Promise<Float32Array>,
  progress?: (done: number, of: number) => void,
): Promise<Bits> {
  const all = windowsOf(tokens.length, window);
  const bits = new Float64Array(Math.max(0, tokens.length - 1));
  const means = new Float64Array(all.length);
  for (const [i, { start, end }] of all.entries()) {
    const logits = await logitsOf(tokens.subarray(start, end));
    const part = bitsOf(logits, vocab, tokens.subarray(start + 1, end + 1));
    bits.set(part, start);
    means[i] = mean(part);
    progress?.(i + 1, all.length);
  }
  return { mean: mean(bits), windows: means, tokens: bits };
}

const mean = (values: Float64Array): number => values.reduce((sum, x) => sum + x, 0) / values.length;
