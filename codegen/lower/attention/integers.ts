/** The geometry's integers as kernel expressions: a shared value becomes a `let` in the block being written. */
import {
  add,
  and,
  bool,
  div,
  eq,
  i32,
  load,
  lt,
  max,
  min,
  mul,
  not,
  ref,
  rem,
  select,
  sub,
  type AnyExpr,
} from "../../../src/expr.ts";
import type { Integers } from "../../../src/geometry.ts";
import type { Element, Expr, Stmt, Tile } from "../../../src/kernel.ts";
import type { AttentionShape } from "../../../src/spec.ts";

/** A block of statements under construction, with names that are unique in the kernel. */
export type Block = {
  readonly out: Stmt<Tile>[];
  /** Adds `let name = value` unless the value is already a name or a constant. */
  readonly bind: (name: string, value: Expr) => Expr;
  /** The statements that `write` adds, as a block of their own. */
  readonly nested: (write: () => void) => readonly Stmt<Tile>[];
  readonly push: (...statements: readonly Stmt<Tile>[]) => void;
};

export function newBlock(): Block {
  const used = new Map<string, number>();
  let current: Stmt<Tile>[] = [];
  const root = current;
  return {
    out: root,
    bind: (name, value) => {
      if (value.e === "ref" || value.e === "const") return value;
      const times = used.get(name) ?? 0;
      used.set(name, times + 1);
      const unique = times === 0 ? name : `${name}_${times}_`;
      current.push({ s: "let", name: unique, value });
      return ref(unique, value.type);
    },
    nested: (write) => {
      const outer = current;
      const inner: Stmt<Tile>[] = [];
      current = inner;
      write();
      current = outer;
      return inner;
    },
    push: (...statements) => {
      current.push(...statements);
    },
  };
}

/** Name of the table that holds offsets[branch][head], branch-major. */
export const OFFSETS = "offsets";
export const offsetTable = (spec: AttentionShape) => ({
  name: OFFSETS,
  type: "i32" as const,
  values: spec.offsets.flat(),
});

/** Exact integer arithmetic on expressions; conditions known at compile time disappear. */
const arithmetic = <L>() => {
  type E = Expr<L>;
  const known = (c: E): boolean | null => {
    const k = c as Expr;
    return k.e === "const" ? k.value !== 0 : null;
  };
  return {
    of: (n: number): E => i32(n),
    add: add<L>,
    sub: sub<L>,
    mul: mul<L>,
    div: div<L>,
    rem: rem<L>,
    min: min<L>,
    max: max<L>,
    eq: eq<L>,
    lt: lt<L>,
    and: (a: E, b: E): E => {
      const [x, y] = [known(a), known(b)];
      return x === true || y === false ? b : y === true || x === false ? a : and(a, b);
    },
    not: (a: E): E => {
      const x = known(a);
      return x === null ? not(a) : bool(!x);
    },
    select: (c: E, yes: E, no: E): E => {
      const x = known(c);
      return x === null ? select(c, yes, no) : x ? yes : no;
    },
    truth: (value: boolean): E => bool(value),
  };
};

export const expressions = (block: Block, spec: AttentionShape): Integers<Expr, Expr> => ({
  ...arithmetic<never>(),
  offset: (branch, head) => load(OFFSETS, add(mul(branch, i32(spec.heads)), head), "i32"),
  look: ({ name }, index) => load(name, index, "i32"),
  share: block.bind,
  shareCondition: block.bind,
});

/** The same inside `map`, where values may depend on the row; nothing can be bound there. */
export const elementExpressions: Integers<AnyExpr, AnyExpr> = {
  ...arithmetic<Element>(),
  offset: () => {
    throw new Error("heddle: internal: offsets are read before the rows of a tile");
  },
  look: ({ name }) => {
    throw new Error(`heddle: internal: '${name}' is read before the rows of a tile`);
  },
  share: (_, value) => value,
  shareCondition: (_, value) => value,
};
