/**
 * What of a schedule `annulus` is known without N: for every head, the branch in whose pass the pairs of another are counted.
 *
 * A pair that branch b shares with its parent c (a branch whose grid holds all of b's grid) is counted in c's pass, or handed on from
 * there to c's own parent. So each pair is computed once, where every segment on the way from b holds it, and no further.
 */
import type { AttentionShape } from "../spec.ts";
import { ALL, segmentOf, type Lookup } from "./integers.ts";

export type AnnulusPass = {
  readonly branch: number;
  /** No piece of rows crosses a multiple of `cell`, nor one of any of `cuts`, of which at most one lies in a cell. */
  readonly cell: number;
  readonly cuts: readonly number[];
  /** Whether pairs of other branches are counted here, for some head at some length. */
  readonly folds: boolean;
  /** Periods of those branches' grids in slots of this pass. */
  readonly periods: readonly number[];
};

export type AnnulusShape = {
  /** In the order in which they run: by dilation, then longer segments first. */
  readonly passes: readonly AnnulusPass[];
  /** Ascending; regime g are the lengths N with bounds[g − 1] < N ≤ bounds[g]: in it the same irregular branches have one segment. */
  readonly bounds: readonly number[];
  /** A pass counts the branches of `terms` paths of `depth` members each. */
  readonly terms: number;
  readonly depth: number;
  /** Whether some branch has a parent. */
  readonly linked: boolean;
  readonly tables: {
    /** By branch. */
    readonly segments: Lookup;
    readonly dilations: Lookup;
    /** Where a row of `links` begins: [(regime · branches + branch) · heads + head]. */
    readonly kinds: Lookup;
    /**
     * Rows of 1 + terms · depth numbers: the parent, or the branch itself where it has none; then the paths, from a child of the
     * branch downwards, each member as 2 · branch + (1 where this path counts it). The branch itself, not counted, fills them up.
     */
    readonly links: Lookup;
  };
  /** The parent of a branch, or null. */
  readonly parent: (regime: number, branch: number, head: number) => number | null;
};

const shapes = new WeakMap<AttentionShape, Map<number, AnnulusShape>>();

/** The shape for tiles of `rows` rows: of a parent's segments a tile may meet two, no more. */
export function annulusShape(spec: AttentionShape, rows: number): AnnulusShape {
  const known = shapes.get(spec) ?? new Map<number, AnnulusShape>();
  shapes.set(spec, known);
  const shape = known.get(rows) ?? shapeOf(spec, rows);
  known.set(rows, shape);
  return shape;
}

/** The branches at lengths N ≤ `most` for which they have one segment or not, whatever N. */
type Branch = {
  readonly index: number;
  readonly segment: number;
  readonly dilation: number;
  readonly offsets: readonly number[];
  /** One segment holds the whole sequence. */
  readonly only: boolean;
  /** Its rows are not its queries (`align ceil`), so it shares nothing. */
  readonly alone: boolean;
};

function branchesAt(spec: AttentionShape, most: number): readonly Branch[] {
  return spec.branches.map(({ segment, dilation }, index) => {
    const only = segmentOf(segment) >= most;
    const alone = spec.align === "ceil" && !only && segment % dilation !== 0;
    return { index, segment: segmentOf(segment), dilation, offsets: spec.offsets[index] ?? [], only, alone };
  });
}

/** Whether c's grid holds b's for a head, in all segments of both. */
function contains(c: Branch, b: Branch, head: number): boolean {
  if (c.alone || b.alone || b.dilation % c.dilation !== 0) return false;
  if (c.dilation === 1) return true;
  // Segments begin at multiples of c's dilation, or at the same places.
  const begins = (x: Branch) => x.only || x.segment % c.dilation === 0;
  if (c.segment !== b.segment && !(begins(c) && begins(b))) return false;
  return (b.offsets[head] ?? 0) % c.dilation === (c.offsets[head] ?? 0);
}

/** A tile of b's rows must not meet three of c's segments; b's segments cut the rows of c's pass, and short pieces waste lanes. */
function worthwhile(c: Branch, b: Branch, rows: number): boolean {
  const wide = c.only || c.segment >= rows * b.dilation;
  const whole = b.only || b.segment >= c.segment || b.segment % (rows * c.dilation) === 0;
  return wide && (whole || b.segment >= 4 * rows * c.dilation);
}

/** parents[b] of one head: the branch that holds most of b's pairs, of several the one with the fewest others; b itself for none. */
function parentsOf(order: readonly Branch[], head: number, rows: number): readonly number[] {
  const parents: number[] = [];
  order.forEach((b, place) => {
    let best: Branch | null = null;
    const held = (c: Branch) => Math.min(c.segment, b.segment);
    for (const c of order.slice(0, place)) {
      if (!contains(c, b, head) || !worthwhile(c, b, rows)) continue;
      if (best === null || held(c) > held(best) || (held(c) === held(best) && c.dilation > best.dilation))
        best = c;
    }
    parents[b.index] = best?.index ?? b.index;
  });
  return parents;
}

type Member = { readonly branch: number; readonly counted: boolean };

/** From each child of `top` down to every leaf, the longest first. A member of several paths is counted in the first of them. */
function pathsBelow(parents: readonly number[], top: number): readonly (readonly Member[])[] {
  const paths: (readonly number[])[] = [];
  const walk = (at: number, path: readonly number[]): void => {
    const below = parents.flatMap((parent, b) => (parent === at && b !== at ? [b] : []));
    if (below.length === 0 && path.length > 0) paths.push(path);
    for (const b of below) walk(b, [...path, b]);
  };
  walk(top, []);
  const counted = new Set<number>();
  return paths
    .sort((x, y) => y.length - x.length)
    .map((path) =>
      path.map((branch) => {
        const first = !counted.has(branch);
        counted.add(branch);
        return { branch, counted: first };
      }),
    );
}

function shapeOf(spec: AttentionShape, rows: number): AnnulusShape {
  const irregular = spec.branches.filter((b) => Number.isFinite(b.segment) && b.segment % b.dilation !== 0);
  const bounds = [...new Set(irregular.map((b) => segmentOf(b.segment)))].sort((a, b) => a - b);
  const heads = Array.from({ length: spec.heads }, (_, head) => head);
  const regimes = [...bounds, ALL].map((most) => {
    const branches = branchesAt(spec, most);
    const order = [...branches].sort(
      (a, b) => a.dilation - b.dilation || b.segment - a.segment || a.index - b.index,
    );
    const parents = heads.map((head) => parentsOf(order, head, rows));
    return { branches, order, parents };
  });
  const [first] = regimes;
  const order = first?.order ?? [];
  const below = (b: number) =>
    regimes.map(({ branches, parents }) => parents.map((p) => ({ branches, paths: pathsBelow(p, b) })));
  const passes = order.map((b): AnnulusPass => {
    const others = below(b.index)
      .flat()
      .flatMap(({ branches, paths }) => paths.flat().map((m) => branches[m.branch]))
      .filter((x) => x !== undefined);
    // An only segment never ends inside the sequence.
    const lengths = [b, ...others.filter((x) => !x.only)].map((x) => x.segment);
    const cell = Math.min(...lengths);
    return {
      branch: b.index,
      cell,
      cuts: [...new Set(lengths)].filter((w) => w < ALL && w % cell !== 0),
      folds: others.length > 0,
      periods: [...new Set(others.map((x) => x.dilation / b.dilation))],
    };
  });

  const all = spec.branches.map((_, b) => below(b));
  const paths = all.flat(2).map((x) => x.paths);
  const terms = Math.max(0, ...paths.map((p) => p.length));
  const depth = Math.max(0, ...paths.flat().map((p) => p.length));
  const places = new Map<string, number>();
  const links: number[] = [];
  const kinds = regimes.flatMap(({ parents }, regime) =>
    spec.branches.flatMap((_, b) =>
      heads.map((head) => {
        const found = all[b]?.[regime]?.[head]?.paths ?? [];
        const numbers = [parents[head]?.[b] ?? b];
        for (let term = 0; term < terms; term++)
          for (let k = 0; k < depth; k++) {
            const member = found[term]?.[k];
            numbers.push(member === undefined ? 2 * b : 2 * member.branch + Number(member.counted));
          }
        const key = numbers.join();
        const place = places.get(key) ?? links.length;
        if (place === links.length) links.push(...numbers);
        places.set(key, place);
        return place;
      }),
    ),
  );
  const parent = (regime: number, branch: number, head: number) => {
    const found = regimes[regime]?.parents[head]?.[branch] ?? branch;
    return found === branch ? null : found;
  };
  return {
    passes,
    bounds,
    terms,
    depth,
    linked: terms > 0,
    tables: {
      segments: { name: "segments", values: spec.branches.map((b) => segmentOf(b.segment)) },
      dilations: { name: "dilations", values: spec.branches.map((b) => b.dilation) },
      kinds: { name: "kinds", values: kinds },
      links: { name: "links", values: links },
    },
    parent,
  };
}

/** The regime of a length. */
export const regimeOf = (shape: AnnulusShape, N: number): number => shape.bounds.filter((w) => w < N).length;
