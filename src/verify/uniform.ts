/**
 * Which names may differ between the lanes of a group, conservatively: `lane` differs, and so does everything read from
 * memory that the kernel may write. A variable differs when it is set to something that differs, or where control flow
 * does. Tables and buffers that are only read agree at an index that agrees.
 */
import type { Expr, Kernel, Stmt } from "../kernel.ts";
import { place } from "../show/place.ts";
import { warpOps, type Warp } from "../warp.ts";

/** The barriers and exchanges that not every lane may reach, by place and reason. */
export function divergentBarriers(k: Kernel<Warp>): string[] {
  if (k.workgroup === 1) return [];
  const steady = new Set([
    ...k.tables.map((t) => t.name),
    ...k.buffers.filter((b) => b.access === "read").map((b) => b.name),
  ]);
  const differs = new Set<string>();
  const varies = (e: Expr): boolean => {
    const known = new Map<Expr, boolean>();
    const visit = (x: Expr): boolean => {
      const before = known.get(x);
      if (before !== undefined) return before;
      const now =
        x.e === "builtin" ? x.name === "lane"
        : x.e === "ref" ? differs.has(x.name)
        : x.e === "load" ? !steady.has(x.from) || visit(x.index)
        : x.e === "op" && x.args.some(visit); // prettier-ignore
      known.set(x, now);
      return now;
    };
    return visit(e);
  };
  const problems: string[] = [];
  const walk = (
    parent: string,
    block: readonly Stmt<Warp>[],
    apart: string | undefined,
    report: boolean,
  ): void =>
    block.forEach((s, i) => {
      const here = place(parent, i, s);
      if (s.s === "let" || s.s === "var" || s.s === "set") {
        if ((s.s === "set" && apart !== undefined) || varies(s.value)) differs.add(s.name);
      } else if (s.s === "for") {
        const split = varies(s.from) || varies(s.to);
        if (split) differs.add(s.name);
        walk(here, s.body, apart ?? (split ? here : undefined), report);
      } else if (s.s === "if") {
        const split = apart ?? (varies(s.cond) ? here : undefined);
        walk(here, s.then, split, report);
        if (s.else !== undefined) walk(`${here} else`, s.else, split, report);
      } else if (s.s === "barrier" || s.s === "exchange" || (s.s === "warp" && warpOps[s.op].together)) {
        // What a lane gets is another's, which only by chance is its own.
        if (s.s === "exchange") differs.add(s.name);
        const what = s.s === "barrier" ? "a barrier" : s.s === "exchange" ? "an exchange" : `'${s.op}'`;
        if (apart !== undefined && report)
          problems.push(`${here}: ${what} in control flow that may differ between lanes, by ${apart}`);
      }
    });
  // A loop may set late what it reads early: repeat until nothing new differs.
  for (let size = -1; size < differs.size;) {
    size = differs.size;
    walk("", k.body, undefined, false);
  }
  walk("", k.body, undefined, true);
  return problems;
}
