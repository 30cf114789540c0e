/**
 * What a warp does as one, and copies that run beside the lanes: statements of kernels that only CUDA prints. They stand in
 * `Kernel<Warp>`, which no other target's emitter takes.
 *
 * Lanes 32w … 32w + 31 are a warp, which comes to each of these statements together. A lane keeps its parts of matrices in arrays of
 * registers (`Kernel.registers`): private to it, indexed by what is constant once loops with constant bounds are unrolled.
 *
 * Fragments, as PTX defines them, for lane t of a warp with g = ⌊t / 4⌋ and q = t mod 4. 16-bit numbers come two to a word, the
 * earlier one in its lower half:
 * - accumulator 16 × 8, four f32: (g, 2q), (g, 2q + 1), (g + 8, 2q), (g + 8, 2q + 1);
 * - left operand 16 × 16, four words of two columns each: (g, 2q), (g + 8, 2q), (g, 2q + 8), (g + 8, 2q + 8); 16 × 8: the first two;
 * - right operand 16 × 8, two words of two rows each: (2q, g), (2q + 8, g); 8 × 8: the first.
 */
import type { Expr, Type } from "./kernel.ts";

export type Half = "f16" | "bf16";

export type WarpOp =
  /** An 8 × 8 matrix, 2 or 4 of them, of 16-bit numbers: lane 8m + r names the row r of matrix m, lane t gets (g, 2q) and (g, 2q + 1). */
  | "ldmatrix_1"
  | "ldmatrix_2"
  | "ldmatrix_4"
  /** The same, transposed: lane t gets (2q, g) and (2q + 1, g). */
  | "ldmatrix_trans_1"
  | "ldmatrix_trans_2"
  | "ldmatrix_trans_4"
  /** accumulator += left · right, summed in f32, over 16 or 8 columns of the left. */
  | "mma_k16"
  | "mma_k8"
  /** 16 bytes from a buffer to shared memory, or as many zeros; seen by this lane after `wait`, by others after a barrier then. */
  | "copy_async"
  /** Ends a group of copies of this lane. */
  | "commit"
  /** Until at most `imm` groups of this lane are under way. */
  | "wait"
  /**
   * The lane's number, read anew: compilers keep what follows from a number that they know through whole loops, in registers that
   * accumulators need; what follows from this one is computed where it stands.
   */
  | "reread_lane"
  /** Two f32 as a word of two 16-bit numbers, to nearest even, and back. */
  | "pack"
  | "unpack"
  /** Two neighbours of a buffer, from an even index on. */
  | "load_pair"
  | "store_pair";

export type Place = { readonly array: string; readonly index: Expr };

export type Warp = {
  readonly s: "warp";
  readonly op: WarpOp;
  /** Of the 16-bit numbers, where they are computed with. */
  readonly dtype?: Half;
  /** Where it reads and writes, in the order of its row. */
  readonly places: readonly Place[];
  readonly values: readonly Expr[];
  readonly imm?: number;
};

type Memory = "registers" | "shared" | "buffer";
/** An operand in memory: what kind, how many elements from its index on, and of what. */
type Operand = {
  readonly memory: Memory;
  readonly verb: "read" | "write" | "change";
  readonly count: number;
  readonly type: "f32" | "i32" | "any";
};

const words = (count: number, verb: Operand["verb"]): Operand => ({
  memory: "registers",
  verb,
  count,
  type: "i32",
});
const numbers = (count: number, verb: Operand["verb"]): Operand => ({
  memory: "registers",
  verb,
  count,
  type: "f32",
});
const matrices = (count: number): readonly Operand[] => [
  words(count, "write"),
  { memory: "shared", verb: "read", count: 4, type: "i32" },
];
const buffer = (verb: Operand["verb"], count: number): Operand => ({
  memory: "buffer",
  verb,
  count,
  type: "any",
});

/** Places and values of every operation. `together`: all lanes of a warp must come. */
export const warpOps: {
  readonly [O in WarpOp]: {
    readonly places: readonly Operand[];
    readonly values: readonly Type[];
    readonly together: boolean;
  };
} = {
  ldmatrix_1: { places: matrices(1), values: [], together: true },
  ldmatrix_2: { places: matrices(2), values: [], together: true },
  ldmatrix_4: { places: matrices(4), values: [], together: true },
  ldmatrix_trans_1: { places: matrices(1), values: [], together: true },
  ldmatrix_trans_2: { places: matrices(2), values: [], together: true },
  ldmatrix_trans_4: { places: matrices(4), values: [], together: true },
  mma_k16: { places: [numbers(4, "change"), words(4, "read"), words(2, "read")], values: [], together: true },
  mma_k8: { places: [numbers(4, "change"), words(2, "read"), words(1, "read")], values: [], together: true },
  copy_async: {
    places: [{ memory: "shared", verb: "write", count: 4, type: "i32" }, buffer("read", 8)],
    values: ["bool"],
    together: false,
  },
  commit: { places: [], values: [], together: false },
  wait: { places: [], values: [], together: false },
  reread_lane: { places: [words(1, "write")], values: [], together: false },
  pack: { places: [words(1, "write")], values: ["f32", "f32"], together: false },
  unpack: { places: [numbers(2, "write")], values: ["i32"], together: false },
  load_pair: { places: [numbers(2, "write"), buffer("read", 2)], values: [], together: false },
  store_pair: { places: [buffer("write", 2)], values: ["f32", "f32"], together: false },
};
