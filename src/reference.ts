/** Runs a whole Graph in f64 by the meanings in `reference/`: the slow twin that every device is compared with. */
import type { Graph, GraphOp, Node, Value, ValueId } from "./graph.ts";
import { attention } from "./reference/attention.ts";
import { activate, add, embed, linear, norm, position } from "./reference/pointwise.ts";
import { classToken, masked, placed, pool } from "./reference/sequence.ts";
import { decodeNode, placeNode, promoteNode, rememberNode, rotateNode } from "./reference/step.ts";
import { rotate } from "./reference/xpos.ts";
import { rounding } from "./storage.ts";

export { attention, branchAttention, logSumExp, segmentSlots } from "./reference/attention.ts";
export type { AttentionInputs, AttentionMeaning, AttentionResult } from "./reference/attention.ts";
export { erf } from "./reference/erf.ts";

export type ReferenceResult = {
  /** By output name. */
  readonly outputs: Readonly<Record<string, Float64Array>>;
  /** As `Graph.hidden`: the embedding output, then each layer's. */
  readonly hidden: readonly Float64Array[];
  /** Every value of the graph, for comparing a device step by step. */
  readonly values: ReadonlyMap<ValueId, Float64Array>;
};

type Scope = {
  readonly N: number;
  readonly B: number;
  readonly shapeOf: (id: ValueId) => readonly number[];
  readonly get: (id: ValueId) => Float64Array;
  readonly set: (id: ValueId, value: Float64Array) => void;
  /** Changed in place. */
  readonly state: (id: ValueId) => Float64Array;
};

type Meanings = { readonly [O in GraphOp]: (node: Extract<Node, { op: O }>, scope: Scope) => void };

const last = (shape: readonly number[]): number => shape[shape.length - 1] ?? 1;

const meanings: Meanings = {
  embed: (node, { get, set, shapeOf }) =>
    set(node.out, embed(get(node.tokens), get(node.weight), last(shapeOf(node.weight)), node.scale)),
  position: (node, { get, set, shapeOf, N }) =>
    set(node.out, position(get(node.x), get(node.weight), N, last(shapeOf(node.weight)), node.first)),
  grid: (node, { get, set, shapeOf }) =>
    set(node.out, placed(get(node.x), get(node.rows), get(node.columns), last(shapeOf(node.x)), node.cells)),
  class_token: (node, { get, set, N }) => set(node.out, classToken(get(node.x), get(node.weight), N)),
  mask: (node, { get, set, shapeOf }) =>
    set(node.out, masked(get(node.x), get(node.mask), last(shapeOf(node.x)))),
  pool: (node, { get, set, shapeOf, N }) => set(node.out, pool(get(node.x), N, last(shapeOf(node.x)), node)),
  norm: (node, { get, set }) => set(node.out, norm(get(node.x), get(node.weight), get(node.bias), node.eps)),
  linear: (node, { get, set, shapeOf }) => {
    const [outputs = 0, inputs = 0] = shapeOf(node.weight);
    const bias = node.bias === undefined ? undefined : get(node.bias);
    const product = linear(get(node.x), get(node.weight), bias, inputs, outputs);
    const active = node.activation === undefined ? product : activate(product, node.activation);
    const { residual } = node;
    set(node.out, residual === undefined ? active : add(active, get(residual.x), residual.alpha));
  },
  activate: (node, { get, set }) => set(node.out, activate(get(node.x), node.activation)),
  add: (node, { get, set }) => set(node.out, add(get(node.x), get(node.residual), node.alpha)),
  xpos: (node, { get, set, N, B }) => set(node.out, rotate(get(node.x), { ...node, N, B })),
  attention: (node, { get, set, N, B }) => {
    const { out, lse } = attention(node.spec, {
      q: get(node.q),
      k: get(node.k),
      v: get(node.v),
      N,
      B,
      decay: node.decay,
    });
    set(node.out, out);
    set(node.lse, lse);
  },
  rotate: (node, { get, set }) => set(node.out, rotateNode(node, get)),
  place: (node, { get, set }) => set(node.out, placeNode(node, get)),
  decode: (node, { get, set, state }) => set(node.out, decodeNode(node, get, state(node.state))),
  remember: (node, { get, state, N }) => rememberNode(node, get, state(node.out), N),
  promote: (node, { get, state }) => promoteNode(node, get, state(node.out)),
};

// The table's type ties each row to its node; TypeScript cannot follow that through an index by `node.op`.
const run = (node: Node, scope: Scope): void =>
  (meanings[node.op] as (node: Node, scope: Scope) => void)(node, scope);

/**
 * Inputs by input name, weights by checkpoint name (a tied weight may come under its alias). Values that the graph stores in 16 bits,
 * given or made, are rounded to that type; all others stay f64, so a graph of f32 is the unrounded meaning. `states` by id are changed.
 * Throws a plain Error that names the tensor when one is missing or has the wrong number of elements.
 */
export function runReference(
  graph: Graph,
  inputs: Readonly<Record<string, ArrayLike<number>>>,
  weights: ReadonlyMap<string, ArrayLike<number>>,
  { N, B }: { readonly N: number; readonly B: number },
  states: ReadonlyMap<ValueId, Float64Array> = new Map(),
): ReferenceResult {
  const values = new Map<ValueId, Float64Array>();
  const shapes = new Map<ValueId, readonly number[]>();
  const resolve = ({ shape }: Value): readonly number[] =>
    shape.map((dim) => (dim === "N" ? N : dim === "B" ? B : dim));
  for (const value of [...graph.inputs, ...graph.weights, ...graph.values])
    shapes.set(value.id, resolve(value));

  const narrow = new Map<ValueId, (x: number) => number>();
  for (const { id, dtype } of [...graph.inputs, ...graph.weights, ...graph.values])
    if (dtype === "f16" || dtype === "bf16") narrow.set(id, rounding[dtype]);
  const stored = (id: ValueId, value: Float64Array): Float64Array => {
    const round = narrow.get(id);
    return round === undefined ? value : value.map(round);
  };

  const shapeOf = (id: ValueId) => {
    const shape = shapes.get(id);
    if (shape === undefined)
      throw new Error(`heddle: internal: value '${id}' of '${graph.name}' has no shape`);
    return shape;
  };
  const give = (id: ValueId, title: string, given: ArrayLike<number> | undefined) => {
    const shape = shapeOf(id);
    if (given === undefined) throw new Error(`heddle: ${title} is missing`);
    const size = shape.reduce((product, dim) => product * dim, 1);
    if (given.length !== size)
      throw new Error(`heddle: ${title} has ${given.length} elements, not ${shape.join(" × ")} = ${size}`);
    values.set(id, stored(id, Float64Array.from(given)));
  };

  for (const input of graph.inputs) give(input.id, `input '${input.name}'`, inputs[input.name]);
  for (const { id, name } of graph.weights) {
    const alias = graph.aliases.find(({ alias: other, of }) => of === name && weights.has(other))?.alias;
    give(id, `weight '${name}'`, weights.get(name) ?? (alias === undefined ? undefined : weights.get(alias)));
  }

  const get = (id: ValueId) => {
    const value = values.get(id);
    if (value === undefined)
      throw new Error(`heddle: internal: '${graph.name}' uses '${id}' before it is made`);
    return value;
  };
  const set = (id: ValueId, value: Float64Array) => {
    const size = shapeOf(id).reduce((product, dim) => product * dim, 1);
    if (value.length !== size)
      throw new Error(
        `heddle: internal: '${id}' of '${graph.name}' has ${value.length} elements, not ${size}`,
      );
    values.set(id, stored(id, value));
  };
  const state = (id: ValueId) => {
    const found = states.get(id);
    if (found === undefined) throw new Error(`heddle: state '${id}' is missing`);
    return found;
  };
  for (const node of graph.nodes) run(node, { N, B, shapeOf, get, set, state });

  return {
    outputs: Object.fromEntries(graph.outputs.map(({ name, value }) => [name, get(value)])),
    hidden: graph.hidden.map(get),
    values,
  };
}
