/**
 * xPos' decay between blocks (src/graph.ts): queries and keys carry their local scale, ζ^±(n mod block), and a tile moves both to one
 * block, so that one product serves all pairs. What a tile may span so that no factor leaves the range of its operands is decided here.
 */
import {
  add,
  at,
  col,
  div,
  exp2,
  f32,
  float,
  i32,
  load,
  max,
  min,
  mul,
  ne,
  or,
  row,
  sub,
  type AnyExpr,
} from "../../../src/expr.ts";
import type { Dtype, Element, Expr, Table } from "../../../src/kernel.ts";
import type { Block } from "./integers.ts";
import { map } from "./state.ts";
import type { AttentionNode, AttentionWork } from "./tiles.ts";

const DECAY = "decay";
type Decay = NonNullable<AttentionNode["decay"]>;

/** A progression of tokens: position + i·step for 0 ≤ i < count. */
export type Tokens = { readonly position: Expr; readonly step: Expr; readonly count: Expr };

/**
 * log2 of ζ_i^(block/base) for both elements of pair i (see src/graph.ts, xpos). ζ takes torch's f32 roundings, as in the tables of
 * `runtime/tables.ts`, so that a block's local scales and the factor between blocks are powers of the same numbers.
 */
export const decayTables = (node: AttentionNode): readonly Table[] => {
  const { decay, spec } = node;
  if (decay === undefined) return [];
  const { fround } = Math;
  const D = spec.headDim;
  const zeta = (i: number) => fround(fround(2 * i + fround(0.4 * D)) / fround(1.4 * D));
  const values = Array.from(
    { length: D },
    (_, j) => (Math.log2(zeta(Math.floor(j / 2))) * decay.block) / decay.base,
  );
  return [{ name: DECAY, type: "f32", values }];
};

/** log2 1/ζ_0, the most that a token divided by the base can change an element by, as a power of two. */
const STEEPEST = Math.log2(1.4 / 0.4);
/**
 * Powers of two that a factor of a query or key may take, by the operands of the product: what is left above them in f16 (2^16) is for
 * the numbers themselves, and below them (2^−24) for their precision. bf16 has the range of f32.
 */
const RANGE = { f16: 8, wide: 60 } as const;

/**
 * How many of the `rows` of a tile, `step` tokens apart, may share a product. A pair's factor ζ^(m − n) is one number of the query
 * times one of the key, both moved to one block; visible keys are no later than the last row, so both stay in range where rows span few
 * blocks: half of them below the block that they are moved to. All rows at all published dilations; one row where neighbours are too
 * far apart, and then its own block is meant. Schedules give the others to further tiles.
 */
export function rowsTogether(node: AttentionWork, stored: Dtype, rows: number, step: number): number {
  const { decay, tiling } = node;
  if (decay === undefined) return rows;
  // Sliced operands lie in f32; whole ones may be operands of matrix units, as they are stored.
  const range = stored === "f16" && tiling === undefined ? RANGE.f16 : RANGE.wide;
  const halves = Math.floor(range / ((STEEPEST * decay.block) / decay.base));
  const blocks = Math.max(1, 2 * halves);
  return Math.min(rows, 1 + Math.floor(((blocks - 1) * decay.block) / step));
}

/** The block that rows are moved to: their own where all have the same, or the first one past their middle. */
export function middleBlock({ block }: Decay, rows: Tokens): Expr {
  const length = i32(block);
  const last = add(rows.position, mul(max(sub(rows.count, i32(1)), i32(0)), rows.step));
  return div(add(add(div(rows.position, length), div(last, length)), i32(1)), i32(2));
}

/**
 * Moves the local xPos scale of `tile`'s rows from their own block to `block`: a factor ζ^(sign·(own − block)·…), needed only
 * where a row lies in another block. Rows past count are zero and take the last row's factor, so nothing overflows there.
 */
export function rebase(
  b: Block,
  node: AttentionNode,
  tile: string,
  tokens: Tokens,
  block: Expr,
  sign: 1 | -1,
  first: Expr = i32(0),
): void {
  const { decay } = node;
  if (decay === undefined) return;
  const length = i32(decay.block);
  const lastRow = max(sub(tokens.count, i32(1)), i32(0));
  const last = add(tokens.position, mul(lastRow, tokens.step));
  const position: AnyExpr = add<Element>(
    tokens.position,
    mul<Element>(min<Element>(row, lastRow), tokens.step),
  );
  const distance: AnyExpr = float(sub<Element>(div<Element>(position, length), block));
  const exponent = mul<Element>(
    load<Element>(DECAY, add<Element>(col, first)),
    sign === 1 ? distance : sub<Element>(f32(0), distance),
  );
  b.push({
    s: "if",
    cond: or(ne(div(tokens.position, length), block), ne(div(last, length), block)),
    // A future key may grow without bound (semantics.md 3); 2^100 keeps what must be masked finite.
    then: [map(tile, mul<Element>(at(tile), exp2(min<Element>(exponent, f32(100)))))],
  });
}
