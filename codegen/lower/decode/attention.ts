/**
 * Attention of one token for each sequence over the cache: a group for each query head stores the token where it is the first head of a
 * stream, and walks the pieces of all branches that its query takes part in with one online softmax. The newest key comes from k and v,
 * so that no group waits for what another stores.
 */
import {
  add,
  at,
  col,
  div,
  eq,
  f32,
  float,
  group,
  i32,
  load,
  lt,
  mul,
  ref,
  rem,
  set,
  sub,
  var_,
} from "../../../src/expr.ts";
import type { AnyExpr } from "../../../src/expr.ts";
import { cachePieces, takesPart } from "../../../src/geometry.ts";
import type { Node } from "../../../src/graph.ts";
import type { Element, Expr, Rows, Stmt, Tile, TileKernel } from "../../../src/kernel.ts";
import { expressions, OFFSETS, offsetTable, type Block } from "../attention/integers.ts";
import { absorb, empty, finish, LOG2E, map, mask, stateTiles } from "../attention/state.ts";
import { decayTables, rebase } from "../attention/decay.ts";
import type { AttentionNode } from "../attention/tiles.ts";
import type { Launch } from "../launch.ts";
import { timesOf } from "../shape.ts";
import type { Tilings } from "../tilings.ts";
import { mergeLaunch, partLse, partRows, partValues } from "./merge.ts";
import { cacheRows, newBlock, PLACE, placeOf, shapeFor, STREAMS, streamTable } from "./cache.ts";

type DecodeNode = Extract<Node, { readonly op: "decode" }>;

/** Whether a head is the first that reads its stream: it stores what the stream gets. */
const OWNERS = "owners";
const KEYS = 32;

export function lowerDecode(node: DecodeNode, tilings: Tilings): readonly Launch<TileKernel>[] {
  const { spec } = node;
  const keys = tilings.decodeKeys?.(spec.headDim) ?? KEYS;
  const parts = tilings.decodeParts?.(spec) ?? 1;
  const bind = {
    q: { value: node.q },
    k: { value: node.k },
    v: { value: node.v },
    place: { value: node.place },
    cache: { value: node.state },
  };
  const split = parts > 1;
  const to = split
    ? { parts: { value: `${node.out}.parts` }, part_lse: { value: `${node.out}.part_lse` } }
    : { out: { value: node.out } };
  return [
    {
      title: `${spec.name}: decode ${node.out}`,
      kernel: decodeKernel(node, keys, parts),
      bind: { ...bind, ...to },
      scalars: { B: "B" },
      grid: timesOf("B", spec.heads * parts),
      ...(split ? { temporaries: partValues(node.out, spec, parts) } : {}),
    },
    ...(split ? [mergeLaunch(node.out, spec, parts)] : []),
  ];
}

function decodeKernel(node: DecodeNode, keys: number, parts: number): TileKernel {
  const { spec, decay } = node;
  const { heads, kvHeads, headDim, branches } = spec;
  const shape = shapeFor(spec);
  const mean = spec.combine === "mean" && branches.length > 1;
  const b = newBlock();
  const I = expressions(b, spec);
  const query = parts === 1 ? group : b.bind("query", div(group, i32(parts)));
  const part = parts === 1 ? i32(0) : b.bind("part", rem(group, i32(parts)));
  const head = b.bind("head", rem(query, i32(heads)));
  const sequence = b.bind("sequence", div(query, i32(heads)));
  /** One of the parts stores the token, and counts it. */
  const first = I.eq(part, i32(0));
  const place = placeOf(b, sequence);
  const t = place.position;
  const cache = cacheRows(b, spec, place);
  const queryBlock = decay === undefined ? i32(0) : b.bind("query_block", div(t, i32(decay.block)));
  // What reading tiles of keys asks of a node.
  const work: AttentionNode = { ...node, op: "attention", lse: "" };
  const kvHead = kvHeads === heads ? head : div(head, i32(heads / kvHeads));
  const rowOf = (buffer: string, width: number, at: Expr): Rows => ({
    buffer,
    base: mul(add(mul(sequence, i32(width)), at), i32(headDim)),
    stride: i32(headDim),
    count: i32(1),
    cols: headDim,
  });
  const given = { k: rowOf("k", kvHeads, kvHead), v: rowOf("v", kvHeads, kvHead) };
  const streamOf = (branch: number) => load(STREAMS, add(i32(branch * heads), head), "i32");
  const offsets = branches.map((_, branch) =>
    b.bind("offset", load(OFFSETS, add(i32(branch * heads), head), "i32")),
  );
  const offsetOf = (branch: number): Expr => offsets[branch] ?? i32(0);
  const covered = shape.regions.map((r) =>
    b.bind("covered", I.select(takesPart(I, r, offsetOf(r.branch), t), i32(1), i32(0))),
  );
  const inBranch = (branch: number): Expr => covered[branch] ?? i32(0);

  b.push(
    { s: "copy", tile: "Q", rows: rowOf("q", heads, head), scale: f32(spec.scale * LOG2E) },
    { s: "copy", tile: "new_k", rows: given.k },
    { s: "copy", tile: "new_v", rows: given.v },
  );
  for (const region of shape.regions) {
    if (region.parent !== null) continue;
    const { branch, segment, dilation } = region;
    const owner = eq(load(OWNERS, add(i32(branch * heads), head), "i32"), i32(1));
    const body = b.nested(() => {
      const row = div(rem(t, i32(segment)), i32(dilation));
      const to = b.bind("to", cache.rowOf(branch, streamOf(branch), row));
      b.push(
        { s: "write", tile: "new_k", rows: cache.rows(to, "key", i32(1), i32(1)) },
        { s: "write", tile: "new_v", rows: cache.rows(to, "value", i32(1), i32(1)) },
      );
    });
    const stores = I.and(I.and(eq(inBranch(branch), i32(1)), owner), first);
    b.push({ s: "if", cond: stores, then: body });
  }

  /** Absorbs a tile of keys that is read by `read`; columns from `count` on are none. */
  const absorbTile = (read: readonly Stmt<Tile>[], count: Expr, times: AnyExpr | null): void => {
    const inside: AnyExpr = lt<Element>(col, count);
    b.push(
      ...read,
      { s: "fill", tile: "S", value: f32(0) },
      { s: "mma", acc: "S", a: "Q", b: "K", transposed: true },
      { s: "if", cond: lt(count, i32(keys)), then: [mask(inside)] },
      ...absorb(times, [], [{ s: "mma", acc: "O", a: "S", b: "V" }]),
    );
  };
  const newest = (times: AnyExpr | null): void =>
    absorbTile(
      [
        { s: "copy", tile: "K", rows: given.k },
        { s: "copy", tile: "V", rows: given.v },
      ],
      i32(1),
      times,
    );
  /** Walks the pieces of some branches as far as they lie before t, in one loop so that their tiles are written out once. */
  const walk = (of: readonly number[]): void => {
    const pieces = of.flatMap((branch) => (shape.chains[branch] ?? []).map((_, i) => ({ branch, i })));
    const turn = ref("turn");
    const body = b.nested(() => {
      for (const name of ["from", "step", "token", "apart", "count"]) b.push(var_(`piece_${name}`, i32(0)));
      pieces.forEach(({ branch, i }, number) => {
        const mine = b.nested(() => {
          const piece = cachePieces(I, shape, branch, offsetOf(branch), t, t)[i];
          if (piece === undefined) return;
          b.push(
            set("piece_from", cache.rowOf(piece.region, streamOf(piece.region), piece.row)),
            set("piece_step", i32(piece.step)),
            set("piece_token", piece.token),
            set("piece_apart", i32(branches[branch]?.dilation ?? 1)),
            set("piece_count", piece.count),
          );
        });
        const cond = I.and(eq(turn, i32(number)), eq(inBranch(branch), i32(1)));
        b.push({ s: "if", cond, then: mine });
      });
      const j0 = ref("j0");
      const loop = b.nested(() => {
        const count = b.bind("width", I.min(i32(keys), sub(ref("piece_count"), j0)));
        const first = b.bind("at", add(ref("piece_from"), mul(j0, ref("piece_step"))));
        const tokens = {
          position: b.bind("key", add(ref("piece_token"), mul(j0, ref("piece_apart")))),
          step: ref("piece_apart"),
          count,
        };
        b.push({ s: "copy", tile: "K", rows: cache.rows(first, "key", ref("piece_step"), count) });
        rebase(b, work, "K", tokens, queryBlock, -1);
        absorbTile(
          [{ s: "copy", tile: "V", rows: cache.rows(first, "value", ref("piece_step"), count) }],
          count,
          null,
        );
      });
      const from = mul(part, i32(keys));
      b.push({ s: "for", name: "j0", from, to: ref("piece_count"), step: keys * parts, body: loop });
    });
    b.push({ s: "for", name: "turn", from: i32(0), to: i32(pieces.length), step: 1, body });
  };

  const out = rowOf("out", heads, head);
  const members = covered.reduce<Expr>((sum, c) => add(sum, c), i32(0));
  if (mean) {
    b.push(
      ...sumsOf(b, branches.length, inBranch, (branch) => {
        walk([branch]);
        newest(null);
      }),
    );
    const share = float(I.max(members, i32(1)));
    b.push({ s: "write", tile: "sum", rows: out, value: divided(at("sum"), share) });
  } else {
    b.push(...empty);
    walk(branches.map((_, branch) => branch));
    const all = b.bind("members", members);
    const last = b.nested(() => newest(float(all)));
    b.push({ s: "if", cond: I.and(I.lt(i32(0), all), first), then: last });
    if (parts === 1) b.push(...finish(out, null));
    else b.push(...finish(partRows(group, 1, headDim), partLse(group, 1)));
  }

  return {
    name: `decode_${spec.name}${decay === undefined ? "" : `_xpos${decay.base}`}_${keys}${parts === 1 ? "" : `_${parts}`}`,
    buffers: [
      { name: "q", dtype: "f32", access: "read" },
      { name: "k", dtype: "f32", access: "read" },
      { name: "v", dtype: "f32", access: "read" },
      PLACE,
      { name: "cache", dtype: "f32", access: "readwrite" },
      ...(parts === 1 ? ["out"] : ["parts", "part_lse"]).map(
        (name) => ({ name, dtype: "f32", access: "write" }) as const,
      ),
    ],
    scalars: [{ name: "B", type: "i32" }],
    tables: [offsetTable(spec), streamTable(spec), ownerTable(node), ...decayTables(work)],
    shared: [],
    workgroup: 1,
    tiles: [
      { name: "Q", rows: 1, cols: headDim },
      { name: "K", rows: keys, cols: headDim },
      { name: "V", rows: keys, cols: headDim },
      { name: "new_k", rows: 1, cols: headDim },
      { name: "new_v", rows: 1, cols: headDim },
      ...stateTiles(1, keys, headDim),
      ...(mean ? [{ name: "sum", rows: 1, cols: headDim }] : []),
    ],
    body: b.out,
  };
}

const divided = (a: AnyExpr, by: AnyExpr): AnyExpr => ({ e: "op", type: "f32", op: "div", args: [a, by] });

const ownerTable = ({ spec }: DecodeNode) => ({
  name: OWNERS,
  type: "i32" as const,
  values: shapeFor(spec).regions.flatMap(({ streamOf }) =>
    streamOf.map((s, h) => (streamOf.indexOf(s) === h ? 1 : 0)),
  ),
});

/** `combine mean`: each branch that covers the query has a softmax of its own, and their outputs are summed. */
function sumsOf(
  b: Block,
  count: number,
  inBranch: (branch: number) => Expr,
  attend: (branch: number) => void,
): readonly Stmt<Tile>[] {
  return b.nested(() => {
    b.push({ s: "fill", tile: "sum", value: f32(0) });
    for (let branch = 0; branch < count; branch++) {
      const body = b.nested(() => {
        b.push(...empty);
        attend(branch);
        // A branch that covers the query holds at least its own key.
        b.push(map("sum", add<Element>(at("sum"), divided(at("O"), at("l")))));
      });
      b.push({ s: "if", cond: eq(inBranch(branch), i32(1)), then: body });
    }
  });
}
