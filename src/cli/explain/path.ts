/**
 * The longest dependency path of an attention (LongNet, section 3.1): how many layers it takes until what one token holds
 * has reached every token that it ever reaches, and how many tokens that may know of it never do.
 *
 * One layer carries information from token j to token i when some branch holds both for some head: they lie in one
 * segment, at one residue that is a head's offset, and, causally, j does not come after i. Layers keep what they had
 * (residual) and mix heads (output projection), so paths may change heads and branches from layer to layer. Rows that
 * `align ceil` moves are taken where they belong.
 *
 * A branch's tokens of one segment and residue are a clique (causally a chain in which every token sees all before it),
 * so a breadth-first walk opens each clique once: O(N · branches) for one source. Long sequences are walked from some
 * sources only, and none is walked beyond a million tokens.
 */
import { segmentOf } from "../../geometry.ts";
import type { AttentionShape } from "../../spec.ts";

export type Path = {
  /** Layers until every pair of tokens that ever meets has met. */
  readonly layers: number;
  /**
   * Share of pairs (causally: of a token and a later one) that never meet, however many layers there are: those in
   * different segments of the longest branch, and causally many that face each other across a boundary.
   */
  readonly unreached: number;
  /** Whether every source was walked, at the asked length. */
  readonly exact: boolean;
  /** The length that was walked. */
  readonly length: number;
};

const LONGEST = 2 ** 20;
/** Clique openings spent on one answer. */
const BUDGET = 3e7;
const GOLDEN = (Math.sqrt(5) - 1) / 2;

export function longestPath(spec: AttentionShape, N: number): Path {
  const length = Math.min(N, LONGEST);
  const cliques = cliquesOf(spec, length);
  const most = Math.max(4, Math.floor(BUDGET / (length * spec.branches.length)));
  const sources = length <= most ? Array.from({ length }, (_, i) => i) : sampled(spec, length, most);
  let [layers, missed, pairs] = [0, 0, 0];
  for (const source of sources) {
    const found = walk(cliques, spec.causal, length, source);
    layers = Math.max(layers, found.layers);
    missed += found.left;
    pairs += spec.causal ? length - source - 1 : length - 1;
  }
  const exact = length === N && sources.length === length;
  return { layers, unreached: pairs === 0 ? 0 : missed / pairs, exact, length };
}

/** Ends, the tokens beside segment boundaries, and golden-ratio samples, which no period can alias. */
function sampled(spec: AttentionShape, N: number, most: number): readonly number[] {
  const ends = [0, 1, N - 1, N - 2];
  const edges = spec.branches.flatMap(({ segment }) =>
    segmentOf(segment) < N ? [segmentOf(segment) - 1, segmentOf(segment) + 1] : [],
  );
  const spread = Array.from({ length: most }, (_, i) => Math.floor((((i + 0.5) * GOLDEN) % 1) * N));
  return [...new Set([...ends, ...edges, ...spread])].filter((i) => i >= 0 && i < N).slice(0, most);
}

type Cliques = readonly {
  readonly segment: number;
  readonly dilation: number;
  /** used[residue]: whether some head starts there. */
  readonly used: readonly boolean[];
}[];

const cliquesOf = (spec: AttentionShape, N: number): Cliques =>
  spec.branches.map(({ segment, dilation }, b) => ({
    segment: Math.min(segmentOf(segment), N),
    dilation,
    used: Array.from({ length: dilation }, (_, residue) => (spec.offsets[b] ?? []).includes(residue)),
  }));

/** Layers until everything that `source` ever reaches is reached, and how many tokens are left then. */
function walk(
  cliques: Cliques,
  causal: boolean,
  N: number,
  source: number,
): { readonly layers: number; readonly left: number } {
  const seen = new Uint8Array(N);
  seen[source] = 1;
  let left = (causal ? N - source : N) - 1;
  /** By branch and clique: tokens from here on are reached; without causality an opened clique is reached whole. */
  const opened = cliques.map(({ segment, dilation }) =>
    new Int32Array(Math.ceil(N / segment) * dilation).fill(N),
  );
  let frontier = [source];
  let layers = 0;
  while (left > 0 && frontier.length > 0) {
    const next: number[] = [];
    for (const token of frontier)
      cliques.forEach(({ segment, dilation, used }, b) => {
        const start = Math.floor(token / segment) * segment;
        const residue = (token - start) % dilation;
        const known = opened[b];
        const clique = (start / segment) * dilation + residue;
        const from = causal ? token : start + residue;
        const until = known?.[clique] ?? 0;
        if (known === undefined || used[residue] !== true || from >= until) return;
        known[clique] = from;
        const end = Math.min(start + segment, N, until);
        for (let t = from; t < end; t += dilation)
          if (seen[t] === 0) {
            seen[t] = 1;
            next.push(t);
          }
      });
    if (next.length > 0) layers++;
    left -= next.length;
    frontier = next;
  }
  return { layers, left };
}
