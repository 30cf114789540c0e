/**
 * The attended pairs of a Spec and of a plan as multisets of integers: (head, output row, query, key) with its count, and
 * (head, output row) with the number of zero keys it sees. The Spec's side is written from semantics.md 1.1 and 1.2 alone.
 */
import { sizeOf } from "../../runtime/plan.ts";
import {
  annulusShape,
  annulusTile,
  branchPhantoms,
  branchTile,
  classShape,
  classTile,
  foldInto,
  hasWork,
  listTile,
  mergeShape,
  mergeTile,
  numbers,
  partBase,
  partRow,
  passKeys,
  passPhantoms,
  pathsOf,
  ringOf,
  roomOf,
  segmentOf,
  type AnnulusShape,
  type AnnulusTile,
} from "../../src/geometry.ts";
import { gridOf, listPassesAt, mergeGrid, mergeRows } from "../../src/planner.ts";
import type { AttentionSpec } from "../../src/spec.ts";

/** Pairs are counted under one number each, see `pairKey`: a test meets millions of them. */
export type Pairs = { readonly counts: Map<number, number>; readonly rows: Map<string, number> };

/** More than any length here. */
const MOST = 4096;
/** (head, output row, query, key) as one number below 2^53; query −1 is a padded one. */
const pairKey = (head: number, row: number, query: number, key: number): number =>
  ((head * MOST + row) * MOST + query + 1) * MOST + key;
export const pairOf = (pair: number): { head: number; row: number; query: number; key: number } => {
  const over = (n: number) => Math.floor(pair / MOST ** n) % MOST;
  return { head: Math.floor(pair / MOST ** 3), row: over(2), query: over(1) - 1, key: over(0) };
};

/** Three pairs that two multisets have not as often as each other. */
export const difference = <K extends number | string>(
  a: ReadonlyMap<K, number>,
  b: ReadonlyMap<K, number>,
): readonly unknown[] => {
  const apart: unknown[] = [];
  const note = (k: K) => apart.push([typeof k === "number" ? pairOf(k) : k, a.get(k) ?? 0, b.get(k) ?? 0]);
  for (const [k, n] of a) if (b.get(k) !== n && apart.length < 3) note(k);
  for (const k of b.keys()) if (!a.has(k) && apart.length < 3) note(k);
  return apart;
};

const bump = <K>(map: Map<K, number>, key: K, by: number) => {
  if (by !== 0) map.set(key, (map.get(key) ?? 0) + by);
};

/** Every slot of every segment of every branch, real or padded, literally. Query −1 is a padded (zero) query. */
export function pairsOfSpec(spec: AttentionSpec, N: number): Pairs {
  const counts = new Map<number, number>();
  const rows = new Map<string, number>();
  spec.branches.forEach(({ segment, dilation: r }, b) => {
    const g = Math.min(segment, N);
    const slots = Math.ceil(g / r);
    for (let h = 0; h < spec.heads; h++) {
      const offset = spec.offsets[b]?.[h] ?? 0;
      for (let s = 0; s * g < N; s++) {
        const real = (m: number) => m * r + offset < g && s * g + m * r + offset < N;
        for (let m = 0; m < slots; m++) {
          const t = m * r + offset;
          const row = spec.align === "ceil" ? s * slots * r + t : s * g + t;
          if (row >= N || (spec.align === "segment" && !real(m))) continue;
          const query = real(m) ? s * g + t : -1;
          for (let k = 0; k < slots; k++) {
            if (spec.causal && k > m) continue;
            if (real(k)) bump(counts, pairKey(h, row, query, s * g + k * r + offset), 1);
            else if (spec.padding === "zero") bump(rows, `${h} ${row}`, 1);
          }
        }
      }
    }
  });
  return { counts, rows };
}

/** The output rows of each branch, as "head row". */
export const rowsOfSpec = (spec: AttentionSpec, N: number): readonly Set<string>[] =>
  spec.branches.map(({ segment, dilation: r }, b) => {
    const rows = new Set<string>();
    const g = Math.min(segment, N);
    const slots = Math.ceil(g / r);
    for (let h = 0; h < spec.heads; h++)
      for (let s = 0; s * g < N; s++)
        for (let m = 0; m < slots; m++) {
          const t = m * r + (spec.offsets[b]?.[h] ?? 0);
          const row = spec.align === "ceil" ? s * slots * r + t : s * g + t;
          if (row < N && (spec.align === "ceil" || t < g)) rows.add(`${h} ${row}`);
        }
    return rows;
  });

export function pairsOfBranch(spec: AttentionSpec, N: number, tileRows: number): Pairs {
  const counts = new Map<number, number>();
  const phantoms = new Map<string, number>();
  const I = numbers(spec);
  spec.branches.forEach(({ segment, dilation }, branch) => {
    const groups = gridOf(spec, { kind: "branch", rows: tileRows }, branch, { N, B: 1 });
    for (let group = 0; group < groups; group++) {
      const tile = branchTile(I, spec, {
        group,
        N,
        branch,
        segment: segmentOf(segment),
        dilation,
        rows: tileRows,
      });
      for (let i = 0; i < tile.rows; i++) {
        const slot = tile.slot + i;
        const row = tile.rowStart + slot * dilation;
        const query = i < tile.queries ? tile.queryStart + slot * dilation : -1;
        for (let j = 0; j < tile.keys; j++)
          if (!spec.causal || j <= slot)
            bump(counts, pairKey(tile.head, row, query, tile.queryStart + j * dilation), 1);
        bump(phantoms, `${tile.head} ${row}`, branchPhantoms(I, spec, tile, i));
      }
    }
  });
  return { counts, rows: phantoms };
}

export function pairsOfClass(
  spec: AttentionSpec,
  N: number,
  tileRows: number,
): Pairs & { readonly written: Map<string, number> } {
  const counts = new Map<number, number>();
  const phantoms = new Map<string, number>();
  const written = new Map<string, number>();
  const I = numbers(spec);
  const shape = classShape(spec);
  const groups = gridOf(spec, { kind: "class", rows: tileRows }, 0, { N, B: 1 });
  for (let group = 0; group < groups; group++) {
    const tile = classTile(I, spec, shape, { group, N, rows: tileRows });
    for (let i = 0; i < tile.rows; i++) {
      const row = tile.first + i * shape.lattice;
      bump(written, `${tile.head} ${row}`, 1);
      shape.order.forEach((branch, p) => {
        if (tile.passes[p]?.covers !== true) return;
        const r = spec.branches[branch]?.dilation ?? 1;
        const keys = passKeys(I, spec, shape, tile, p);
        const folds = shape.order.flatMap((_, child) => foldInto(I, spec, shape, tile, p, child) ?? []);
        const absorb = (j: number) => {
          const key = keys.base + j * r;
          if (spec.causal && key > row) return;
          let multiplicity = 1;
          for (const fold of folds)
            if (
              fold.active &&
              j % fold.period === fold.phase &&
              fold.from <= j &&
              j < fold.to &&
              !fold.except.some((x) => x.active && x.from <= j && j < x.to)
            )
              multiplicity += 1;
          bump(counts, pairKey(tile.head, row, row, key), multiplicity);
        };
        for (let j = 0; j < keys.before; j++) absorb(j);
        for (let j = keys.after; j < keys.real; j++) absorb(j);
        if (!spec.causal && spec.padding === "zero")
          bump(phantoms, `${tile.head} ${row}`, passPhantoms(I, spec, shape, tile, p, N));
      });
    }
  }
  return { counts, rows: phantoms, written };
}

type Annulus = Pairs & { readonly seen: Set<string> };

/** What the tile of a pass adds to the pairs. */
function absorbAnnulus(
  { counts, rows, seen }: Annulus,
  spec: AttentionSpec,
  shape: AnnulusShape,
  tile: AnnulusTile<number>,
  branch: number,
): void {
  const I = numbers(spec);
  const ring = ringOf(I, spec, shape, tile, branch);
  if (tile.parent !== branch) seen.add("child");
  if (!hasWork(I, spec, tile, ring)) seen.add("idle");
  const paths = pathsOf(I, shape, tile);
  for (let i = 0; i < tile.rows; i++) {
    const slot = tile.slot + i;
    const row = tile.rowStart + slot * tile.dilation;
    const query = i < tile.queries ? tile.queryStart + slot * tile.dilation : -1;
    const absorb = (j: number) => {
      if (spec.causal && j > slot) return;
      let times = 1;
      for (const path of paths) {
        const on = (residue: number, x: number, period: number) => (x + residue) % period === 0;
        let [ofRow, ofKey] = [0, 0];
        for (const m of path) {
          ofRow += on(m.rowResidue, i, m.period) ? m.counted : 0;
          ofKey += on(m.slotResidue, j, m.period) && m.from <= j && j < m.to ? m.counted : 0;
        }
        times += Math.min(ofRow, ofKey);
      }
      if (times > 1) seen.add(times > 2 ? "threefold" : "folded");
      bump(counts, pairKey(tile.head, row, query, tile.queryStart + j * tile.dilation), times);
    };
    for (let j = 0; j < ring.before; j++) absorb(j);
    for (let j = ring.before; j < ring.middle; j++)
      if (slot < ring.crossing !== j < ring.crossing) {
        seen.add("crossing");
        absorb(j);
      }
    for (let j = ring.after; j < tile.keys; j++) absorb(j);
    bump(rows, `${tile.head} ${row}`, branchPhantoms(I, spec, tile, i));
  }
}

/** `written`: by branch, the rows of its pass's tiles, and how often each. `seen`: which parts of the geometry this plan went through. */
export function pairsOfAnnulus(
  spec: AttentionSpec,
  N: number,
  tileRows: number,
): Annulus & { readonly written: ReadonlyMap<number, Map<string, number>> } {
  const all: Annulus = { counts: new Map(), rows: new Map(), seen: new Set() };
  const I = numbers(spec);
  const shape = annulusShape(spec, tileRows);
  const written = new Map<number, Map<string, number>>();
  for (const pass of shape.passes) {
    const rows = new Map<string, number>();
    const { branch, cell, cuts } = pass;
    const { segment, dilation } = spec.branches[branch] ?? { segment: Infinity, dilation: 1 };
    const groups = gridOf(spec, { kind: "annulus", rows: tileRows }, branch, { N, B: 1 });
    for (let group = 0; group < groups; group++) {
      const tile = annulusTile(I, spec, shape, {
        group,
        N,
        branch,
        segment: segmentOf(segment),
        dilation,
        cell,
        cuts,
        room: roomOf(spec, pass),
        rows: tileRows,
      });
      if (tile.rows === 0) continue;
      for (let i = 0; i < tile.rows; i++)
        bump(rows, `${tile.head} ${tile.rowStart + (tile.slot + i) * dilation}`, 1);
      // A tile without work is none, so what it would add shows.
      if (hasWork(I, spec, tile, ringOf(I, spec, shape, tile, branch)))
        absorbAnnulus(all, spec, shape, tile, branch);
      else all.seen.add("idle");
      if (pass.cuts.length > 0) all.seen.add("cut");
    }
    written.set(branch, rows);
  }
  return { ...all, written };
}

/**
 * The list of one launch. `written` and `read`: by "sequence head part row", what its tiles leave and the merge takes, as "branch row" with
 * how often; `merged`: how often the merge writes "sequence head row"; `passes`: the branch of each group.
 */
export function pairsOfList(
  spec: AttentionSpec,
  at: { readonly N: number; readonly B: number },
  choice: { readonly rows: number; readonly keys: number },
): Annulus & {
  readonly written: ReadonlyMap<string, readonly string[]>;
  readonly read: ReadonlyMap<string, readonly string[]>;
  readonly merged: ReadonlyMap<string, number>;
  readonly passes: readonly number[];
} {
  const all: Annulus = { counts: new Map(), rows: new Map(), seen: new Set() };
  const { N, B } = at;
  const I = numbers(spec);
  const shape = annulusShape(spec, choice.rows);
  const [written, read] = [new Map<string, string[]>(), new Map<string, string[]>()];
  const note = (where: Map<string, string[]>, key: string, what: string) => {
    const known = where.get(key);
    if (known === undefined) where.set(key, [what]);
    else known.push(what);
  };
  const merged = new Map<string, number>();
  const passes: number[] = [];
  const groups = gridOf(spec, { kind: "annulus_list", rows: choice.rows }, 0, at);
  const counted = listPassesAt(spec, choice, at);
  for (let group = 0; group < groups; group++) {
    const tile = listTile(I, spec, shape, {
      group,
      N,
      sequences: B * spec.heads,
      passes: counted,
      rows: choice.rows,
    });
    passes.push(tile.branch);
    if (tile.rows === 0) continue;
    const first = partRow(I, spec, tile, N);
    for (let i = 0; i < tile.rows; i++) {
      const row = tile.rowStart + (tile.slot + i) * tile.dilation;
      note(written, `${tile.batch} ${tile.head} ${first + i}`, `${tile.branch} ${row}`);
    }
    // Sequences are alike, so the pairs of the last one are enough.
    if (tile.batch === B - 1) absorbAnnulus(all, spec, shape, tile, tile.branch);
  }
  const rows = mergeRows(choice.rows);
  const mergeTiles = sizeOf(mergeGrid(spec, choice.rows), at);
  const places = mergeShape(spec);
  const bases = spec.branches.map((_, branch) => partBase(I, spec, branch, N));
  for (let group = 0; group < mergeTiles; group++) {
    const tile = mergeTile(I, spec, places, { group, N, rows });
    for (let i = 0; i < tile.rows; i++) {
      const row = tile.first + i * places.lattice;
      bump(merged, `${tile.batch} ${tile.head} ${row}`, 1);
      tile.parts.forEach((part, branch) => {
        if (!part.covers) return;
        const from = (bases[branch] ?? 0) + part.row + i * part.step;
        note(read, `${tile.batch} ${tile.head} ${from}`, `${branch} ${row}`);
      });
    }
  }
  return { ...all, written, read, merged, passes };
}
