// What is measured on WebGPU: attentions in heddle's own language, linear layers by their sizes. A processor that plays GPU takes the
// shorter lengths, so that a run ends within minutes.

/** @param {string} name @param {boolean} causal */
const dense = (name, causal) => `
attention ${name} {
  heads     4
  head_dim  64
  causal    ${causal}
  branch    segment all  dilation 1
}
`;

/** @param {string} name @param {boolean} causal */
const paper = (name, causal) => `
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

export const text = `${dense("dense", false)}${dense("dense_causal", true)}
${paper("paper_32k", false)}${paper("paper_32k_causal", true)}
attention gigapath {
  heads     16
  head_dim  48
  branches  segments [1024, 5792, 32768, 185363, 1048576]  dilations [1, 2, 4, 8, 16]
  compat    torchscale
}
`;

/** @typedef {{ software: number, gpu: number }} Sizes lengths (rows) for a software device, and for a GPU */
/** @type {readonly { name: string, length: Sizes, quick: boolean }[]} */
export const attentions = [
  { name: "dense", length: { software: 2048, gpu: 16384 }, quick: true },
  { name: "dense_causal", length: { software: 2048, gpu: 16384 }, quick: true },
  { name: "paper_32k", length: { software: 1024, gpu: 65536 }, quick: false },
  { name: "paper_32k_causal", length: { software: 1024, gpu: 65536 }, quick: false },
  // Below the second segment and a multiple of the first nothing is padded, which the hand-written kernel cannot do.
  { name: "gigapath", length: { software: 1024, gpu: 4096 }, quick: false },
];

/** @type {readonly { rows: Sizes, depth: number, cols: number, quick: boolean }[]} */
export const linears = [
  { rows: { software: 1024, gpu: 65536 }, depth: 256, cols: 1024, quick: true },
  { rows: { software: 1024, gpu: 65536 }, depth: 768, cols: 3072, quick: false },
];
