// What is timed on a GPU. Plain JavaScript with JSDoc types; it imports the built dist/.
import { compileSpec, readSpec } from "../../dist/src/index.js";

const PAPER =
  "heads 12 head_dim 64 branches segments [2048, 4096, 8192, 16384, 32768] dilations [1, 2, 4, 6, 12]";
const GIGAPATH =
  "heads 16 head_dim 48 compat torchscale branches segments [1024, 5792, 32768, 185363, 1048576] dilations [1, 2, 4, 8, 16]";

/** @param {boolean} quick */
export const attentions = (quick) => {
  const shapes = quick
    ? [
        {
          name: "tiny",
          text: "heads 2 head_dim 32 branch segment 64 dilation 1 branch segment 128 dilation 2",
          lengths: [200],
        },
      ]
    : [
        { name: "paper_32k", text: PAPER, lengths: [32768, 131072, 1048576] },
        { name: "gigapath", text: GIGAPATH, lengths: [10000, 65536, 1048576] },
      ];
  /** Each shape at some lengths, under the planner's schedule or another. */
  const each = (dtypes, lengthsOf, schedules) =>
    shapes.flatMap(({ name, text, lengths }) =>
      dtypes.flatMap((dtype) =>
        [false, true].flatMap((causal) =>
          lengthsOf(lengths).flatMap((length) =>
            schedules.map((schedule) => ({
              name,
              text,
              dtype,
              causal,
              length,
              ...(schedule === null ? {} : { schedule }),
            })),
          ),
        ),
      ),
    );
  // Both forms of annulus, on matrix units and in f32, where launches are short enough for their ends to count.
  const short = (lengths) => (quick ? lengths : lengths.slice(0, 2));
  return [
    ...each(["f16", "bf16"], (lengths) => lengths, [null]),
    ...each(["bf16", "f32"], short, ["annulus", "annulus_list"]),
  ];
};

/** @param {{ text: string, dtype: string, causal: boolean, length: number, schedule?: string }} work */
export function compiled({ text, dtype, causal, length, schedule }) {
  const { spec, diagnostics } = readSpec(`attention timed { dtype ${dtype} causal ${causal} ${text} }`);
  if (spec === null) throw new Error(diagnostics.map((d) => d.message).join("\n"));
  const [program] = compileSpec(spec, {
    target: "cuda",
    length,
    ...(schedule === undefined ? {} : { schedule }),
  });
  const [attention] = spec.attentions;
  if (program === undefined || attention === undefined) throw new Error("nothing was compiled");
  return { program: program.program, attention };
}

/** Numbers of no pattern between -1 and 1; a long array repeats a block of a prime length. @param {number} length @param {number} seed */
export function noise(length, seed) {
  const block = new Float32Array(Math.min(length, 1_000_003));
  let state = Math.imul(seed, 2654435761) + 12345;
  for (let i = 0; i < block.length; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) | 0;
    block[i] = (state >>> 8) / (1 << 23) - 1;
  }
  const all = new Float32Array(length);
  for (let at = 0; at < length; at += block.length)
    all.set(block.subarray(0, Math.min(block.length, length - at)), at);
  return all;
}

/** @param {{ heads: number, kvHeads: number, headDim: number }} attention @param {number} N */
export const inputsOf = ({ heads, kvHeads, headDim }, N) => ({
  q: noise(N * heads * headDim, 1),
  k: noise(N * kvHeads * headDim, 2),
  v: noise(N * kvHeads * headDim, 3),
});

/** CUDA as the command line opens it. @param {object} options */
export async function openDevice(options = {}) {
  const { cudaDevice } = await import("../../dist/runtime/cuda.js");
  const { HEDDLE_LIBCUDA: driver, HEDDLE_LIBCUBLASLT: cublasLt, HEDDLE_CACHE: cache } = process.env;
  return cudaDevice({
    ...(driver === undefined || driver === "" ? {} : { driver }),
    ...(cublasLt === undefined || cublasLt === "" ? {} : { cublasLt }),
    ...(cache === undefined ? {} : { build: { cache } }),
    ...options,
  });
}
