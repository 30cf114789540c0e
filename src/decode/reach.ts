/** Which specs can be decoded token by token, and how far: the cache of `geometry/cache.ts` must hold whatever a later row needs. */
import type { AttentionShape } from "../spec.ts";

/** Tokens that a sequence may have in all (∞: no end), and the sentence that says why not more; null where nothing ends it. */
export type Reach = { readonly tokens: number; readonly why: string | null };

/**
 * How far decoding equals the forward pass of every prefix. In a causal attention a row never depends on the sequence's length. But with
 * `align ceil` and a dilation r that does not divide its segment w, row s·⌈w/r⌉·r + t takes the query of token s·w + t: from the
 * second segment on an earlier one, s·(⌈w/r⌉·r − w) tokens back and with each segment further, so that no cache of a bounded size
 * gives these rows. Up to w tokens there is one segment, and nothing is moved.
 */
export function reachOf(spec: Pick<AttentionShape, "name" | "causal" | "align" | "branches">): Reach {
  if (!spec.causal)
    return {
      tokens: 0,
      why: `attention '${spec.name}' is not causal: what its tokens see depends on those behind them`,
    };
  let reach: Reach = { tokens: Infinity, why: null };
  if (spec.align === "ceil")
    for (const [b, { segment: w, dilation: r }] of spec.branches.entries())
      if (Number.isFinite(w) && w % r !== 0 && w < reach.tokens)
        reach = {
          tokens: w,
          why:
            `branch ${b} of attention '${spec.name}' (segment ${w}, dilation ${r}) moves rows with 'align ceil': from token ${w} on ` +
            `a row takes the query of an earlier token, with every segment ${Math.ceil(w / r) * r - w} tokens earlier, which no cache ` +
            "of a bounded size holds. 'align segment' leaves rows in place",
        };
  return reach;
}
