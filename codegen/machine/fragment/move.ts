/** Spellings of `copy` and `write`, and of the copies that bring weight panels to shared memory. */
import { add, and, at, div, i32, let_, load, lt, mul, op, ref, set, store, var_ } from "../../../src/expr.ts";
import type { Expr, Rows, Stmt, Tile } from "../../../src/kernel.ts";
import type { Warp } from "../../../src/warp.ts";
import { ANY, type Access } from "../simt/barriers.ts";
import { referencesOf } from "../simt/residence.ts";
import { settle } from "./compute.ts";
import { cellOf, lift } from "./element.ts";
import { commit } from "./landing.ts";
import { anew, type Own } from "./lanes.ts";
import type { Panels } from "./shape.ts";
import {
  fragmentIndex,
  loop,
  phase,
  pieceOf,
  warp,
  when,
  type Operand,
  type Site,
  type Step,
} from "./site.ts";

type Of<S extends Tile["s"]> = Extract<Tile, { readonly s: S }>;

/** Names an expression where it is more than a name. */
function binder(site: Site) {
  const pre: Stmt[] = [];
  const bind = (hint: string, e: Expr): Expr => {
    if (e.e === "const" || e.e === "ref") return e;
    const name = site.fresh(hint);
    pre.push(let_(name, e));
    return ref(name, e.type);
  };
  return { pre, bind };
}

/** Rows and pieces of 16 bytes that lanes take in turn: lane l begins with row ⌊l / wide⌋ and takes every `down`-th from there. */
type Part = { readonly first: Expr; readonly chunk: Expr; readonly down: number; readonly turns: number };

/**
 * All pieces of `rows` rows of `chunks` pieces, in parts of 2ⁿ pieces a row: lanes side by side take pieces side by side, no lane is
 * idle, and what a lane adds from turn to turn is a constant.
 */
function partsOf({ lane, once }: Own, lanes: number, rows: number, chunks: number): readonly Part[] {
  const parts: Part[] = [];
  for (let done = 0; done < chunks;) {
    const wide = Math.min(lanes, 2 ** Math.floor(Math.log2(chunks - done)));
    const down = lanes / wide;
    const first = once("down", op("shr", [lane, i32(Math.log2(wide))]));
    const chunk = once("across", add(op("and", [lane, i32(wide - 1)]), i32(done)));
    parts.push({ first, chunk, down, turns: Math.ceil(rows / down) });
    done += wide;
  }
  return parts;
}

/** The row of a turn, whether it is one, and its rest by eight, which is the lane's own where turns go by eights of rows. */
function rowAt({ first, down, turns }: Part, rows: number, t: Expr) {
  const row = add(first, mul(t, i32(down)));
  const is = down * turns <= rows ? null : lt(row, i32(rows));
  return { row, is, row8: op("and", [down % 8 === 0 ? first : row, i32(7)]) };
}

/** Starts the copy of an operand into the stage at a word. */
export function issue(site: Site, p: Operand, rows: Rows, stage: Expr): Step {
  const { pre, bind } = binder(site);
  const [base, stride, count] = [
    bind("base", rows.base),
    bind("stride", rows.stride),
    bind("count", rows.count),
  ];
  const own = anew(site);
  const body = partsOf(own, site.shape.lanes, p.rows, p.chunks).flatMap((part): readonly Stmt<Warp>[] => {
    const [t, from] = [site.fresh("t"), site.fresh("from")];
    const { row, is, row8 } = rowAt(part, p.rows, ref(t));
    const piece = warp(
      "copy_async",
      [
        [p.array, pieceOf(p, row, part.chunk, row8, stage)],
        [rows.buffer, ref(from)],
      ],
      [lt(row, count)],
    );
    return [
      // From turn to turn an address grows by the same, which takes fewer registers than one product for each.
      var_(from, add(add(base, mul(part.first, stride)), mul(part.chunk, i32(8)))),
      loop(t, part.turns, [...when(is, [piece]), set(from, add(ref(from), mul(stride, i32(part.down))))]),
    ];
  });
  return phase(
    [{ array: p.tile, verb: "write", by: ANY }, ...site.touch(rows.buffer, "read", ANY)],
    [...pre, ...own.pre, ...body],
  );
}

/** Starts the copy of `depth` rows of the panels of `cols` columns: row k of a panel is one piece, rows follow one another. */
export function issuePanels(
  site: Site,
  b: Panels,
  depth: number,
  cols: number,
  array: string,
  stage: Expr,
): Step {
  const { pre, bind } = binder(site);
  const from = bind("from", add(add(b.base, mul(div(b.col, i32(8)), i32(8 * b.depth))), mul(b.row, i32(8))));
  const own = anew(site);
  const body = partsOf(own, site.shape.lanes, cols / 8, depth).flatMap((part): readonly Stmt<Warp>[] => {
    const t = site.fresh("t");
    const { row: panel, is } = rowAt(part, cols / 8, ref(t));
    const piece = warp(
      "copy_async",
      [
        [array, add(mul(add(mul(panel, i32(depth)), part.chunk), i32(4)), stage)],
        [b.buffer, add(from, add(mul(panel, i32(8 * b.depth)), mul(part.chunk, i32(8))))],
      ],
      // Panels are full: columns past the matrix are stored as zeros.
      [{ e: "const", type: "bool", value: 1 }],
    );
    return [loop(t, part.turns, when(is, [piece]))];
  });
  return phase(
    [{ array, verb: "write", by: ANY }, ...site.touch(b.buffer, "read", ANY)],
    [...pre, ...own.pre, ...body],
  );
}

export function copy(s: Of<"copy">, site: Site): readonly Step[] {
  const p = site.place(s.tile);
  if (p.at === "operand") {
    if (s.scale === undefined) site.flow.factor.delete(s.tile);
    else site.flow.factor.set(s.tile, s.scale);
    site.flow.awaited.add(s.tile);
    return [issue(site, p, s.rows, i32(0)), commit];
  }
  site.flow.zero.delete(s.tile);
  site.flow.factor.delete(s.tile);
  site.flow.parted.delete(s.tile);
  const { pre, bind } = binder(site);
  const { rows } = s;
  const [base, stride, count] = [
    bind("base", rows.base),
    bind("stride", rows.stride),
    bind("count", rows.count),
  ];
  const scaled = (x: Expr): Expr => (s.scale === undefined ? x : mul(x, s.scale));
  const zero: Expr = { e: "const", type: "f32", value: 0 };
  if (p.at === "line") {
    const j = site.fresh("j");
    const read = (e: number) =>
      store(
        p.array,
        add(mul(ref(j), i32(2)), i32(e)),
        scaled(load(rows.buffer, add(base, add(site.lane.col(ref(j)), i32(e))))),
      );
    // A line has one row: all of it is there, or nothing.
    const none = (e: number) => store(p.array, add(mul(ref(j), i32(2)), i32(e)), zero);
    const body: Stmt<Warp> = {
      s: "if",
      cond: lt(i32(0), count),
      then: [read(0), read(1)],
      else: [none(0), none(1)],
    };
    return [phase(site.touch(rows.buffer, "read", "line"), [...pre, loop(j, p.cols / 8, [body])])];
  }
  const r = site.fresh("r");
  const row = site.lane.row(ref(r));
  const start = add(base, mul(row, stride));
  if (p.at === "column") {
    const body: Stmt<Warp> = {
      s: "if",
      cond: lt(row, count),
      then: [store(p.array, ref(r), scaled(load(rows.buffer, start)))],
      else: [store(p.array, ref(r), zero)],
    };
    return [phase(site.touch(rows.buffer, "read", "column"), [...pre, loop(r, site.lane.bands, [body])])];
  }
  const j = site.fresh("j");
  const other = site.fresh("j");
  const index = (e: number, eight = j) => fragmentIndex(p.cols / 8, ref(r), ref(eight), e);
  const taken: readonly Stmt<Warp>[] = [
    warp("load_pair", [
      [p.array, index(0)],
      [rows.buffer, add(start, site.lane.col(ref(j)))],
    ]),
    ...(s.scale === undefined
      ? []
      : [0, 1].map((e) => store(p.array, index(e), scaled(load(p.array, index(e)))))),
  ];
  const none = [0, 1].map((e) => store(p.array, index(e, other), zero));
  const body: Stmt<Warp> = {
    s: "if",
    cond: lt(row, count),
    then: [loop(j, p.cols / 8, taken)],
    else: [loop(other, p.cols / 8, none)],
  };
  return [phase(site.touch(rows.buffer, "read", "fragment"), [...pre, loop(r, site.lane.bands, [body])])];
}

export function write(s: Of<"write">, site: Site): readonly Step[] {
  const p = site.place(s.tile);
  const value = s.value ?? at(s.tile);
  const before = settle(
    site,
    referencesOf(value).map((x) => x.tile),
  );
  const { pre, bind } = binder(site);
  const { rows } = s;
  const [base, stride, count] = [
    bind("base", rows.base),
    bind("stride", rows.stride),
    bind("count", rows.count),
  ];
  const accesses: Access[] = [...site.touch(rows.buffer, "write", p.at)];
  const r = site.fresh("r");
  const row = site.lane.row(ref(r));
  const start = add(base, mul(row, stride));
  if (p.at === "column") {
    const body = when(and(lt(row, count), site.lane.first), [
      store(rows.buffer, start, lift(site, cellOf(site, ref(r), i32(0), 0), value)),
    ]);
    // Four lanes read what one of them writes.
    return [
      ...before,
      phase(site.touch(rows.buffer, "write", "column, once"), [...pre, loop(r, site.lane.bands, body)]),
    ];
  }
  if (p.at !== "fragment") throw new Error(`heddle: internal: fragment: '${s.tile}' is written`);
  const j = site.fresh("j");
  const pair = warp(
    "store_pair",
    [[rows.buffer, add(start, site.lane.col(ref(j)))]],
    [lift(site, cellOf(site, ref(r), ref(j), 0), value), lift(site, cellOf(site, ref(r), ref(j), 1), value)],
  );
  const body = when(lt(row, count), [loop(j, p.cols / 8, [pair])]);
  return [...before, phase(accesses, [...pre, loop(r, site.lane.bands, body)])];
}
