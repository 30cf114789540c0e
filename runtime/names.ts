/** Guesses at what a tensor of one name is called in another place. */

/** What to write for `from` at the start of a name, or for a whole name. */
export type Renaming = { readonly from: string; readonly to: string };

/** Endings that more names share than this, `weight` say, tell nothing of where a name belongs. */
const mostAlike = 4;
/** Dots of a name that are looked at. */
const mostCuts = 16;

/**
 * The change of a leading path (up to a dot; "" adds one to every name) that turns the most of the extra names into missing ones, where
 * that is at least half of what is missing: `module.` and the like.
 */
export function commonRenaming(missing: readonly string[], extra: readonly string[]): Renaming | undefined {
  const places = new Map<string, string[]>();
  for (const name of missing)
    for (const at of cuts(name)) {
      const rest = name.slice(at);
      const known = places.get(rest);
      if (known === undefined) places.set(rest, [name.slice(0, at)]);
      else known.push(name.slice(0, at));
    }
  const counts = new Map<string, Renaming & { readonly count: number }>();
  for (const name of extra)
    for (const at of cuts(name)) {
      const from = name.slice(0, at);
      const leads = places.get(name.slice(at)) ?? [];
      if (leads.length > mostAlike) continue;
      for (const to of leads) {
        const key = `${from}\n${to}`;
        counts.set(key, { from, to, count: (counts.get(key)?.count ?? 0) + 1 });
      }
    }
  const [best] = [...counts.values()].sort(
    (a, b) => b.count - a.count || a.from.length + a.to.length - b.from.length - b.to.length,
  );
  if (best === undefined || best.count * 2 < missing.length) return undefined;
  // One name may end like another by chance; where a path only comes or goes, all of the other name is matched.
  if (best.count < 2 && best.from !== "" && best.to !== "") return undefined;
  return { from: best.from, to: best.to };
}

/** Where a name can be cut into a leading path and the rest. */
function cuts(name: string): readonly number[] {
  const places = [0];
  for (let dot = name.indexOf("."); dot >= 0 && places.length < mostCuts; dot = name.indexOf(".", dot + 1))
    places.push(dot + 1);
  return places;
}

/** The closest name within a third of its length in edits, if there is one. */
export function nearest(name: string, candidates: readonly string[]): string | undefined {
  let best: string | undefined;
  let least = Math.floor(name.length / 3) + 1;
  for (const candidate of candidates) {
    if (Math.abs(candidate.length - name.length) >= least) continue;
    const distance = edits(name, candidate);
    if (distance < least) [best, least] = [candidate, distance];
  }
  return best;
}

/** Levenshtein distance. */
function edits(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_column, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++)
      next.push(
        Math.min(
          (row[j] ?? 0) + 1,
          (next[j - 1] ?? 0) + 1,
          (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1),
        ),
      );
    row = next;
  }
  return row[b.length] ?? 0;
}
