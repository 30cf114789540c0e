/** What a prompt leaves in the cache, and what moves in it when the segment of a parent ends. */
import { add, div, group, i32, load, mul, ref, rem, sub } from "../../../src/expr.ts";
import { ALL, cachePieces, moves, regionAt } from "../../../src/geometry.ts";
import type { Node } from "../../../src/graph.ts";
import type { Expr, Size, TileKernel } from "../../../src/kernel.ts";
import type { AttentionSpec } from "../../../src/spec.ts";
import { expressions, type Block } from "../attention/integers.ts";
import type { Launch } from "../launch.ts";
import { ceilDivOf, timesOf } from "../shape.ts";
import {
  cacheRows,
  newBlock,
  PLACE,
  placeOf,
  shapeFor,
  STREAMS,
  streamTable,
  streamTables,
} from "./cache.ts";

type NodeOf<O extends Node["op"]> = Extract<Node, { readonly op: O }>;

/** Rows that a group moves. */
const ROWS = 32;

/** A group's tile of rows, its stream and its sequence; `tiles` for each stream. */
function turnOf(b: Block, spec: AttentionSpec, branch: number, tiles: Expr) {
  const streams = regionAt(shapeFor(spec), branch).streams.length;
  const rest = b.bind("rest", div(group, tiles));
  const first = b.bind("first", mul(rem(group, tiles), i32(ROWS)));
  const stream = b.bind("stream", rem(rest, i32(streams)));
  return {
    first,
    stream,
    offset: b.bind("offset", load("stream_offset", stream, "i32")),
    sequence: b.bind("sequence", div(rest, i32(streams))),
  };
}

/** One launch for each branch: the rows of its own region. */
export function lowerRemember(node: NodeOf<"remember">): readonly Launch<TileKernel>[] {
  const { spec } = node;
  return shapeFor(spec).regions.map(({ branch, segment, dilation, streams }): Launch<TileKernel> => {
    const most: Size = segment === ALL ? "N" : { op: "min", args: ["N", segment] };
    const tiles = ceilDivOf(ceilDivOf(most, dilation), ROWS);
    return {
      title: `${spec.name}: remember branch ${branch}`,
      kernel: rememberKernel(spec, branch),
      bind: {
        k: { value: node.k },
        v: { value: node.v },
        place: { value: node.place },
        cache: { value: node.out },
      },
      scalars: { N: "N", B: "B", tiles },
      grid: timesOf(timesOf("B", streams.length), tiles),
    };
  });
}

function rememberKernel(spec: AttentionSpec, branch: number): TileKernel {
  const { headDim, kvHeads } = spec;
  const { dilation } = regionAt(shapeFor(spec), branch);
  const b = newBlock();
  const I = expressions(b, spec);
  const N = ref("N");
  const { first, stream, offset, sequence } = turnOf(b, spec, branch, ref("tiles"));
  const [piece] = cachePieces(I, shapeFor(spec), branch, offset, sub(N, i32(1)));
  if (piece === undefined) throw new Error(`heddle: internal: branch ${branch} keeps nothing`);
  const count = b.bind("rows", sub(piece.count, first));
  const body = b.nested(() => {
    const cache = cacheRows(b, spec, placeOf(b, sequence));
    const token = add(piece.token, mul(first, i32(dilation)));
    const row = add(mul(sequence, N), token);
    const from = b.bind(
      "from",
      mul(add(mul(row, i32(kvHeads)), load("stream_head", stream, "i32")), i32(headDim)),
    );
    const given = (buffer: string) => ({
      buffer,
      base: from,
      stride: i32(dilation * kvHeads * headDim),
      count,
      cols: headDim,
    });
    const to = b.bind("to", cache.rowOf(branch, stream, first));
    b.push(
      { s: "copy", tile: "K", rows: given("k") },
      { s: "copy", tile: "V", rows: given("v") },
      { s: "write", tile: "K", rows: cache.rows(to, "key", i32(1), count) },
      { s: "write", tile: "V", rows: cache.rows(to, "value", i32(1), count) },
    );
  });
  b.push({ s: "if", cond: I.lt(i32(0), count), then: body });
  return {
    name: `remember_${spec.name}_${branch}`,
    buffers: [
      { name: "k", dtype: "f32", access: "read" },
      { name: "v", dtype: "f32", access: "read" },
      PLACE,
      { name: "cache", dtype: "f32", access: "write" },
    ],
    scalars: ["N", "B", "tiles"].map((name) => ({ name, type: "i32" })),
    tables: streamTables(spec, branch),
    shared: [],
    workgroup: 1,
    tiles: ["K", "V"].map((name) => ({ name, rows: ROWS, cols: headDim })),
    body: b.out,
  };
}

/** One launch for each branch with a parent whose segments end. No branch's own rows are read and written in one position. */
export function lowerPromote(node: NodeOf<"promote">): readonly Launch<TileKernel>[] {
  const { spec } = node;
  const shape = shapeFor(spec);
  return shape.regions.flatMap(({ branch, dilation, parent, streams }): readonly Launch<TileKernel>[] => {
    const segment = parent === null ? ALL : regionAt(shape, parent).segment;
    if (segment === ALL) return [];
    const tiles = Math.ceil(Math.ceil(segment / dilation) / ROWS);
    return [
      {
        title: `${spec.name}: promote branch ${branch}`,
        kernel: promoteKernel(spec, branch, tiles),
        bind: { place: { value: node.place }, cache: { value: node.out } },
        scalars: { B: "B" },
        grid: timesOf("B", streams.length * tiles),
      },
    ];
  });
}

function promoteKernel(spec: AttentionSpec, branch: number, tiles: number): TileKernel {
  const { headDim, heads } = spec;
  const shape = shapeFor(spec);
  const b = newBlock();
  const I = expressions(b, spec);
  const { first, stream, offset, sequence } = turnOf(b, spec, branch, i32(tiles));
  const place = placeOf(b, sequence);
  const t = place.position;
  const body = b.nested(() => {
    const cache = cacheRows(b, spec, place);
    // Some query head that reads this stream: it says which streams of other regions hold the same progression.
    const head = b.bind("head", load("stream_reader", stream, "i32"));
    for (const piece of cachePieces(I, shape, branch, offset, sub(t, i32(1))).slice(1)) {
      const count = b.bind("rows", sub(piece.count, first));
      const move = b.nested(() => {
        const other = b.bind("other", load(STREAMS, add(i32(piece.region * heads), head), "i32"));
        const row = add(piece.row, mul(first, i32(piece.step)));
        const from = b.bind("from", cache.rowOf(piece.region, other, row));
        const to = b.bind("to", cache.rowOf(branch, stream, add(piece.slot, first)));
        b.push(
          { s: "copy", tile: "K", rows: cache.rows(from, "key", i32(piece.step), count) },
          { s: "copy", tile: "V", rows: cache.rows(from, "value", i32(piece.step), count) },
          { s: "write", tile: "K", rows: cache.rows(to, "key", i32(1), count) },
          { s: "write", tile: "V", rows: cache.rows(to, "value", i32(1), count) },
        );
      });
      b.push({ s: "if", cond: I.lt(i32(0), count), then: move });
    }
  });
  b.push({ s: "if", cond: I.and(I.lt(i32(0), t), moves(I, shape, branch, t)), then: body });
  const { streamOf, streams } = regionAt(shape, branch);
  return {
    name: `promote_${spec.name}_${branch}`,
    buffers: [PLACE, { name: "cache", dtype: "f32", access: "readwrite" }],
    scalars: [{ name: "B", type: "i32" }],
    tables: [
      ...streamTables(spec, branch).filter((x) => x.name === "stream_offset"),
      { name: "stream_reader", type: "i32", values: streams.map((_, s) => streamOf.indexOf(s)) },
      streamTable(spec),
    ],
    shared: [],
    workgroup: 1,
    tiles: ["K", "V"].map((name) => ({ name, rows: ROWS, cols: headDim })),
    body: b.out,
  };
}
