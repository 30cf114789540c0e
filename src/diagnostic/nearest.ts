/** Edit distance with transpositions of neighbours (optimal string alignment); O(|a|·|b|). */
const distance = (a: string, b: string): number => {
  let before: number[] = [];
  let last = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const same = a[i - 1] === b[j - 1] ? 0 : 1;
      let best = Math.min((last[j] ?? 0) + 1, (row[j - 1] ?? 0) + 1, (last[j - 1] ?? 0) + same);
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) {
        best = Math.min(best, (before[j - 2] ?? 0) + 1);
      }
      row.push(best);
    }
    before = last;
    last = row;
  }
  return last[b.length] ?? 0;
};

/**
 * The known word a user may have meant, or null. A third of the letters may be wrong; case and `-` for `_` cost nothing. Words longer than 64 letters are not compared.
 */
export const nearest = (word: string, known: Iterable<string>): string | null => {
  if (word.length === 0 || word.length > 64) return null;
  const plain = (s: string) => s.toLowerCase().replaceAll("-", "_");
  const limit = Math.floor(word.length / 3);
  let best: string | null = null;
  let least = limit + 1;
  for (const candidate of known) {
    if (Math.abs(candidate.length - word.length) > limit) continue;
    const d = distance(plain(word), plain(candidate));
    if (d < least) [best, least] = [candidate, d];
  }
  return best;
};
