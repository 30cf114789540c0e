/** Spelling of loops that load ahead: what stream.ts found, as copies, waits and meetings of all lanes. */
import { i32, ref } from "../../../src/expr.ts";
import type { Expr, Stmt, Tile } from "../../../src/kernel.ts";
import { commit, land, reading, wait } from "./landing.ts";
import { issue, issuePanels } from "./move.ts";
import { panelsName, panelWords, rightOf } from "./product.ts";
import { operandOf, phase, wordsOf, type Site, type Step } from "./site.ts";
import { hasTurn, later, ringPlace, STAGES, turnAt, type Group, type Streams } from "./stream.ts";

type Loop = Extract<Stmt<Tile>, { readonly s: "for" }>;

/** A loop whose operands are loaded ahead; `walk` spells the rest of its body. */
export function stream(
  s: Loop,
  streams: Streams,
  site: Site,
  walk: (body: readonly Stmt<Tile>[], site: Site) => readonly Step[],
): readonly Step[] {
  const turn = ref(s.name);
  const [only] = streams.groups;
  const ring = streams.groups.length === 1 && only !== undefined;
  const words = new Map<string, number>();
  for (const g of streams.groups) {
    for (const c of g.copies) words.set(c.tile, wordsOf(operandOf(site, c.tile)));
    for (const p of g.products)
      words.set(panelsName(p.b), panelWords(rightOf(p, site).depth, site.shape.decl(p.acc).cols));
  }
  /** Starts a group's copies for a turn, where the loop has it. */
  const start = (g: Group, at: Expr): readonly Step[] => {
    const { lets, there } = turnAt(s, streams.lets, at, site.fresh);
    const stage = (name: string): Expr => (ring ? ringPlace(s, at, words.get(name) ?? 0) : i32(0));
    const copies = g.copies.map((c): Step => {
      if (c.scale === undefined) site.flow.factor.delete(c.tile);
      else site.flow.factor.set(c.tile, c.scale);
      const { base, stride, count } = c.rows;
      const rows = { ...c.rows, base: there(base), stride: there(stride), count: there(count) };
      return issue(site, operandOf(site, c.tile), rows, stage(c.tile));
    });
    const panels = g.products.map((p): Step => {
      const { depth } = rightOf(p, site);
      const { cols } = site.shape.decl(p.acc);
      const array = site.panels((ring ? STAGES : 1) * panelWords(depth, cols));
      const { base, row, col } = p.b;
      const b = { ...p.b, base: there(base), row: there(row), col: there(col) };
      return issuePanels(site, b, depth, cols, array, stage(panelsName(b)));
    });
    return [...when(at === turn ? null : hasTurn(s, at), [...lets, ...copies, ...panels]), commit];
  };
  /** All lanes have what they waited for, and have done with what they read before. */
  const meet = (g: Group): readonly Step[] => {
    if (ring) return [wait(STAGES - 2), { s: "barrier" }];
    const others = [...site.flow.awaited];
    site.flow.awaited.clear();
    const names = [...g.copies.map((c) => c.tile), ...g.products.map(() => site.panels(0))];
    return [land([...names, ...others]), phase([...names, ...others].flatMap(reading), [])];
  };

  const before = [...site.flow.awaited];
  const ahead: Step[] = [];
  const [first] = streams.groups;
  if (first === undefined) return [];
  for (let n = 0; n < (ring ? STAGES - 1 : 1); n++) ahead.push(...start(first, later(s.from, s, n)));

  for (const [name, size] of words) site.flow.stage.set(name, ring ? ringPlace(s, turn, size) : i32(0));
  const body: Step[] = [];
  // Where each group is met: the first at the start, the others as soon as the one before has been read.
  const meetings = new Map(
    streams.groups.map((_, i) => [i === 0 ? -1 : (streams.groups[i - 1]?.last ?? -1), i] as const),
  );
  const meetAt = (at: number): void => {
    const i = meetings.get(at);
    const g = i === undefined ? undefined : streams.groups[i];
    if (i === undefined || g === undefined) return;
    body.push(...meet(g));
    const next = streams.groups[i + 1];
    if (ring) body.push(...unrecorded(start(g, later(turn, s, STAGES - 1))));
    else if (next === undefined) body.push(...start(first, later(turn, s, 1)));
    else body.push(...start(next, turn));
  };
  meetAt(-1);
  s.body.forEach((x, at) => {
    if (!streams.taken.has(at)) body.push(...walk([x], site));
    meetAt(at);
  });
  for (const name of words.keys()) site.flow.stage.delete(name);
  // A loop may have no turn, and then nobody has waited.
  before.forEach((tile) => site.flow.awaited.add(tile));
  return [...ahead, { ...s, body }];
}

/** In a ring a copy and the readers of its array meet in different places of it: the barrier of the turn keeps them apart. */
const unrecorded = (steps: readonly Step[]): readonly Step[] =>
  steps.map((x): Step => {
    if (x.s === "phase") return { ...x, accesses: [] };
    if (x.s === "if") return { ...x, then: unrecorded(x.then) };
    return x;
  });

const when = (cond: Expr | null, then: readonly Step[]): readonly Step[] =>
  cond === null ? then : [{ s: "if", cond, then }];
