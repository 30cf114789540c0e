/** What the schedules share: reading queries, keys and values in place, and scoring one key tile. */
import {
  add,
  and,
  col,
  div,
  f32,
  ge,
  gt,
  i32,
  lt,
  mul,
  op,
  or,
  ref,
  row,
  sub,
  type AnyExpr,
} from "../../../src/expr.ts";
import type { Node } from "../../../src/graph.ts";
import type { Element, Expr, Rows, Stmt, Tile, TileDecl } from "../../../src/kernel.ts";
import { middleBlock, rebase, type Tokens } from "./decay.ts";
import type { Block } from "./integers.ts";
import { pieces } from "../linear.ts";
import type { AttentionTiling } from "../tilings.ts";
import { absorb, LOG2E, mask, stateTiles } from "./state.ts";

export type AttentionNode = Extract<Node, { op: "attention" }>;
/** A node with the way its operands are read; without one, in whole rows. */
export type AttentionWork = AttentionNode & { readonly tiling?: AttentionTiling };

export const N = ref("N");

/** An attention with xPos' decay is another kernel than the same one without. */
export const kernelName = ({ spec, decay }: AttentionNode): string =>
  `attention_${spec.name}${decay === undefined ? "" : `_xpos${decay.base}`}`;

/** Rows `position`, `position + step`, … of head `head` in a [B, N, heads, headDim] buffer, or some of their columns. */
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
  part: { readonly col: Expr; readonly cols: number } = { col: i32(0), cols: headDim },
): Rows {
  const token = add(mul(where.batch, N), where.position);
  return {
    buffer,
    base: add(mul(add(mul(token, i32(heads)), where.head), i32(headDim)), part.col),
    stride: mul(where.step, i32(heads * headDim)),
    count: where.count,
    cols: part.cols,
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

/** The query rows of a tile, and the block that their xPos scale is moved to. */
export type Queries = { readonly batch: Expr; readonly head: Expr; readonly block: Expr } & Tokens;

/** Q ← q rows · scale · log2 e, unless slices of them are read with each tile of keys; rows past count (padded queries) are zero. */
export function readQueries(
  b: Block,
  node: AttentionWork,
  where: { readonly batch: Expr; readonly head: Expr } & Tokens,
): Queries {
  const { decay } = node;
  const block = decay === undefined ? i32(0) : b.bind("query_block", middleBlock(decay, where));
  const queries = { ...where, block };
  if (node.tiling === undefined) readQuerySlice(b, node, "Q", queries, i32(0), node.spec.headDim);
  return queries;
}

function readQuerySlice(
  b: Block,
  node: AttentionWork,
  tile: string,
  queries: Queries,
  first: Expr,
  cols: number,
): void {
  const { heads, headDim, scale } = node.spec;
  const rows = headRows("q", heads, headDim, queries, { col: first, cols });
  b.push({ s: "copy", tile, rows, scale: f32(scale * LOG2E) });
  rebase(b, node, tile, queries, queries.block, 1, first);
}

/** The tiles of an attention kernel: rows × headDim for queries and outputs, keys × headDim for keys and values, or slices of them. */
export function attentionTiles(
  { spec, tiling }: AttentionWork,
  rows: number,
  keys: number,
): readonly TileDecl[] {
  const { headDim } = spec;
  if (tiling === undefined)
    return [
      { name: "Q", rows, cols: headDim },
      { name: "K", rows: keys, cols: headDim },
      { name: "V", rows: keys, cols: headDim },
      ...stateTiles(rows, keys, headDim),
    ];
  const depth = pieces(headDim, tiling.depth);
  const slice = (suffix: string, cols: number): readonly TileDecl[] =>
    cols === 0
      ? []
      : [
          { name: `Q${suffix}`, rows, cols },
          { name: `K${suffix}`, rows: keys, cols },
        ];
  return [
    ...slice("", depth.size),
    ...slice("_rest", depth.rest),
    { name: "V", rows: valueRows(tiling, keys), cols: headDim },
    ...stateTiles(rows, keys, headDim),
  ];
}

/** Rows of values read at once, a divisor of the keys of a tile. */
const valueRows = (tiling: AttentionTiling, keys: number): number => Math.min(tiling.values, keys & -keys);

/** How the keys of a tile are seen: everything by name, so that schedules only state bounds. */
export type KeyTile = {
  readonly batch: Expr;
  readonly head: Expr;
  readonly tokens: Tokens;
  readonly queries: Queries;
  /** Columns of the tile. */
  readonly width: number;
  /** Causal: key (row i, column j) is visible where col·keyStep ≤ row·rowStep + lead. Null: all are. */
  readonly causal: { readonly keyStep: Expr; readonly rowStep: number; readonly lead: Expr } | null;
  /** Of rows and keys that lie in two segments, only those in different ones see each other: col < the one, row < the other, not both. */
  readonly across?: { readonly cond: Expr; readonly row: Expr; readonly col: Expr };
  /** How often row i counts key j, and the statements that must come before; null: once. */
  readonly multiplicity: { readonly fill: readonly Stmt<Tile>[]; readonly times: AnyExpr } | null;
};

/** Reads, scores and absorbs one tile of keys. */
export function scoreKeys(b: Block, node: AttentionWork, k: KeyTile): void {
  const { spec } = node;
  const kvHead =
    spec.kvHeads === spec.heads ? k.head : b.bind("kv_head", div(k.head, i32(spec.heads / spec.kvHeads)));
  const where = { batch: k.batch, head: kvHead, ...k.tokens };
  const readKeys = (tile: string, first: Expr, cols: number): void => {
    const rows = headRows("k", spec.kvHeads, spec.headDim, where, { col: first, cols });
    b.push({ s: "copy", tile, rows });
    rebase(b, node, tile, k.tokens, k.queries.block, -1, first);
  };
  const { tiling } = node;
  const values = (from: number, count: Expr): Tile => {
    const position = add(k.tokens.position, mul(i32(from), k.tokens.step));
    const at = { ...where, position, count };
    return { s: "copy", tile: "V", rows: headRows("v", spec.kvHeads, spec.headDim, at) };
  };
  if (tiling === undefined) {
    readKeys("K", i32(0), spec.headDim);
    b.push(
      values(0, k.tokens.count),
      { s: "fill", tile: "S", value: f32(0) },
      { s: "mma", acc: "S", a: "Q", b: "K", transposed: true },
    );
  } else {
    b.push({ s: "fill", tile: "S", value: f32(0) });
    const slice = (suffix: string, first: Expr, cols: number): void => {
      readQuerySlice(b, node, `Q${suffix}`, k.queries, first, cols);
      readKeys(`K${suffix}`, first, cols);
      b.push({ s: "mma", acc: "S", a: `Q${suffix}`, b: `K${suffix}`, transposed: true });
    };
    const depth = pieces(spec.headDim, tiling.depth);
    if (depth.full === 1) slice("", i32(0), depth.size);
    else {
      const body = b.nested(() => slice("", ref("d0"), depth.size));
      b.push({
        s: "for",
        name: "d0",
        from: i32(0),
        to: i32(depth.full * depth.size),
        step: depth.size,
        body,
      });
    }
    if (depth.rest > 0) slice("_rest", i32(depth.full * depth.size), depth.rest);
  }
  const inside: AnyExpr = lt<Element>(col, k.tokens.count);
  const ragged = lt(k.tokens.count, i32(k.width));
  if (k.causal === null) {
    b.push({ s: "if", cond: ragged, then: [mask(inside)] });
  } else {
    const { keyStep, rowStep, lead } = k.causal;
    const seen: AnyExpr = ge<Element>(
      add<Element>(mul<Element>(row, i32(rowStep)), lead),
      mul<Element>(col, keyStep),
    );
    // Row 0 sees the last column of an interior tile, so every row sees all of it.
    const diagonal = gt(mul(i32(k.width - 1), keyStep), lead);
    b.push({ s: "if", cond: or(ragged, diagonal), then: [mask(and(inside, seen))] });
  }
  if (k.across !== undefined) {
    const apart = op<Element>("xor", [lt<Element>(row, k.across.row), lt<Element>(col, k.across.col)]);
    b.push({ s: "if", cond: k.across.cond, then: [mask(apart)] });
  }
  if (k.multiplicity !== null) b.push(...k.multiplicity.fill);
  const times = k.multiplicity?.times ?? null;
  if (tiling === undefined) {
    b.push(...absorb(times, [], [{ s: "mma", acc: "O", a: "S", b: "V" }]));
    return;
  }
  const height = valueRows(tiling, k.width);
  const steps = Array.from({ length: k.width / height }, (_, i) => i * height);
  const read = steps.map((from) => values(from, sub(k.tokens.count, i32(from))));
  // The first values are read before the scores become weights, so that they share a barrier.
  b.push(
    ...absorb(
      times,
      read.slice(0, 1),
      steps.flatMap((from, i): readonly Tile[] => [
        ...(i === 0 ? [] : read.slice(i, i + 1)),
        { s: "mma", acc: "O", a: "S", b: "V", ...(steps.length > 1 ? { from } : {}) },
      ]),
    ),
  );
}
