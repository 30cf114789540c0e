/** What the schedules share: reading queries, keys and values in place, xPos' decay between blocks, and scoring one key tile. */
import {
  add,
  and,
  at,
  col,
  div,
  exp2,
  f32,
  float,
  ge,
  gt,
  i32,
  load,
  lt,
  max,
  min,
  mul,
  ne,
  or,
  ref,
  row,
  sub,
  type AnyExpr,
} from "../../../src/expr.ts";
import type { Node } from "../../../src/graph.ts";
import type { Element, Expr, Rows, Stmt, Table, Tile } from "../../../src/kernel.ts";
import type { Block } from "./integers.ts";
import { absorb, LOG2E, map, mask } from "./state.ts";

export type AttentionNode = Extract<Node, { op: "attention" }>;

export const N = ref("N");
const DECAY = "decay";

/** An attention with xPos' decay is another kernel than the same one without. */
export const kernelName = ({ spec, decay }: AttentionNode): string =>
  `attention_${spec.name}${decay === undefined ? "" : `_xpos${decay.base}`}`;

/** Rows `position`, `position + step`, … of head `head` in a [B, N, heads, headDim] buffer. */
export function headRows(
  buffer: string,
  heads: number,
  headDim: number,
  where: {
    readonly batch: Expr;
    readonly head: Expr;
    readonly position: Expr;
    readonly step: Expr;
    readonly count: Expr;
  },
): Rows {
  const token = add(mul(where.batch, N), where.position);
  return {
    buffer,
    base: mul(add(mul(token, i32(heads)), where.head), i32(headDim)),
    stride: mul(where.step, i32(heads * headDim)),
    count: where.count,
    cols: headDim,
  };
}

/** The same rows of a [B, heads, N] buffer (lse, count). */
export const headColumn = (
  buffer: string,
  heads: number,
  where: {
    readonly batch: Expr;
    readonly head: Expr;
    readonly position: Expr;
    readonly step: Expr;
    readonly count: Expr;
  },
): Rows => ({
  buffer,
  base: add(mul(add(mul(where.batch, i32(heads)), where.head), N), where.position),
  stride: where.step,
  count: where.count,
  cols: 1,
});

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

/**
 * Moves the local xPos scale of `tile`'s rows from their own block to `block`: a factor ζ^(sign·(own − block)·…), needed only
 * where a row lies in another block. Rows past count are zero and take the last row's factor, so nothing overflows there.
 */
function rebase(
  b: Block,
  node: AttentionNode,
  tile: string,
  tokens: Tokens,
  block: Expr,
  sign: 1 | -1,
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
    load<Element>(DECAY, col),
    sign === 1 ? distance : sub<Element>(f32(0), distance),
  );
  b.push({
    s: "if",
    cond: or(ne(div(tokens.position, length), block), ne(div(last, length), block)),
    // A future key may grow without bound (semantics.md 3); 2^100 keeps what must be masked finite.
    then: [map(tile, mul<Element>(at(tile), exp2(min<Element>(exponent, f32(100)))))],
  });
}

/** Q ← q rows · scale · log2 e; rows past count (padded queries) are zero. Returns the block of their xPos scale. */
export function readQueries(
  b: Block,
  node: AttentionNode,
  where: { readonly batch: Expr; readonly head: Expr } & Tokens,
): Expr {
  const { spec, decay } = node;
  const block = decay === undefined ? i32(0) : b.bind("query_block", div(where.position, i32(decay.block)));
  b.push({
    s: "copy",
    tile: "Q",
    rows: headRows("q", spec.heads, spec.headDim, where),
    scale: f32(spec.scale * LOG2E),
  });
  rebase(b, node, "Q", where, block, 1);
  return block;
}

/** How the keys of a tile are seen: everything by name, so that schedules only state bounds. */
export type KeyTile = {
  readonly batch: Expr;
  readonly head: Expr;
  readonly tokens: Tokens;
  readonly queryBlock: Expr;
  /** Columns of the tile. */
  readonly width: number;
  /** Causal: key (row i, column j) is visible where col·keyStep ≤ row·rowStep + lead. Null: all are. */
  readonly causal: { readonly keyStep: number; readonly rowStep: number; readonly lead: Expr } | null;
  /** Statements that fill `mult`, and whether the tile uses it. */
  readonly multiplicity: readonly Stmt<Tile>[] | null;
};

/** Reads, scores and absorbs one tile of keys. */
export function scoreKeys(b: Block, node: AttentionNode, k: KeyTile): void {
  const { spec } = node;
  const kvHead =
    spec.kvHeads === spec.heads ? k.head : b.bind("kv_head", div(k.head, i32(spec.heads / spec.kvHeads)));
  const where = { batch: k.batch, head: kvHead, ...k.tokens };
  b.push({ s: "copy", tile: "K", rows: headRows("k", spec.kvHeads, spec.headDim, where) });
  rebase(b, node, "K", k.tokens, k.queryBlock, -1);
  b.push(
    { s: "copy", tile: "V", rows: headRows("v", spec.kvHeads, spec.headDim, where) },
    { s: "fill", tile: "S", value: f32(0) },
    { s: "mma", acc: "S", a: "Q", b: "K", transposed: true },
  );
  const inside: AnyExpr = lt<Element>(col, k.tokens.count);
  const ragged = lt(k.tokens.count, i32(k.width));
  if (k.causal === null) {
    b.push({ s: "if", cond: ragged, then: [mask(inside)] });
  } else {
    const { keyStep, rowStep, lead } = k.causal;
    const seen: AnyExpr = ge<Element>(
      add<Element>(mul<Element>(row, i32(rowStep)), lead),
      mul<Element>(col, i32(keyStep)),
    );
    // Row 0 sees the last column of an interior tile, so every row sees all of it.
    const diagonal = gt(i32((k.width - 1) * keyStep), lead);
    b.push({ s: "if", cond: or(ragged, diagonal), then: [mask(and(inside, seen))] });
  }
  if (k.multiplicity !== null) b.push(...k.multiplicity);
  b.push(...absorb(k.multiplicity !== null));
}
