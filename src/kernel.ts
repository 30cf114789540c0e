/**
 * The kernel IR: one language for every target, from tiles to printable statements.
 *
 * Statements act, expressions only are. An expression is a pure DAG evaluated where the statement that holds it
 * stands; sharing is made explicit with `let`. Control flow stays structured and there is no phi: a value that leaves
 * a block goes through a `var`. This prints directly as WGSL, CUDA and WebAssembly.
 *
 * The stage is a type parameter. `Kernel<Tile>` may hold the six tile statements; `Kernel` cannot, and emitters take
 * `Kernel`, so printing a kernel that was not distributed does not compile.
 *
 * Semantics:
 * - `f32` arithmetic rounds to nearest even; `madd` may or may not round the product (targets differ), nothing else
 *   may be reassociated. No operation may produce or test NaN in a correct kernel.
 * - `i32` wraps; `div` and `rem` are only ever applied to a non-negative dividend and a positive divisor.
 * - comparisons give `bool` (scalar) or `boolx4` (x8, x16); `select(cond, yes, no)` evaluates both sides.
 * - Buffer and shared indices count elements of the array's own scalar type. A vector access `f32x4` at index i covers
 *   elements i … i+3 and needs no alignment.
 * - Every group of the grid runs `body` once, with `workgroup` lanes; `barrier` and `exchange` stand only in uniform control flow.
 *   Shared arrays are undefined at the start of a group.
 */

export type Scalar = "f32" | "i32" | "bool";
/** Lanes of a vector. Targets have the widths that their tables say: four lanes all of them, wider ones native code only. */
export type Width = 4 | 8 | 16;
export type Vector = `${Scalar}x${Width}`;
export type Type = Scalar | Vector;

// Storage types of buffers: loads widen to f32, stores round to nearest even. Formulas of N and B stay data.
export type { Dtype, Size } from "../runtime/plan.ts";
import type { Dtype } from "../runtime/plan.ts";

/**
 * Operations, each a row in every target's table. Lane-wise on vectors unless said.
 * - `splat` f32→f32x4 / i32→i32x4 or as wide as its type says; `sum`, `most` fold the lanes of an f32 vector to f32.
 * - `float` i32→f32; `int` f32→i32 towards zero; `bits` f32→i32 and `unbits` i32→f32 reinterpret.
 * - `round` to nearest even. `exp2`, `log2` (argument > 0) state their error where a target spells them.
 * - `shuffle` takes two f32 vectors of one width and `imm`: as many lane numbers, below twice the width.
 * - `lane` takes one f32 vector and `imm`: one lane number.
 * - `iota` i32 → i32x4: (x, x+1, x+2, x+3), or as wide as its type says.
 */
export type Op =
  | "add"
  | "sub"
  | "mul"
  | "div"
  | "rem"
  | "min"
  | "max"
  | "neg"
  | "abs"
  | "sqrt"
  | "floor"
  | "round"
  | "madd"
  | "exp2"
  | "log2"
  | "eq"
  | "ne"
  | "lt"
  | "le"
  | "gt"
  | "ge"
  | "and"
  | "or"
  | "xor"
  | "not"
  | "shl"
  | "shr"
  | "select"
  | "float"
  | "int"
  | "bits"
  | "unbits"
  | "splat"
  | "iota"
  | "shuffle"
  | "lane"
  | "sum"
  | "most";

export type Expr<Leaf = never> =
  | { readonly e: "const"; readonly type: Scalar; readonly value: number }
  | { readonly e: "ref"; readonly type: Type; readonly name: string }
  /** `group`: index of the group in the grid; `lane`: index inside the workgroup, 0 … workgroup−1. */
  | { readonly e: "builtin"; readonly type: "i32"; readonly name: "group" | "lane" }
  /** Reads a buffer, a table or a shared array. */
  | {
      readonly e: "load";
      readonly type: Type;
      readonly from: string;
      readonly index: Expr<Leaf>;
    }
  | {
      readonly e: "op";
      readonly type: Type;
      readonly op: Op;
      readonly args: readonly Expr<Leaf>[];
      readonly imm?: readonly number[];
    }
  | Leaf;

export type Stmt<Extra = never> =
  | { readonly s: "let"; readonly name: string; readonly value: Expr }
  | { readonly s: "var"; readonly name: string; readonly value: Expr }
  | { readonly s: "set"; readonly name: string; readonly value: Expr }
  | { readonly s: "store"; readonly to: string; readonly index: Expr; readonly value: Expr }
  /**
   * `name` runs from `from` while below `to` by the constant `step` > 0. `unroll` asks for expansion, `"late"` for that of the target's
   * own compiler; bounds must then be constants.
   */
  | {
      readonly s: "for";
      readonly name: string;
      readonly from: Expr;
      readonly to: Expr;
      readonly step: number;
      readonly unroll?: boolean | "late";
      readonly body: readonly Stmt<Extra>[];
    }
  | {
      readonly s: "if";
      readonly cond: Expr;
      readonly then: readonly Stmt<Extra>[];
      readonly else?: readonly Stmt<Extra>[];
    }
  | { readonly s: "barrier" }
  /**
   * Defines `name`, like `let`, as what lane (lane xor `mask`) has for `value` (f32 or f32x4) here. All lanes of the group must get
   * here together, and there is a multiple of four of them: lanes 4q … 4q + 3 exchange among themselves, so that any hardware that
   * runs four lanes as one can do it. It orders no memory.
   */
  | { readonly s: "exchange"; readonly name: string; readonly value: Expr; readonly mask: 1 | 2 }
  | { readonly s: "comment"; readonly text: string }
  | Extra;

export type Buffer = {
  readonly name: string;
  readonly dtype: Dtype;
  readonly access: "read" | "write" | "readwrite";
};
export type ScalarParam = { readonly name: string; readonly type: "i32" | "f32" };
/** Constants known at compile time, read with `load`. */
export type Table = {
  readonly name: string;
  readonly type: "i32" | "f32";
  readonly values: readonly number[];
};
/** Workgroup memory; on a CPU the scratch memory of one thread. `length` counts elements. */
export type Shared = { readonly name: string; readonly type: "f32" | "i32"; readonly length: number };
/** Bytes that a kernel declares for arrays: each starts at a multiple of 16. */
export const declaredBytes = (shared: readonly Shared[]): number =>
  shared.reduce((bytes, s) => bytes + 16 * Math.ceil(s.length / 4), 0);

export type Kernel<Extra = never> = {
  readonly name: string;
  readonly buffers: readonly Buffer[];
  readonly scalars: readonly ScalarParam[];
  readonly tables: readonly Table[];
  readonly shared: readonly Shared[];
  /** Arrays private to a lane, of kernels with warp statements (src/warp.ts). */
  readonly registers?: readonly Shared[];
  /** Lanes of a group. */
  readonly workgroup: number;
  readonly body: readonly Stmt<Extra>[];
};

// ---------------------------------------------------------------------------------------------------------------
// The tile stage

/** A dense f32 block of rows × cols, private to a group. A column vector has cols = 1, a row vector rows = 1. */
export type TileDecl = { readonly name: string; readonly rows: number; readonly cols: number };

/**
 * Rows of a buffer that form an arithmetic progression: row i (0 ≤ i < count) starts at element base + i·stride and
 * holds `cols` contiguous elements. With `gather`, row i starts at base + gather[gatherBase + i]·stride.
 */
export type Rows = {
  readonly buffer: string;
  readonly base: Expr;
  readonly stride: Expr;
  readonly count: Expr;
  readonly cols: number;
  readonly gather?: { readonly buffer: string; readonly base: Expr };
};

/**
 * The current element of a tile inside `map` and `write`. A tile with one column (row) is broadcast over columns (rows).
 * `pick` reads another column of the same pair: `flip` col xor 1, `even` the lower, `odd` the upper one.
 */
export type Element =
  | {
      readonly e: "at";
      readonly type: "f32";
      readonly tile: string;
      readonly pick?: "flip" | "even" | "odd";
    }
  | { readonly e: "row"; readonly type: "i32" }
  | { readonly e: "col"; readonly type: "i32" };

/**
 * A weight matrix [depth, cols] stored in panels of 8 columns: element (k, j) lies at
 * base + floor(j / 8)·depth·8 + k·8 + j mod 8 of `buffer`. Columns past the matrix are stored as zeros.
 */
export type Panels = { readonly buffer: string; readonly base: Expr; readonly depth: number };

export type Tile =
  /** tile[i, j] = i < count and j < rows.cols ? buffer element · scale : 0. Defines the whole tile. */
  | { readonly s: "copy"; readonly tile: string; readonly rows: Rows; readonly scale?: Expr }
  /** buffer element (i, j) = value for i < count, j < rows.cols. `value` defaults to the element of `tile`. */
  | { readonly s: "write"; readonly tile: string; readonly rows: Rows; readonly value?: Expr<Element> }
  | { readonly s: "fill"; readonly tile: string; readonly value: Expr }
  /**
   * acc[i, j] += Σ_k a[i, k] · (transposed ? b[j, k] : b[k, j]), k over a's columns. `b` is a tile, or weight panels whose
   * row `row` + k and columns from `col` on (a multiple of 8) are meant. With `from`, a multiple of 4, `b` is a tile that is not
   * transposed and only the columns of `a` from there on that meet its rows are multiplied: acc[i, j] += Σ_k a[i, from + k] · b[k, j].
   */
  | {
      readonly s: "mma";
      readonly acc: string;
      readonly a: string;
      readonly b: string | (Panels & { readonly row: Expr; readonly col: Expr });
      readonly transposed?: boolean;
      readonly from?: number;
    }
  /** tile[i, j] = value(i, j), every element independently of the others of `tile` (apart from `pick`). */
  | { readonly s: "map"; readonly tile: string; readonly value: Expr<Element> }
  /** into[i, 0] = op(into[i, 0], op over j of from[i, j]). */
  | { readonly s: "reduce"; readonly into: string; readonly from: string; readonly op: "add" | "max" };

/** A kernel still written in tiles, with the tiles it uses. */
export type TileKernel = Kernel<Tile> & { readonly tiles: readonly TileDecl[] };

/** Below every real score (base-2 logits): where a running maximum starts. Finite, so that nothing is ever NaN. */
export const LOW = -1e30;
/** Masked scores lie below LOW, so exp2(MASKED − max) is exactly 0 even while the maximum is still LOW. */
export const MASKED = -3e30;
