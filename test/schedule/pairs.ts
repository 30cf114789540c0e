/**
 * The attended pairs of a Spec and of a plan as multisets of integers: (head, output row, query, key) with its count, and
 * (head, output row) with the number of zero keys it sees. The Spec's side is written from semantics.md 1.1 and 1.2 alone.
 */
import {
  branchPhantoms,
  branchTile,
  classShape,
  classTile,
  foldInto,
  numbers,
  passKeys,
  passPhantoms,
  segmentOf,
} from "../../src/geometry.ts";
import { gridOf } from "../../src/planner.ts";
import type { AttentionSpec } from "../../src/spec.ts";

export type Pairs = { readonly counts: Map<string, number>; readonly rows: Map<string, number> };

const bump = (map: Map<string, number>, key: string, by: number) => {
  if (by !== 0) map.set(key, (map.get(key) ?? 0) + by);
};

/** Every slot of every segment of every branch, real or padded, literally. Query −1 is a padded (zero) query. */
export function pairsOfSpec(spec: AttentionSpec, N: number): Pairs {
  const counts = new Map<string, number>();
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
            if (real(k)) bump(counts, `${h} ${row} ${query} ${s * g + k * r + offset}`, 1);
            else if (spec.padding === "zero") bump(rows, `${h} ${row}`, 1);
          }
        }
      }
    }
  });
  return { counts, rows };
}

export function pairsOfBranch(spec: AttentionSpec, N: number, tileRows: number): Pairs {
  const counts = new Map<string, number>();
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
            bump(counts, `${tile.head} ${row} ${query} ${tile.queryStart + j * dilation}`, 1);
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
  const counts = new Map<string, number>();
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
          bump(counts, `${tile.head} ${row} ${row} ${key}`, multiplicity);
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
