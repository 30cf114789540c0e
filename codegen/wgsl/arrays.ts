/**
 * How each array of a kernel is reached: where every vector access starts at a multiple of four and nothing is stored one by
 * one, it is an array of vectors, which costs one bounds check and one load instead of four.
 */
import { isVector } from "../../src/expr.ts";
import type { Expr, Kernel, Stmt } from "../../src/kernel.ts";
import { blocksOf, exprsOf } from "../rewrite.ts";
import type { Divisors } from "../divisor.ts";

export type Verb = "at" | "at4" | "put" | "put4";
export type Reach = { readonly layout: "four" | "one"; readonly uses: readonly Verb[] };

const VERBS: readonly Verb[] = ["at", "at4", "put", "put4"];

/** The layout of every buffer and shared array. */
export function reaches(kernel: Kernel, known: Divisors): ReadonlyMap<string, Reach> {
  const uses = new Map<string, Set<Verb>>();
  const ragged = new Set<string>();
  const use = (name: string, verb: Verb, index: Expr) => {
    uses.set(name, (uses.get(name) ?? new Set()).add(verb));
    if (verb === "put" || (verb !== "at" && known.of(index) % 4 !== 0)) ragged.add(name);
  };
  const visited = new Set<Expr>();
  const read = (e: Expr): void => {
    if (visited.has(e)) return;
    visited.add(e);
    if (e.e === "load") {
      use(e.from, isVector(e.type) ? "at4" : "at", e.index);
      read(e.index);
    } else if (e.e === "op") e.args.forEach(read);
  };
  const walk = (body: readonly Stmt[]): void => {
    for (const s of body) {
      exprsOf(s).forEach(read);
      if (s.s === "store") use(s.to, isVector(s.value.type) ? "put4" : "put", s.index);
      blocksOf(s).forEach(walk);
    }
  };
  walk(kernel.body);
  const odd = new Set(kernel.shared.filter((s) => s.length % 4 !== 0).map((s) => s.name));
  return new Map(
    [...kernel.buffers, ...kernel.shared].map(({ name }): [string, Reach] => {
      const verbs = VERBS.filter((v) => uses.get(name)?.has(v));
      // An array that is only ever read one by one gains nothing from vectors.
      const four = !ragged.has(name) && !odd.has(name) && verbs.some((v) => v === "at4" || v === "put4");
      return [name, { layout: four ? "four" : "one", uses: verbs }];
    }),
  );
}
