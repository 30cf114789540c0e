// What is measured. Attentions are written in heddle's own language; the baselines get the checked shapes.

/** The paper's 32k model: segments clip to the length, so at 4096 every branch but the first sees the whole sequence. */
const paper = (/** @type {string} */ name, /** @type {boolean} */ causal) => `
attention ${name} {
  heads     12
  head_dim  64
  causal    ${causal}
  branch    segment 2048   dilation 1
  branch    segment 4096   dilation 2
  branch    segment 8192   dilation 4
  branch    segment 16384  dilation 6
  branch    segment 32768  dilation 12
  offset    head % dilation
}
`;

export const text = `${paper("paper_32k", false)}${paper("paper_32k_causal", true)}
// Prov-GigaPath's slide encoder. At 4096 tokens nothing is padded or shifted, so the baseline means the same.
attention gigapath {
  heads     16
  head_dim  48
  branches  segments [1024, 5792, 32768, 185363, 1048576]  dilations [1, 2, 4, 8, 16]
  compat    torchscale
}
`;

/** @type {readonly { name: string, length: number, quick: boolean }[]} */
export const attentions = [
  { name: "paper_32k", length: 4096, quick: true },
  { name: "paper_32k_causal", length: 4096, quick: true },
  { name: "paper_32k", length: 8192, quick: false },
  { name: "paper_32k_causal", length: 8192, quick: false },
  { name: "gigapath", length: 4096, quick: false },
];

/** rows × depth → cols: out[rows, cols] = x[rows, depth] Wᵀ + bias */
export const linears = [
  { rows: 2048, depth: 256, cols: 1024, quick: true },
  { rows: 2048, depth: 1024, cols: 256, quick: false },
  { rows: 1024, depth: 768, cols: 3072, quick: false },
];

/** Tokens of the whole model's forward pass. */
export const modelLength = 2048;

/**
 * The baseline ends ragged segments and never shifts rows. Where torchscale's padding or scatter would differ (semantics.md
 * 1.1, 1.2) the comparison would not be of like with like.
 * @param {{ padding: string, align: string, causal: boolean, branches: readonly { segment: number, dilation: number }[] }} spec
 * @param {number} length
 */
export function baselineMeansTheSame(spec, length) {
  return spec.branches.every(({ segment, dilation }) => {
    const g = Math.min(segment, length);
    const padded = spec.padding === "zero" && !spec.causal && (length % g !== 0 || g % dilation !== 0);
    const shifted = spec.align === "ceil" && g < length && g % dilation !== 0;
    return !padded && !shifted;
  });
}

/**
 * Floating-point operations of an attention by the count of perf.md: 4 · headDim for each attended (query, key) pair of the
 * multiset, whether or not an implementation folds the duplicates.
 * @param {bigint} pairs @param {number} headDim
 */
export const attentionFlops = (pairs, headDim) => 4 * headDim * Number(pairs);

/**
 * Of a decoder's forward pass: its matrix products and its attentions; norms, activations and softmax are not counted.
 * @param {{ dim: number, layers: number, vocab: number, ffn: { dim: number }, attention: { headDim: number } }} model
 * @param {number} length @param {bigint} pairs of one layer
 */
export const modelFlops = (model, length, pairs) =>
  model.layers *
    (2 * length * (4 * model.dim ** 2 + 2 * model.dim * model.ffn.dim) +
      attentionFlops(pairs, model.attention.headDim)) +
  2 * length * model.dim * model.vocab;
