/** Tiles of the schedule `annulus`: rows of one branch, keys outside its parent's segment, and how often each pair counts. */
import type { AttentionShape } from "../spec.ts";
import { branchPhantoms, hasPhantoms, type BranchTile } from "./branch.ts";
import { ALL, ceilDiv, misaligned, segmentOf, termsBelow, type Integers } from "./integers.ts";
import type { AnnulusPass, AnnulusShape } from "./links.ts";

/** Row tiles that a cell of a pass needs besides those of its tokens: for the ends of pieces, and for rows moved past the last query. */
export function roomOf(spec: AttentionShape, pass: AnnulusPass) {
  const whole = pass.cuts.length === 0 && pass.cell === segmentOf(spec.branches[pass.branch]?.segment ?? ALL);
  return { slots: misaligned(spec) && !whole ? 1 : 0, tiles: pass.cuts.length };
}

export type AnnulusTile<T> = BranchTile<T> & {
  /** Which segment of the branch it is. */
  readonly segment: T;
  /** Where the tile's row of `links` begins, and its parent (the branch itself: none). */
  readonly link: T;
  readonly parent: T;
};

export type PassAt<T> = {
  readonly group: T;
  readonly N: T;
  readonly branch: T;
  readonly segment: T;
  readonly dilation: T;
  /** As in AnnulusPass; `cuts` may be filled up with lengths of no sequence. */
  readonly cell: T;
  readonly cuts: readonly T[];
  /** As in `roomOf`. */
  readonly room: { readonly slots: T; readonly tiles: T };
  readonly rows: number;
};

/**
 * The rows of a tile: consecutive slots of one segment of the pass's branch, and of one segment of every branch whose pairs are
 * counted here. Cells are cut into pieces where such segments begin, and the tiles of a cell go from piece to piece.
 */
export function annulusTile<T, C>(
  I: Integers<T, C>,
  spec: AttentionShape,
  shape: AnnulusShape,
  at: PassAt<T>,
): AnnulusTile<T> {
  const { N, dilation } = at;
  const most = I.of(at.rows);
  const cell = I.share("cell_length", I.min(at.cell, N));
  const cells = I.share("cells", ceilDiv(I, N, cell));
  const room = I.add(ceilDiv(I, cell, dilation), at.room.slots);
  const tiles = I.share("tiles", I.add(ceilDiv(I, room, most), at.room.tiles));
  const rest = I.share("rest", I.div(at.group, tiles));
  const batchHead = I.share("batch_head", I.div(rest, cells));
  const head = I.share("head", I.rem(batchHead, I.of(spec.heads)));
  const batch = I.share("batch", I.div(batchHead, I.of(spec.heads)));
  const offset = I.share("offset", I.offset(at.branch, head));
  const cellStart = I.share("cell_start", I.mul(I.rem(rest, cells), cell));
  const cellEnd = I.share("cell_end", I.min(I.add(cellStart, cell), N));
  const moved = misaligned(spec);
  const g = I.share("g", I.min(at.segment, N));
  const slots = I.share("slots", ceilDiv(I, g, dilation));

  /** The piece that begins at `from`: its segment, the slots of its rows. */
  const pieceAt = (from: T) => {
    const index = I.share("segment_index", I.div(from, g));
    const start = I.share("segment_start", I.mul(index, g));
    const next = at.cuts.map((w) => I.mul(I.add(I.div(from, w), I.of(1)), w));
    const to = I.share(
      "to",
      next.reduce((a, b) => I.min(a, b), cellEnd),
    );
    const queryStart = I.share("query_start", I.add(start, offset));
    const rowStart = moved
      ? I.share("row_start", I.add(I.mul(I.mul(index, slots), dilation), offset))
      : queryStart;
    const first = I.share("first_slot", termsBelow(I, I.sub(from, queryStart), dilation));
    const inside = termsBelow(I, I.sub(to, queryStart), dilation);
    // Moved rows stop at N, and may go on past the last query of their segment.
    const outputs = I.min(slots, termsBelow(I, I.sub(N, rowStart), dilation));
    const ends = I.eq(to, I.min(I.add(start, g), N));
    const last = moved ? I.select(ends, outputs, I.min(inside, outputs)) : inside;
    const count = I.share("piece_rows", I.max(I.of(0), I.sub(last, first)));
    return { index, start, to, queryStart, rowStart, first, rows: count };
  };
  let turn = I.share("tile", I.rem(at.group, tiles));
  let piece = pieceAt(cellStart);
  let from = cellStart;
  for (let cut = 0; cut < at.cuts.length; cut++) {
    const here = I.share("piece_tiles", ceilDiv(I, piece.rows, most));
    const past = I.shareCondition("past", I.not(I.lt(turn, here)));
    from = I.share("from", I.select(past, piece.to, from));
    turn = I.share("tile", I.select(past, I.sub(turn, here), turn));
    piece = pieceAt(from);
  }
  const { queryStart, rowStart } = piece;
  const done = I.mul(turn, most);
  const slot = I.share("slot", I.add(piece.first, done));
  const rows = I.share("rows", I.max(I.of(0), I.min(most, I.sub(piece.rows, done))));
  const real = I.share("real", termsBelow(I, I.sub(I.min(g, I.sub(N, piece.start)), offset), dilation));
  const queries = moved ? I.share("queries", I.max(I.of(0), I.min(rows, I.sub(real, slot)))) : rows;
  const keys = I.share("keys", spec.causal ? I.min(real, I.add(slot, rows)) : real);

  const regime = shape.bounds.reduce(
    (sum, w) => I.add(sum, I.select(I.lt(I.of(w), N), I.of(1), I.of(0))),
    I.of(0),
  );
  const byBranch = I.add(I.mul(regime, I.of(spec.branches.length)), at.branch);
  const kind = I.add(I.mul(byBranch, I.of(spec.heads)), head);
  const link = I.share("link", I.look(shape.tables.kinds, kind));
  const parent = I.share("parent", I.look(shape.tables.links, link));
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
    keys,
    slots,
    segment: piece.index,
    link,
    parent,
  };
}

/** Which keys of a tile are its pass's own: slots [0, before) and [after, keys), and of [before, middle) those across `crossing`. */
export type Ring<T> = {
  readonly before: T;
  readonly middle: T;
  readonly after: T;
  /** Slot at which the second of two segments of the parent begins that the rows lie in: of row and key one lies on either side. */
  readonly crossing: T;
};

/** First and last position of the tile's rows; of an empty tile the first twice. */
const ends = <T, C>(I: Integers<T, C>, tile: AnnulusTile<T>) => {
  const first = I.share("first_query", I.add(tile.queryStart, I.mul(tile.slot, tile.dilation)));
  const more = I.max(I.of(0), I.sub(tile.rows, I.of(1)));
  return { first, last: I.share("last_query", I.add(first, I.mul(more, tile.dilation))) };
};

export function ringOf<T, C>(
  I: Integers<T, C>,
  spec: AttentionShape,
  shape: AnnulusShape,
  tile: AnnulusTile<T>,
  branch: T,
): Ring<T> {
  const slotAt = (position: T): T => termsBelow(I, I.sub(position, tile.queryStart), tile.dilation);
  const { keys } = tile;
  const { first, last } = ends(I, tile);
  const length = I.share("parent_segment", I.look(shape.tables.segments, tile.parent));
  const low = I.share("low", I.mul(I.div(first, length), length));
  const high = I.share("high", I.mul(I.div(last, length), length));
  const root = I.shareCondition("root", I.eq(tile.parent, branch));
  const crossing = I.share("crossing", slotAt(high));
  const before = I.share("before", I.select(root, keys, I.min(keys, slotAt(low))));
  const after = I.share("after", I.select(root, keys, I.min(keys, slotAt(I.add(high, length)))));
  // A causal row sees nothing of a later segment, and its own is the parent's.
  const reach = spec.causal ? I.min(keys, crossing) : after;
  const whole = I.eq(low, high);
  const middle = I.share("middle", I.select(root, before, I.select(whole, before, reach)));
  return { before, middle, after, crossing };
}

/** Whether anything of the tile is left to its pass: keys, or zero keys. */
export function hasWork<T, C>(
  I: Integers<T, C>,
  spec: AttentionShape,
  tile: AnnulusTile<T>,
  ring: Ring<T>,
): C {
  const keys = I.add(ring.middle, I.sub(tile.keys, ring.after));
  if (!hasPhantoms(spec)) return I.lt(I.of(0), keys);
  const last = I.max(I.of(0), I.sub(tile.rows, I.of(1)));
  return I.lt(I.of(0), I.add(keys, branchPhantoms(I, spec, tile, last)));
}

/** A branch whose pairs are counted in the pass: every `period`-th slot from one congruent to −residue on, of [from, to). */
export type Member<T> = {
  /** 1, or 0 of a branch that only stands between the pass and others of its path. */
  readonly counted: T;
  readonly period: T;
  /** Row i of the tile is on the branch's grid where (i + rowResidue) mod period = 0; slot j of the segment likewise. */
  readonly rowResidue: T;
  readonly slotResidue: T;
  readonly from: T;
  readonly to: T;
};

/**
 * The paths of branches counted in the pass. The grids of a path lie inside one another and its segments all hold the rows, so that
 * row i and key j have the first of its members in common, as many as the lesser of them has: that is how often the path counts them.
 */
export function pathsOf<T, C>(
  I: Integers<T, C>,
  shape: AnnulusShape,
  tile: AnnulusTile<T>,
): readonly (readonly Member<T>[])[] {
  const { segments, dilations, links } = shape.tables;
  const slotAt = (position: T): T => termsBelow(I, I.sub(position, tile.queryStart), tile.dilation);
  const { first } = ends(I, tile);
  return Array.from({ length: shape.terms }, (_t, term) => {
    let [from, to] = [I.of(0), tile.real];
    return Array.from({ length: shape.depth }, (_k, k): Member<T> => {
      const entry = I.share("member", I.look(links, I.add(tile.link, I.of(1 + term * shape.depth + k))));
      const branch = I.share("other", I.div(entry, I.of(2)));
      const length = I.share("other_segment", I.look(segments, branch));
      const R = I.share("other_dilation", I.look(dilations, branch));
      const start = I.share("other_start", I.mul(I.div(first, length), length));
      from = I.share("from_slot", I.max(from, slotAt(start)));
      to = I.share("to_slot", I.min(to, slotAt(I.add(start, length))));
      // The first row lies in the segment, so less than an offset, and less than R, before the branch's first slot there.
      const past = I.rem(I.add(I.sub(I.sub(first, start), I.offset(branch, tile.head)), R), R);
      const period = I.share("period", I.div(R, tile.dilation));
      const rowResidue = I.share("row_residue", I.div(past, tile.dilation));
      const behind = I.sub(period, I.rem(tile.slot, period));
      const slotResidue = I.share("slot_residue", I.rem(I.add(rowResidue, behind), period));
      return { counted: I.rem(entry, I.of(2)), period, rowResidue, slotResidue, from, to };
    });
  });
}
