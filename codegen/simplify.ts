/**
 * Makes kernels smaller without changing a bit of their results: constants fold, neutral elements vanish, constant and
 * copied `let`s are put in place, what is never used or never run goes. Constants of i32 sums move outwards,
 * (a + 2) + b → (a + b) + 2, where targets find them as address offsets; i32 wraps, so every order is exact.
 *
 * Of f32 only operations on constants are folded (`madd` rounds twice, as in the interpreter), and x·1 and x/1. A fold never
 * makes an infinity, a NaN or −0, and `exp2` and `log2` are left to the target, whose rounding they have.
 */
import { op } from "../src/expr.ts";
import type { Expr, Kernel, Stmt } from "../src/kernel.ts";
import type { Warp } from "../src/warp.ts";
import { step } from "./algebra.ts";
import {
  type Block,
  type For,
  type If,
  blocksOf,
  declaredIn,
  exprsOf,
  namer,
  refsOf,
  renamed,
  rewriter,
  statements,
  withBlocks,
  withExprs,
} from "./rewrite.ts";

export function simplify<X extends Warp = never>(kernel: Kernel<X>): Kernel<X> {
  let body = kernel.body;
  let size = Infinity;
  // Taking something away can make something else empty or constant.
  for (let now = count<X>(body); now < size; now = count<X>(body)) {
    size = now;
    body = withoutDead<X>(propagate<X>(body, new Map(), surroundings<X>({ ...kernel, body })));
  }
  return { ...kernel, body };
}

/** Simplifies one expression. */
export const simplifyExpr = (e: Expr): Expr => rewriter(step)(e);

const count = <X extends Warp>(block: Block<X>) => [...statements<X>(block)].length;

/** What propagation must know of the whole kernel. */
type Surroundings<X extends Warp> = {
  /** Names that are a `var` anywhere: their value changes, so a copy of them is no copy. */
  readonly variables: Set<string>;
  /** A block about to join its parent; names declared elsewhere too get changed, so that none is declared twice. */
  readonly join: (block: Block<X>) => Block<X>;
};

const variablesOf = <X extends Warp>(block: Block<X>) =>
  [...statements<X>(block)].flatMap((s) => (s.s === "var" ? s.name : []));

function surroundings<X extends Warp>(kernel: Kernel<X>): Surroundings<X> {
  const fresh = namer<X>(kernel);
  const seen = new Set<string>();
  const twice = new Set<string>();
  for (const n of declaredIn<X>(kernel.body)) (seen.has(n) ? twice : seen).add(n);
  const variables = new Set(variablesOf<X>(kernel.body));
  const join = (block: Block<X>): Block<X> => {
    if (!declaredIn<X>(block).some((n) => twice.has(n))) return block;
    const joined = renamed<X>(block, fresh);
    variablesOf<X>(joined).forEach((v) => variables.add(v));
    return joined;
  };
  return { variables, join };
}

/** Puts constants and copies in place and opens what is decided: `if` on a constant, loops that run once or never. */
function propagate<X extends Warp>(
  block: Block<X>,
  outer: ReadonlyMap<string, Expr>,
  around: Surroundings<X>,
): Block<X> {
  const values = new Map(outer);
  const inPlace = () => rewriter((e) => (e.e === "ref" ? (values.get(e.name) ?? e) : step(e)));
  let simple = inPlace();
  const out: Stmt<X>[] = [];
  const queue = [...block].reverse();
  const next = (stmts: Block<X>) => void queue.push(...[...stmts].reverse());
  for (let s = queue.pop(); s !== undefined; s = queue.pop()) {
    const t = withExprs<X>(s, simple);
    if (t.s === "let" && isPlain(t.value, around.variables)) {
      values.set(t.name, t.value);
      simple = inPlace();
    } else if (t.s === "if" && t.cond.e === "const") {
      next(around.join(t.cond.value !== 0 ? t.then : (t.else ?? [])));
    } else if (t.s === "for" && runsAtMostOnce(t)) {
      if (!runs(t)) continue;
      const [only] = around.join([t]);
      if (only?.s !== "for") throw new Error("heddle: internal: renaming changed a loop");
      next([{ s: "let", name: only.name, value: t.from }, ...only.body]);
    } else {
      const u = withBlocks<X>(t, (b) => propagate<X>(b, values, around));
      if (u.s === "if") out.push(...tidy<X>(u));
      else if (u.s !== "for" || u.body.length > 0) out.push(u);
    }
  }
  return out;
}

const isPlain = (e: Expr, variables: ReadonlySet<string>) =>
  e.e === "const" || e.e === "builtin" || (e.e === "ref" && !variables.has(e.name));

type Loop = Pick<For, "from" | "to" | "step">;
const constants = (s: Loop) =>
  s.from.e === "const" && s.to.e === "const" ? ([s.from.value, s.to.value] as const) : undefined;
function runsAtMostOnce(s: Loop): boolean {
  const known = constants(s);
  return known !== undefined && known[0] + s.step >= known[1];
}
function runs(s: Loop): boolean {
  const known = constants(s);
  return known === undefined || known[0] < known[1];
}

function tidy<X extends Warp>(s: If<X>): Block<X> {
  const otherwise = s.else ?? [];
  if (s.then.length > 0) return [otherwise.length > 0 ? s : { s: "if", cond: s.cond, then: s.then }];
  return otherwise.length > 0 ? [{ s: "if", cond: step(op("not", [s.cond])), then: otherwise }] : [];
}

/** Without the `let`s nobody reads and the `var`s that are only written. A name is read only after its definition. */
function withoutDead<X extends Warp>(body: Block<X>): Block<X> {
  const everywhere = new Set<string>();
  for (const s of statements<X>(body)) exprsOf<X>(s).forEach((e) => refsOf(e, everywhere));
  const read = new Set<string>();
  const live = (block: Block<X>): Block<X> => {
    const kept: Stmt<X>[] = [];
    for (const s of [...block].reverse()) {
      if ((s.s === "let" || s.s === "exchange") && !read.has(s.name)) continue;
      if ((s.s === "var" || s.s === "set") && !everywhere.has(s.name)) continue;
      // Blocks of an `if` stand beside each other: `else` first, as everything goes backwards.
      const t =
        s.s === "if" && s.else !== undefined
          ? { ...s, else: live(s.else), then: live(s.then) }
          : withBlocks<X>(s, live);
      if (blocksOf<X>(t).length > 0 && blocksOf<X>(t).every((b) => b.length === 0)) continue;
      exprsOf<X>(t).forEach((e) => refsOf(e, read));
      kept.push(t);
    }
    return kept.reverse();
  };
  return live(body);
}
