/** Walking and rebuilding kernels: what the passes over statements and expressions share. */
import type { Expr, Kernel, Stmt } from "../src/kernel.ts";
import type { Warp } from "../src/warp.ts";

/** Statements of a kernel without tiles; with warp statements where it may have them. */
export type Block<X extends Warp = never> = readonly Stmt<X>[];
type Alone<S extends Stmt["s"], Inner extends string> = Omit<Extract<Stmt, { readonly s: S }>, Inner>;
export type For<X extends Warp = never> = Alone<"for", "body"> & { readonly body: Block<X> };
export type If<X extends Warp = never> = Alone<"if", "then" | "else"> & {
  readonly then: Block<X>;
  readonly else?: Block<X>;
};

/** Rebuilds an expression from its leaves upwards; what was shared stays shared. */
export function rewriter(change: (e: Expr) => Expr): (e: Expr) => Expr {
  const known = new Map<Expr, Expr>();
  const visit = (e: Expr): Expr => {
    const before = known.get(e);
    if (before !== undefined) return before;
    const after = change(withArgs(e, visit));
    known.set(e, after);
    return after;
  };
  return visit;
}

/** The same expression over other operands; itself when none changed. */
export function withArgs(e: Expr, f: (e: Expr) => Expr): Expr {
  if (e.e === "load") {
    const index = f(e.index);
    return index === e.index ? e : { ...e, index };
  }
  if (e.e === "op") {
    const args = e.args.map(f);
    return args.every((a, i) => a === e.args[i]) ? e : { ...e, args };
  }
  return e;
}

/** The same statement with other expressions of its own; blocks inside are left alone. */
export function withExprs<X extends Warp = never>(s: Stmt<X>, f: (e: Expr) => Expr): Stmt<X> {
  switch (s.s) {
    case "warp":
      return {
        ...s,
        places: s.places.map((p) => ({ ...p, index: f(p.index) })),
        values: s.values.map(f),
      };
    case "let":
    case "var":
    case "set":
    case "exchange":
      return { ...s, value: f(s.value) };
    case "store":
      return { ...s, index: f(s.index), value: f(s.value) };
    case "for":
      return { ...s, from: f(s.from), to: f(s.to) };
    case "if":
      return { ...s, cond: f(s.cond) };
    default:
      return s;
  }
}

/** The same statement with other blocks inside. */
export function withBlocks<X extends Warp = never>(s: Stmt<X>, f: (block: Block<X>) => Block<X>): Stmt<X> {
  if (s.s === "for") return { ...s, body: f(s.body) };
  if (s.s !== "if") return s;
  const then = f(s.then);
  return s.else === undefined ? { ...s, then } : { ...s, then, else: f(s.else) };
}

export const blocksOf = <X extends Warp = never>(s: Stmt<X>): readonly Block<X>[] =>
  s.s === "for" ? [s.body] : s.s === "if" ? [s.then, s.else ?? []] : [];

export function exprsOf<X extends Warp = never>(s: Stmt<X>): readonly Expr[] {
  const found: Expr[] = [];
  withExprs(s, (e) => {
    found.push(e);
    return e;
  });
  return found;
}

/** Every statement of a block, those inside others included. */
export function* statements<X extends Warp = never>(block: Block<X>): Generator<Stmt<X>> {
  for (const s of block) {
    yield s;
    for (const inner of blocksOf<X>(s)) yield* statements<X>(inner);
  }
}

/** Every node of the expressions of a block, once. */
export function expressionsIn<X extends Warp = never>(block: Block<X>): readonly Expr[] {
  const seen = new Set<Expr>();
  const visit = (e: Expr): void => {
    if (seen.has(e)) return;
    seen.add(e);
    if (e.e === "load") visit(e.index);
    else if (e.e === "op") e.args.forEach(visit);
  };
  for (const s of statements<X>(block)) exprsOf<X>(s).forEach(visit);
  return [...seen];
}

export function refsOf(e: Expr, into: Set<string> = new Set()): Set<string> {
  const seen = new Set<Expr>();
  const visit = (x: Expr) => {
    if (seen.has(x)) return;
    seen.add(x);
    if (x.e === "ref") into.add(x.name);
    else if (x.e === "load") visit(x.index);
    else if (x.e === "op") x.args.forEach(visit);
  };
  visit(e);
  return into;
}

const declared = <X extends Warp>(s: Stmt<X>): string | undefined =>
  s.s === "let" || s.s === "var" || s.s === "for" || s.s === "exchange" ? s.name : undefined;

export function declaredIn<X extends Warp = never>(block: Block<X>): string[] {
  return [...statements<X>(block)].flatMap((s) => declared(s) ?? []);
}

/** Makes names that no declaration, parameter or array of the kernel has: `acc`, then `acc_1`, `acc_2` … */
export function namer<X extends Warp = never>(k: Kernel<X>): (wish: string) => string {
  const taken = new Set([
    ...[...k.buffers, ...k.scalars, ...k.tables, ...k.shared, ...(k.registers ?? [])].map((x) => x.name),
    ...declaredIn<X>(k.body),
  ]);
  const next = new Map<string, number>();
  return (wish) => {
    const stem = wish.replace(/_\d+$/, "");
    let n = next.get(stem) ?? 0;
    let name = n === 0 ? stem : `${stem}_${n}`;
    while (taken.has(name)) name = `${stem}_${++n}`;
    next.set(stem, n + 1);
    taken.add(name);
    return name;
  };
}

/** A copy of a block in which every declaration, and each use of it, has another name; `bound` gives names from outside a value. */
export function renamed<X extends Warp = never>(
  block: Block<X>,
  fresh: (wish: string) => string,
  bound: ReadonlyMap<string, Expr> = new Map(),
): Block<X> {
  const copy = (inner: Block<X>, outer: ReadonlyMap<string, Expr>): Block<X> => {
    const names = new Map(outer);
    // One rewriter between two declarations, so that shared expressions stay shared.
    let use = rewriter((e) => (e.e === "ref" ? withName(e, names) : e));
    return inner.map((s): Stmt<X> => {
      const t = withExprs<X>(s, use);
      if (t.s === "set") {
        const to = names.get(t.name);
        return to?.e === "ref" ? { ...t, name: to.name } : t;
      }
      if (t.s === "let" || t.s === "var" || t.s === "exchange") {
        const name = fresh(t.name);
        names.set(t.name, { e: "ref", type: t.value.type, name });
        use = rewriter((e) => (e.e === "ref" ? withName(e, names) : e));
        return { ...t, name };
      }
      if (t.s === "for") {
        const name = fresh(t.name);
        return {
          ...t,
          name,
          body: copy(t.body, new Map([...names, [t.name, { e: "ref", type: "i32", name }]])),
        };
      }
      return withBlocks<X>(t, (b) => copy(b, names));
    });
  };
  return copy(block, bound);
}
const withName = (e: Extract<Expr, { e: "ref" }>, names: ReadonlyMap<string, Expr>): Expr =>
  names.get(e.name) ?? e;
