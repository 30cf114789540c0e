/** The meanings, in f64, of the operations that decode: those of one sequence, for each sequence of a batch. See graph/decode.ts. */
import type { Node, ValueId } from "../graph.ts";
import { decodeToken, promote, referenceCache, remember } from "./decode.ts";

type NodeOf<O extends Node["op"]> = Extract<Node, { readonly op: O }>;
type Get = (id: ValueId) => Float64Array;

/** Of each sequence: its position, its lane, and the tokens that a lane may have. */
function placesOf(place: Float64Array) {
  const B = place.length / 3;
  return Array.from({ length: B }, (_, b) => ({
    position: place[b] ?? 0,
    lane: place[B + b] ?? 0,
    capacity: place[2 * B + b] ?? 0,
  }));
}
const rowOf = (x: Float64Array, b: number, rows: number) =>
  x.slice((b * x.length) / rows, ((b + 1) * x.length) / rows);

/** y[2i] = x[2i]·c − x[2i+1]·s, y[2i+1] = x[2i+1]·c + x[2i]·s with row b of the table as (c, s). */
export function rotateNode({ x, table, heads, headDim }: NodeOf<"rotate">, get: Get): Float64Array {
  const turns = get(table);
  return get(x).map((value, at, all) => {
    const b = Math.floor(at / (heads * headDim));
    const pair = b * headDim + 2 * Math.floor((at % headDim) / 2);
    const [c, s] = [turns[pair] ?? NaN, turns[pair + 1] ?? NaN];
    return at % 2 === 0 ? value * c - (all[at + 1] ?? NaN) * s : value * c + (all[at - 1] ?? NaN) * s;
  });
}

export function placeNode({ x, weight, first, place }: NodeOf<"place">, get: Get): Float64Array {
  const places = placesOf(get(place));
  const width = get(x).length / places.length;
  const learned = (b: number, d: number) =>
    get(weight)[((places[b]?.position ?? 0) + first) * width + d] ?? NaN;
  return get(x).map((value, at) => value + learned(Math.floor(at / width), at % width));
}

export function decodeNode(node: NodeOf<"decode">, get: Get, state: Float64Array): Float64Array {
  const places = placesOf(get(node.place));
  const out = new Float64Array(get(node.q).length);
  places.forEach(({ position, lane, capacity }, b) => {
    const cache = referenceCache(node.spec, { lanes: 1, capacity }, node.decay, state);
    const [q, k, v] = [node.q, node.k, node.v].map((id) => rowOf(get(id), b, places.length));
    if (q === undefined || k === undefined || v === undefined) return;
    out.set(decodeToken(cache, lane, position, { q, k, v }).out, b * q.length);
  });
  return out;
}

export function rememberNode(node: NodeOf<"remember">, get: Get, state: Float64Array, N: number): void {
  const places = placesOf(get(node.place));
  places.forEach(({ lane, capacity }, b) => {
    const cache = referenceCache(node.spec, { lanes: 1, capacity }, undefined, state);
    remember(cache, lane, rowOf(get(node.k), b, places.length), rowOf(get(node.v), b, places.length), N);
  });
}

export function promoteNode(node: NodeOf<"promote">, get: Get, state: Float64Array): void {
  for (const { position, lane, capacity } of placesOf(get(node.place)))
    if (position > 0)
      promote(referenceCache(node.spec, { lanes: 1, capacity }, undefined, state), lane, position);
}
