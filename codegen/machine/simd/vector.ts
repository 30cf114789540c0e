/**
 * Turns the value of a `map` or `write`, which speaks of one element, into vectors of four along an axis of the tile.
 * What does not change along the axis is computed once per line, what does not change at all once before the loops;
 * nodes that an expression uses several times are bound by `let`, since an expression prints as a tree.
 */
import type { Expr, Stmt } from "../../../src/kernel.ts";
import { add, i32, isVector, let_, load, op, ref, splat, vectorOf } from "../../../src/expr.ts";
import type { Column, Place, SimdSite } from "./layout.ts";
import { anyColumnOffset, columnAt, columnIndex, columnOffset, fail, lineBase, sum } from "./layout.ts";
import type { Axis, Node } from "./survey.ts";
import { shareParts, slope, survey } from "./survey.ts";

/** When a value is known: before all loops, once per line, or only at a position of the axis. */
type Level = 0 | 1 | 2;
type Lifted = { readonly expr: Expr; readonly level: Level };
type Position = {
  readonly at: Column;
  readonly lanes: 1 | 4;
  readonly out: Stmt[];
  readonly memo: Map<Node, Lifted>;
};

export type Lifter = {
  /** Statements to stand before all loops, and at the start of each line; complete once all positions are lifted. */
  readonly before: readonly Stmt[];
  readonly perLine: readonly Stmt[];
  /** The value at a position; statements it needs are appended to `out`. */
  readonly value: (at: Column, lanes: 1 | 4, out: Stmt[]) => Expr;
};

const PICK = { flip: [1, 0, 3, 2], even: [0, 0, 2, 2], odd: [1, 1, 3, 3] } as const;
type Pick = keyof typeof PICK;
const picked = (j: number, pick: Pick): number =>
  pick === "flip" ? j ^ 1 : pick === "even" ? j & ~1 : j | 1;

/** Four scalars as a vector. */
function gather(lanes: readonly Expr[]): Expr {
  const [a, b, c, d] = lanes.map((x) => splat(x));
  if (a === undefined || b === undefined || c === undefined || d === undefined)
    return fail("gathers four lanes");
  const pair = (x: Expr, y: Expr) => op("shuffle", [x, y], [0, 4, 0, 4]);
  return op("shuffle", [pair(a, b), pair(c, d)], [0, 1, 4, 5]);
}

const powerOfTwo = (e: Node | undefined): number | undefined =>
  e?.e === "const" && e.value > 0 && (e.value & (e.value - 1)) === 0 ? 31 - Math.clz32(e.value) : undefined;

/**
 * Prepares to lift `root` along `axis`; `line` is the index on the other axis. In a tile whose rows are too short for
 * `axis` the caller lifts single lanes: `pick` and broadcast mean the same there.
 */
export function lifter(site: SimdSite, value: Node, axis: Axis, line: Expr): Lifter {
  const root = shareParts(value);
  const { uses, varies } = survey(site, root, axis);
  const before: Stmt[] = [];
  const perLine: Stmt[] = [];
  /** Values that do not vary, and vectors that are the same at every position. */
  const steady = new Map<Node, Lifted>();
  const periodic = new Map<Node, Lifted>();
  const bases = new Map<string, Expr>();

  const bind = (level: Level, expr: Expr, position: Position, hint: string): Expr => {
    if (expr.e === "const" || expr.e === "ref" || expr.e === "builtin") return expr;
    const name = site.fresh(hint);
    (level === 0 ? before : level === 1 ? perLine : position.out).push(let_(name, expr));
    return ref(name, expr.type);
  };
  /** An expression that may stand in a statement of `level`; bound once, however many positions ask. */
  const boundScalars = new WeakMap<Lifted, Expr>();
  const boundVectors = new WeakMap<Lifted, Expr>();
  const scalarAt = (x: Lifted, level: Level, position: Position): Expr => {
    if (x.level >= level) return x.expr;
    const bound = boundScalars.get(x) ?? bind(x.level, x.expr, position, "u");
    boundScalars.set(x, bound);
    return bound;
  };
  const vectorAt = (x: Lifted, level: Level, position: Position): Expr => {
    if (isVector(x.expr.type)) return scalarAt(x, level, position);
    const wide = (e: Expr) => (e.type === "bool" ? splatBool(e) : splat(e));
    if (x.level === level) return wide(x.expr);
    const bound = boundVectors.get(x) ?? bind(x.level, wide(x.expr), position, "w");
    boundVectors.set(x, bound);
    return bound;
  };
  const lineOf = (p: Place, i: Expr, level: Level, position: Position): Expr => {
    const key = `${p.kind} ${p.kind === "rows" ? p.ld : p.cols}`;
    if (level === 2) return lineBase(p, i);
    const known = bases.get(key);
    if (known !== undefined) return known;
    const bound = bind(1, lineBase(p, i), position, "line");
    bases.set(key, bound);
    return bound;
  };

  const element = (tile: string, pick: Pick | undefined, position: Position): Lifted => {
    const p = site.place(tile);
    const { at, lanes } = position;
    const along = axis === "col" ? p.cols > 1 : p.rows > 1;
    const across = axis === "col" ? p.rows > 1 : p.cols > 1;
    const other = across ? line : i32(0);
    if (!along) {
      const index =
        axis === "col"
          ? p.rows > 1
            ? sum(lineOf(p, other, 1, position), columnOffset(p, columnAt(0)))
            : columnOffset(p, columnAt(0))
          : anyColumnOffset(p, pickedLine(p, other, pick));
      return { expr: load(p.name, index), level: 1 };
    }
    const start = across && axis === "col" ? lineOf(p, other, 1, position) : lineBase(p, i32(0));
    const indexOf = (lane: number): Expr => {
      const here = { base: at.base, plus: at.plus + lane };
      if (axis === "col") return sum(start, columnOffset(p, here));
      return sum(lineBase(p, columnIndex(here)), anyColumnOffset(p, pickedLine(p, other, pick)));
    };
    if (lanes === 1) {
      const lane = axis === "col" && pick !== undefined ? picked(at.plus, pick) - at.plus : 0;
      return { expr: load(p.name, indexOf(lane)), level: 2 };
    }
    const contiguous = axis === "col" ? p.kind !== "turned" : p.kind === "turned" || p.ld === 1;
    const whole = contiguous
      ? load(p.name, indexOf(0), "f32x4")
      : gather([0, 1, 2, 3].map((u) => load(p.name, indexOf(u))));
    if (axis === "row" || pick === undefined) return { expr: whole, level: 2 };
    const once = bind(2, whole, position, "pair");
    return { expr: op("shuffle", [once, once], PICK[pick]), level: 2 };
  };

  const lanesOf = (node: Node, position: Position): readonly Expr[] =>
    [0, 1, 2, 3].map((u) => {
      const at = { base: position.at.base, plus: position.at.plus + u };
      return lift(node, { at, lanes: 1, out: position.out, memo: new Map() }).expr;
    });

  const loaded = (node: Extract<Node, { e: "load" }>, position: Position): Lifted => {
    if (!varies(node.index) || position.lanes === 1) {
      const index = lift(node.index, position);
      const level: Level = index.level === 2 ? 2 : 1;
      return { expr: load(node.from, scalarAt(index, level, position), node.type), level };
    }
    if (slope(node.index, axis) === 1) {
      const index = lift(node.index, { ...position, lanes: 1, memo: new Map() });
      const type = node.type === "i32" ? vectorOf("i32") : vectorOf("f32");
      return { expr: load(node.from, scalarAt(index, 2, position), type), level: 2 };
    }
    return { expr: fourOf(node, position), level: 2 };
  };
  /** Lane by lane, where no vector operation exists. */
  const fourOf = (node: Node, position: Position): Expr => {
    const lanes = lanesOf(node, position);
    if ((node as Expr).type === "f32") return gather(lanes);
    // Integers as bits of floats could be NaN, so they are put together by choice.
    const [a, b, c, d] = lanes.map((x) => splat(x));
    if (a === undefined || b === undefined || c === undefined || d === undefined)
      return fail("gathers four lanes");
    const choose = (u: number, x: Expr, rest: Expr): Expr =>
      op("select", [op("eq", [op("iota", [i32(0)]), splat(i32(u))]), x, rest]);
    return choose(0, a, choose(1, b, choose(2, c, d)));
  };

  const operated = (node: Extract<Node, { e: "op" }>, position: Position): Lifted => {
    const first = node.args[0];
    if (position.lanes === 4 && node.op === "and" && first?.e === axis) {
      // Positions start at multiples of four, so the low bits of the axis are the same in every vector.
      const mask = node.args[1];
      if (mask?.e === "const" && mask.value >= 0 && mask.value < 4)
        return { expr: op("and", [op("iota", [i32(0)]), splat(mask)]), level: 0 };
    }
    if (
      position.lanes === 4 &&
      varies(node) &&
      (node.op === "div" || node.op === "rem") &&
      node.type === "i32"
    ) {
      const shift = powerOfTwo(node.args[1]);
      const dividend = node.args[0];
      if (shift === undefined || dividend === undefined) return { expr: fourOf(node, position), level: 2 };
      const x = lift(dividend, position);
      const wide = vectorAt(x, x.level, position);
      const by = splat(i32(node.op === "div" ? shift : (1 << shift) - 1));
      return { expr: op(node.op === "div" ? "shr" : "and", [wide, by]), level: x.level };
    }
    const args = node.args.map((a) => lift(a, position));
    const level = args.reduce<Level>((l, a) => (a.level > l ? a.level : l), 0);
    if (args.every((a) => !isVector(a.expr.type))) {
      const plain = args.map((a) => scalarAt(a, level, position));
      const [x, y] = plain;
      if (node.op === "add" && node.type === "i32" && x !== undefined && y !== undefined)
        return { expr: sum(x, y), level };
      return { expr: op(node.op, plain, node.imm), level };
    }
    const wide = args.map((a, k) =>
      node.op === "select" && k === 0 && !isVector(a.expr.type)
        ? scalarAt(a, level, position)
        : vectorAt(a, level, position),
    );
    return { expr: op(node.op, wide, node.imm), level };
  };

  const lift = (node: Node, position: Position): Lifted => {
    const memo = varies(node) ? position.memo : steady;
    const known = memo.get(node) ?? (position.lanes === 4 ? periodic.get(node) : undefined);
    if (known !== undefined) return known;
    const fresh = ((): Lifted => {
      switch (node.e) {
        case "const":
        case "ref":
        case "builtin":
          return { expr: node, level: 0 };
        case "row":
        case "col":
          if (node.e !== axis) return { expr: line, level: 1 };
          return position.lanes === 1
            ? { expr: columnIndex(position.at), level: 2 }
            : { expr: op("iota", [columnIndex(position.at)]), level: 2 };
        case "at":
          return element(node.tile, node.pick, position);
        case "load":
          return loaded(node, position);
        case "op":
          if (isVector(node.type))
            return fail(`the value of an element holds the vector operation '${node.op}'`);
          return operated(node, position);
      }
    })();
    // A steady value is bound where it is known; one that varies only if it is used again.
    const same = varies(node) && position.lanes === 4 && fresh.level < 2;
    const bound =
      same || uses(node) > 1 || (!varies(node) && node.e === "at")
        ? { expr: bind(fresh.level, fresh.expr, position, "v"), level: fresh.level }
        : fresh;
    (same ? periodic : memo).set(node, bound);
    return bound;
  };

  const valueAt = (at: Column, lanes: 1 | 4, out: Stmt[]): Expr => {
    const position: Position = { at, lanes, out, memo: new Map() };
    const top = lift(root, position);
    return lanes === 1 ? scalarAt(top, 2, position) : vectorAt(top, 2, position);
  };
  return { before, perLine, value: valueAt };
}

/** Another column of the same pair, for a column known at run time or not. */
function pickedLine(p: Place, j: Expr, pick: Pick | undefined): Expr {
  if (pick === undefined || p.cols === 1) return j;
  if (j.e === "const") return i32(picked(j.value, pick));
  if (pick === "flip") return op("xor", [j, i32(1)]);
  const even = op("and", [j, i32(~1)]);
  return pick === "even" ? even : add(even, i32(1));
}

/** Booleans have no splat on every target; their integers do. */
function splatBool(e: Expr): Expr {
  return op("ne", [splat(op("select", [e, i32(1), i32(0)])), splat(i32(0))]);
}
