/** The meanings, in f64, of everything in a LongNet block that is not attention. Rows are contiguous; weights as in a checkpoint. */
import type { Activation } from "../graph.ts";
import { erf } from "./erf.ts";

/** out[t] = weight[tokens[t]] · scale; tokens [rows], weight [vocab, dim] → [rows, dim]. */
export function embed(tokens: Float64Array, weight: Float64Array, dim: number, scale: number): Float64Array {
  const vocab = weight.length / dim;
  const out = new Float64Array(tokens.length * dim);
  tokens.forEach((token, t) => {
    if (!Number.isInteger(token) || token < 0 || token >= vocab)
      throw new Error(`heddle: token ${token} at index ${t} is outside the vocabulary of ${vocab}`);
    for (let d = 0; d < dim; d++) out[t * dim + d] = (weight[token * dim + d] ?? NaN) * scale;
  });
  return out;
}

/** x[b, n] + weight[n + first]; x [B, N, dim], weight [rows, dim]. fairseq's learned positions start at row 2. */
export function position(
  x: Float64Array,
  weight: Float64Array,
  N: number,
  dim: number,
  first: number,
): Float64Array {
  const rows = weight.length / dim;
  if (N + first > rows)
    throw new Error(`heddle: ${N} tokens need ${N + first} position rows; the model has ${rows}`);
  return x.map((value, at) => value + (weight[(at % (N * dim)) + first * dim] ?? NaN));
}

/** Layer norm of each row of width `weight.length`: biased variance, eps inside the root. */
export function norm(x: Float64Array, weight: Float64Array, bias: Float64Array, eps: number): Float64Array {
  const dim = weight.length;
  const out = new Float64Array(x.length);
  for (let from = 0; from < x.length; from += dim) {
    let sum = 0;
    for (let d = 0; d < dim; d++) sum += x[from + d] ?? NaN;
    const mean = sum / dim;
    let squares = 0;
    for (let d = 0; d < dim; d++) squares += ((x[from + d] ?? NaN) - mean) ** 2;
    const inverse = 1 / Math.sqrt(squares / dim + eps);
    for (let d = 0; d < dim; d++)
      out[from + d] = ((x[from + d] ?? NaN) - mean) * inverse * (weight[d] ?? NaN) + (bias[d] ?? NaN);
  }
  return out;
}

/** x Wᵀ + bias; x [rows, inputs], weight [outputs, inputs] → [rows, outputs]. */
export function linear(
  x: Float64Array,
  weight: Float64Array,
  bias: Float64Array | undefined,
  inputs: number,
  outputs: number,
): Float64Array {
  const rows = x.length / inputs;
  const out = new Float64Array(rows * outputs);
  for (let t = 0; t < rows; t++)
    for (let j = 0; j < outputs; j++) {
      let sum = bias === undefined ? 0 : (bias[j] ?? NaN);
      for (let k = 0; k < inputs; k++) sum += (x[t * inputs + k] ?? NaN) * (weight[j * inputs + k] ?? NaN);
      out[t * outputs + j] = sum;
    }
  return out;
}

const activations: { readonly [A in Activation]: (x: number) => number } = {
  gelu: (x) => 0.5 * x * (1 + erf(x * Math.SQRT1_2)),
  relu: (x) => Math.max(x, 0),
  swish: (x) => x / (1 + Math.exp(-x)),
};

export const activate = (x: Float64Array, activation: Activation): Float64Array =>
  x.map(activations[activation]);

/** x + alpha · residual. */
export const add = (x: Float64Array, residual: Float64Array, alpha: number): Float64Array =>
  x.map((value, at) => value + alpha * (residual[at] ?? NaN));
