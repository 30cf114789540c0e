/** Warnings about attentions that are legal and surely not meant: tokens nobody sees, keys that count twice, moved rows. */
import { diagnostic } from "../diagnostic.ts";
import type { Span } from "../ast.ts";
import type { AttentionShape, Branch } from "../spec.ts";
import type { Report } from "./expression.ts";
import type { PlacedBranch } from "./branches.ts";
import { listed } from "./fields.ts";

/** Head numbers as "heads 1, 3 to 5 and 7". */
export const headList = (heads: readonly number[]): string => {
  const runs: [number, number][] = [];
  for (const h of heads) {
    const last = runs.at(-1);
    if (last !== undefined && last[1] === h - 1) last[1] = h;
    else runs.push([h, h]);
  }
  const words = runs.map(([a, b]) => (a === b ? `${a}` : b === a + 1 ? `${a}, ${b}` : `${a} to ${b}`));
  const some = words.length > 8 ? [...words.slice(0, 7), "others"] : words;
  return `${heads.length === 1 ? "head" : "heads"} ${listed(some.flatMap((w) => w.split(", ")))}`;
};

/** Steps that the search for uncovered tokens may take in one program. */
const searchBudget = 1 << 22;
const searchLength = 1 << 16;

const gcd = (a: number, b: number): number => {
  while (b !== 0) [a, b] = [b, a % b];
  return a;
};

/**
 * The first token that no branch of a head covers, or null. Token p is in branch (w, r) for offset o when
 * (p mod w) mod r = o; with `align ceil` rows are counted in segments rounded up to a multiple of r, so p mod r = o. The
 * pattern repeats after the lcm of the periods, and the search ends there, or undecided after 65,536 tokens.
 */
export const firstUncovered = (
  branches: readonly Branch[],
  offsets: readonly number[],
  align: "segment" | "ceil",
  budget: { left: number },
): number | null => {
  const periods = branches.map((b) => (align === "ceil" || b.segment === Infinity ? b.dilation : b.segment));
  const period = periods.reduce((a, b) => Math.min((a / gcd(a, b)) * b, searchLength), 1);
  for (let p = 0; p < period && budget.left > 0; p++) {
    let covered = false;
    for (let b = 0; b < branches.length && !covered; b++) {
      const r = branches[b]?.dilation ?? 1;
      covered = (p % (periods[b] ?? 1)) % r === offsets[b];
      budget.left--;
    }
    if (!covered) return p;
  }
  return null;
};

export const newBudget = () => ({ left: searchBudget });

const uncovered = (a: AttentionShape, span: Span, budget: { left: number }, report: Report): void => {
  if (a.branches.some((b) => b.dilation === 1)) return;
  const byOffsets = new Map<string, number | null>();
  const bare: number[] = [];
  let token = Infinity;
  for (let h = 0; h < a.heads; h++) {
    const offsets = a.offsets.map((row) => row[h] ?? 0);
    const key = offsets.join();
    let first = byOffsets.get(key);
    if (first === undefined) {
      first = firstUncovered(a.branches, offsets, a.align, budget);
      byOffsets.set(key, first);
    }
    if (first === null) continue;
    bare.push(h);
    token = Math.min(token, first);
  }
  if (bare.length === 0) return;
  const heads = bare.length === a.heads ? "All heads" : headList(bare).replace("h", "H");
  report(
    diagnostic(
      "uncovered-heads",
      span,
      { heads, name: `\`${a.name}\``, token },
      { hint: "Add a branch of dilation 1, e.g. `branch segment 2048 dilation 1`." },
    ),
  );
};

const identical = (a: AttentionShape, placed: readonly PlacedBranch[], report: Report): void => {
  const seen = new Map<string, number[]>();
  placed.forEach((branch, b) => {
    const key = `${branch.segment}/${branch.dilation}`;
    const earlier = seen.get(key) ?? [];
    seen.set(key, [...earlier, b].slice(0, 8));
    for (const other of earlier) {
      const [x, y] = [a.offsets[other] ?? [], a.offsets[b] ?? []];
      const heads = x.flatMap((offset, h) => (offset === y[h] ? [h] : []));
      if (heads.length === 0) continue;
      const whom = heads.length === a.heads ? "all heads" : headList(heads);
      report(
        diagnostic(
          "identical-branches",
          branch.span,
          { first: other, second: b, heads: whom },
          { hint: "Remove one, unless that weight is meant." },
        ),
      );
      return;
    }
  });
};

const moved = (a: AttentionShape, placed: readonly PlacedBranch[], report: Report): void => {
  if (a.align !== "ceil") return;
  placed.forEach(({ segment, dilation, span }, branch) => {
    if (segment === Infinity || segment % dilation === 0) return;
    const shift = dilation - (segment % dilation);
    const near = Math.max(dilation, Math.round(segment / dilation) * dilation);
    report(
      diagnostic(
        "align-moves-rows",
        span,
        { branch, dilation, segment, shift },
        {
          hint: `A segment of ${near} would not move; without torchscale's weights write \`align segment\`.`,
        },
      ),
    );
  });
};

/** Everything legal about an attention that its author should know. */
export const warnings = (
  a: AttentionShape,
  placed: readonly PlacedBranch[],
  span: Span,
  budget: { left: number },
  report: Report,
): void => {
  uncovered(a, span, budget, report);
  identical(a, placed, report);
  moved(a, placed, report);
};
