/**
 * Turns the value of a `map` or `write`, which speaks of one element, into vectors along an axis of the tile.
 * What does not change along the axis is computed once per line, what does not change at all once before the loops;
 * nodes that an expression uses several times are bound by `let`, since an expression prints as a tree.
 */
import type { Expr, Stmt, Width } from "../../../src/kernel.ts";
import {
  add,
  i32,
  iota,
  isVector,
  let_,
  load,
  op,
  ref,
  splat,
  vectorOf,
  widened,
} from "../../../src/expr.ts";
import type { Column, Place, SimdSite } from "./layout.ts";
import { anyColumnOffset, columnAt, columnIndex, columnOffset, fail, lineBase, sum } from "./layout.ts";
import type { Lanes } from "./lines.ts";
import type { Axis, Node } from "./survey.ts";
import { shareParts, slope, survey } from "./survey.ts";

/** When a value is known: before all loops, once per line, or only at a position of the axis. */
type Level = 0 | 1 | 2;
type Lifted = { readonly expr: Expr; readonly level: Level };
type Position = {
  readonly at: Column;
  readonly lanes: Lanes;
  readonly out: Stmt[];
  readonly memo: Map<Node, Lifted>;
};

export type Lifter = {
  /** Statements to stand before all loops, and at the start of each line; complete once all positions are lifted. */
  readonly before: readonly Stmt[];
  readonly perLine: readonly Stmt[];
  /** The value at a position; statements it needs are appended to `out`. */
  readonly value: (at: Column, lanes: Lanes, out: Stmt[]) => Expr;
};

type Pick = "flip" | "even" | "odd";
const picked = (j: number, pick: Pick): number =>
  pick === "flip" ? j ^ 1 : pick === "even" ? j & ~1 : j | 1;

const numbersBelow = (n: number): readonly number[] => Array.from({ length: n }, (_, i) => i);

/** As many scalars as a vector has lanes, as one: by twos, then by fours, … */
function gather(given: readonly Expr[], lanes: Width): Expr {
  let parts: readonly Expr[] = given.map((x) => splat(x, lanes));
  for (let held = 1; parts.length > 1; held *= 2) {
    // A part holds its lanes from 0 on, again and again until the vector is full.
    const imm = numbersBelow(lanes).map((l) => {
      const place = l % (2 * held);
      return place < held ? place : lanes + place - held;
    });
    parts = numbersBelow(parts.length / 2).map((i) => {
      const [a, b] = [parts[2 * i], parts[2 * i + 1]];
      return a === undefined || b === undefined
        ? fail("gathers as many scalars as a vector has lanes")
        : op("shuffle", [a, b], imm);
    });
  }
  return parts[0] ?? fail("gathers nothing");
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
  const periodics = new Map<Lanes, Map<Node, Lifted>>();
  const periodicOf = (lanes: Lanes): Map<Node, Lifted> => {
    const known = periodics.get(lanes) ?? new Map<Node, Lifted>();
    periodics.set(lanes, known);
    return known;
  };
  const bases = new Map<string, Expr>();

  const bind = (level: Level, expr: Expr, position: Position, hint: string): Expr => {
    if (expr.e === "const" || expr.e === "ref" || expr.e === "builtin") return expr;
    const name = site.fresh(hint);
    (level === 0 ? before : level === 1 ? perLine : position.out).push(let_(name, expr));
    return ref(name, expr.type);
  };
  /** An expression that may stand in a statement of `level`; bound once, however many positions ask. */
  const boundScalars = new WeakMap<Lifted, Expr>();
  const boundVectors = new WeakMap<Lifted, Map<Lanes, Expr>>();
  const scalarAt = (x: Lifted, level: Level, position: Position): Expr => {
    if (x.level >= level) return x.expr;
    const bound = boundScalars.get(x) ?? bind(x.level, x.expr, position, "u");
    boundScalars.set(x, bound);
    return bound;
  };
  const vectorAt = (x: Lifted, level: Level, position: Position): Expr => {
    if (isVector(x.expr.type)) return scalarAt(x, level, position);
    const { lanes } = position;
    if (lanes === 1) return fail("a single lane is no vector");
    const wide = (e: Expr) => (e.type === "bool" ? splatBool(e, lanes) : splat(e, lanes));
    if (x.level === level) return wide(x.expr);
    const byLanes = boundVectors.get(x) ?? new Map<Lanes, Expr>();
    boundVectors.set(x, byLanes);
    const bound = byLanes.get(lanes) ?? bind(x.level, wide(x.expr), position, "w");
    byLanes.set(lanes, bound);
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
      ? load(p.name, indexOf(0), widened("f32", lanes))
      : gather(
          numbersBelow(lanes).map((u) => load(p.name, indexOf(u))),
          lanes,
        );
    if (axis === "row" || pick === undefined) return { expr: whole, level: 2 };
    const once = bind(2, whole, position, "pair");
    return {
      expr: op(
        "shuffle",
        [once, once],
        numbersBelow(lanes).map((l) => picked(l, pick)),
      ),
      level: 2,
    };
  };

  const lanesOf = (node: Node, position: Position): readonly Expr[] =>
    numbersBelow(position.lanes).map((u) => {
      const at = { base: position.at.base, plus: position.at.plus + u };
      return lift(node, { at, lanes: 1, out: position.out, memo: new Map() }).expr;
    });

  const loaded = (node: Extract<Node, { e: "load" }>, position: Position): Lifted => {
    const { lanes } = position;
    if (!varies(node.index) || lanes === 1) {
      const index = lift(node.index, position);
      const level: Level = index.level === 2 ? 2 : 1;
      return { expr: load(node.from, scalarAt(index, level, position), node.type), level };
    }
    if (slope(node.index, axis) === 1) {
      const index = lift(node.index, { ...position, lanes: 1, memo: new Map() });
      const type = vectorOf(node.type === "i32" ? "i32" : "f32", lanes);
      return { expr: load(node.from, scalarAt(index, 2, position), type), level: 2 };
    }
    return { expr: laneByLane(node, position, lanes), level: 2 };
  };
  /** Where no vector operation exists. */
  const laneByLane = (node: Node, position: Position, width: Width): Expr => {
    const lanes = lanesOf(node, position);
    if ((node as Expr).type === "f32") return gather(lanes, width);
    // Integers as bits of floats could be NaN, so they are put together by choice.
    const choose = (u: number, x: Expr, rest: Expr): Expr =>
      op("select", [op("eq", [iota(i32(0), width), splat(i32(u), width)]), x, rest]);
    const wide = lanes.map((x) => splat(x, width));
    const last = wide.at(-1) ?? fail("gathers as many lanes as a vector has");
    return wide.slice(0, -1).reduceRight((rest, x, u) => choose(u, x, rest), last);
  };

  const operated = (node: Extract<Node, { e: "op" }>, position: Position): Lifted => {
    const first = node.args[0];
    const { lanes } = position;
    if (lanes !== 1 && node.op === "and" && first?.e === axis) {
      // Positions start at multiples of the lanes, so the low bits of the axis are the same in every vector.
      const mask = node.args[1];
      if (mask?.e === "const" && mask.value >= 0 && mask.value < lanes)
        return { expr: op("and", [iota(i32(0), lanes), splat(mask, lanes)]), level: 0 };
    }
    if (lanes !== 1 && varies(node) && (node.op === "div" || node.op === "rem") && node.type === "i32") {
      const shift = powerOfTwo(node.args[1]);
      const dividend = node.args[0];
      if (shift === undefined || dividend === undefined)
        return { expr: laneByLane(node, position, lanes), level: 2 };
      const x = lift(dividend, position);
      const wide = vectorAt(x, x.level, position);
      const by = splat(i32(node.op === "div" ? shift : (1 << shift) - 1), lanes);
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
    const wide = position.lanes > 1;
    const periodic = periodicOf(position.lanes);
    const known = memo.get(node) ?? (wide ? periodic.get(node) : undefined);
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
            : { expr: iota(columnIndex(position.at), position.lanes), level: 2 };
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
    const same = varies(node) && wide && fresh.level < 2;
    const bound =
      same || uses(node) > 1 || (!varies(node) && node.e === "at")
        ? { expr: bind(fresh.level, fresh.expr, position, "v"), level: fresh.level }
        : fresh;
    (same ? periodic : memo).set(node, bound);
    return bound;
  };

  const valueAt = (at: Column, lanes: Lanes, out: Stmt[]): Expr => {
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
function splatBool(e: Expr, lanes: Width): Expr {
  return op("ne", [splat(op("select", [e, i32(1), i32(0)]), lanes), splat(i32(0), lanes)]);
}
