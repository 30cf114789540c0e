/** Tiles of the schedules `branch` and `dense`. */
import type { AttentionShape } from "../spec.ts";
import { ceilDiv, misaligned, termsBelow, type Integers } from "./integers.ts";

export type BranchTile<T> = {
  readonly batch: T;
  readonly head: T;
  /** First slot of the tile inside its segment. */
  readonly slot: T;
  readonly dilation: T;
  /** Token position of slot 0 of the segment for queries and keys, and the output row of slot 0. */
  readonly queryStart: T;
  readonly rowStart: T;
  /** Output rows of the tile (≤ its size), of which the first `queries` have a real query; the others' queries are zero. */
  readonly rows: T;
  readonly queries: T;
  /** Real slots of the segment, and how many of them some row of the tile may see. */
  readonly real: T;
  readonly keys: T;
  /** All slots of a segment, padded ones included. */
  readonly slots: T;
};

/** Schedule `branch`: the tiles of branch `branch` in a launch of its own. Rows are consecutive slots of one segment. */
export function branchTile<T, C>(
  I: Integers<T, C>,
  spec: AttentionShape,
  at: {
    readonly group: T;
    readonly N: T;
    readonly branch: T;
    readonly segment: T;
    readonly dilation: T;
    /** Rows of a tile. */
    readonly rows: T;
  },
): BranchTile<T> {
  const { N, dilation } = at;
  const g = I.share("g", I.min(at.segment, N));
  const slots = I.share("slots", ceilDiv(I, g, dilation));
  const tiles = I.share("tiles", ceilDiv(I, slots, at.rows));
  const segments = I.share("segments", ceilDiv(I, N, g));
  const rest = I.share("rest", I.div(at.group, tiles));
  const slot = I.share("slot", I.mul(I.rem(at.group, tiles), at.rows));
  const segment = I.share("segment_index", I.rem(rest, segments));
  const batchHead = I.share("batch_head", I.div(rest, segments));
  const head = I.share("head", I.rem(batchHead, I.of(spec.heads)));
  const batch = I.share("batch", I.div(batchHead, I.of(spec.heads)));
  const offset = I.share("offset", I.offset(at.branch, head));
  const start = I.mul(segment, g);
  const queryStart = I.share("query_start", I.add(start, offset));
  const inside = I.sub(I.min(g, I.sub(N, start)), offset);
  const real = I.share("real", termsBelow(I, inside, dilation));
  const moved = misaligned(spec);
  const rowStart = moved
    ? I.share("row_start", I.add(I.mul(I.mul(segment, slots), dilation), offset))
    : queryStart;
  const outputs = moved ? I.min(slots, termsBelow(I, I.sub(N, rowStart), dilation)) : real;
  const clamp = (count: T) => I.max(I.of(0), I.min(at.rows, I.sub(count, slot)));
  const rows = I.share("rows", clamp(outputs));
  const queries = moved ? I.share("queries", clamp(real)) : rows;
  const keys = spec.causal ? I.min(real, I.add(slot, rows)) : real;
  return {
    batch,
    head,
    slot,
    dilation,
    queryStart,
    rowStart,
    rows,
    queries,
    real,
    keys: I.share("keys", keys),
    slots,
  };
}

/** Padded slots of its segment that the query in row `i` of the tile sees as keys of score 0 (padding `zero`). */
export function branchPhantoms<T, C>(I: Integers<T, C>, spec: AttentionShape, tile: BranchTile<T>, i: T): T {
  if (spec.padding !== "zero") return I.of(0);
  if (!spec.causal) return I.sub(tile.slots, tile.real);
  return I.max(I.of(0), I.sub(I.add(I.add(tile.slot, i), I.of(1)), tile.real));
}

/** Whether `branchPhantoms` can be positive for some row that is written. */
export const hasPhantoms = (spec: AttentionShape): boolean =>
  spec.padding === "zero" && (!spec.causal || misaligned(spec));
