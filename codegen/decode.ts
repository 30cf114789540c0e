/**
 * From the forward graph of a model to the programs that generate with it: `prefill` computes what a prompt leaves in the caches,
 * `step` one more token of each sequence, `promote` what must move in the caches before a step at certain positions.
 *
 * A prompt's last token goes through `step`, which gives its logits. So `prefill` needs no head, and of the last layer only keys and
 * values.
 */
import { argumentsOf } from "./fuse.ts";
import type { XposTable } from "../runtime/plan.ts";
import { cacheShape, laneRows, sizes } from "../src/geometry.ts";
import type { Dim, Graph, Node, Value, ValueId } from "../src/graph.ts";
import type { GraphState } from "../src/graph/decode.ts";
import type { Size } from "../src/kernel.ts";
import type { AttentionShape, ModelSpec } from "../src/spec.ts";
import { reachOf, type Reach } from "../src/decode/reach.ts";

export type DecodeGraphs = {
  readonly states: readonly GraphState[];
  readonly prefill: Graph;
  readonly step: Graph;
  /** Null where nothing ever moves. */
  readonly promote: Graph | null;
  /** Inputs of `step` that the host makes: row b is the table's row at the position of sequence b. */
  readonly rows: readonly { readonly input: string; readonly table: XposTable }[];
  /** `promote` runs before a step in which some position is a multiple of one of these, and not 0. */
  readonly moves: readonly number[];
  readonly reach: Reach;
  /** A branch over the whole sequence: the cache grows with the tokens it is made for. */
  readonly grows: boolean;
  readonly fingerprint: string;
};

/** How far a model can be generated; no token where it predicts none. */
export function modelReach(spec: ModelSpec): Reach {
  const cannot = (why: string): Reach => ({ tokens: 0, why });
  if (spec.input !== "tokens") return cannot(`model '${spec.name}' takes features, not tokens`);
  if (spec.head === "none") return cannot(`model '${spec.name}' has no head, so it predicts no tokens`);
  if (spec.kind !== "decoder") return cannot(`model '${spec.name}' is an encoder; only decoders generate`);
  if (spec.pool !== null || spec.classToken || spec.grid !== null)
    return cannot(`model '${spec.name}' reads a sequence as a whole; it does not go on token by token`);
  const reach = reachOf(spec.attention);
  const learned = spec.positions === null ? Infinity : spec.positions.rows - 2;
  if (learned >= reach.tokens) return reach;
  return { tokens: learned, why: `model '${spec.name}' has learned positions for ${learned} tokens` };
}

/** Elements of the cache of an attention for B sequences of at most N tokens. */
export const cacheSize = (spec: AttentionShape): Size =>
  sizes.mul(sizes.mul("B", laneRows(sizes, cacheShape(spec), "N")), 2 * spec.headDim);

/** 64 bits of a spec (FNV-1a of its JSON, twice from different starts) as hexadecimal digits. */
export function fingerprintOf(spec: ModelSpec): string {
  const text = JSON.stringify(spec, (_, value: unknown) => (value === Infinity ? "all" : value));
  return [0x811c9dc5, 0x050c5d1f]
    .map((start) => {
      let hash = start;
      for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
      return (hash >>> 0).toString(16).padStart(8, "0");
    })
    .join("");
}

const PLACE: Value & { readonly name: string } = {
  id: "place",
  name: "place",
  dtype: "i32",
  shape: [3, "B"],
};

/** The programs that generate with a model, from its forward graph; null where it predicts no tokens or is not causal. */
export function decodeGraphs(spec: ModelSpec, forward: Graph): DecodeGraphs | null {
  const reach = modelReach(spec);
  if (reach.tokens === 0) return null;
  const shape = cacheShape(spec.attention);
  const states: GraphState[] = [];
  const elements = cacheSize(spec.attention);
  const perToken = 2 * spec.attention.kvHeads * spec.attention.headDim;
  const dtypeOf = (id: ValueId) => forward.values.find((v) => v.id === id)?.dtype ?? "f32";
  const stateOf = (node: Extract<Node, { op: "attention" }>): ValueId => {
    const id = `${node.out}.cache`;
    const dtype = dtypeOf(node.k);
    if (!states.some((s) => s.id === id))
      states.push({ id, dtype: dtype === "i32" ? "f32" : dtype, elements, perToken });
    return id;
  };
  const prefill = prefillOf(forward, stateOf);
  const { step, rows } = stepOf(forward, stateOf);
  const moves = shape.regions
    .flatMap(({ parent }) => (parent === null ? [] : [shape.regions[parent]?.segment ?? 0]))
    .filter((w) => w < (reach.tokens === Infinity ? 2 ** 30 - 1 : reach.tokens));
  const nodes = states.map((s): Node => ({
    op: "promote",
    out: s.id,
    place: PLACE.id,
    spec: spec.attention,
  }));
  const promote: Graph = { ...bare(forward, "promote"), inputs: [PLACE], nodes };
  const withStates = (graph: Graph): Graph => ({ ...graph, states });
  return {
    states,
    prefill: withStates(prefill),
    step: withStates(step),
    promote: moves.length === 0 ? null : withStates(promote),
    rows,
    moves: [...new Set(moves)],
    reach,
    grows: spec.attention.branches.some((b) => b.segment === Infinity),
    fingerprint: fingerprintOf(spec),
  };
}

const bare = (graph: Graph, name: string): Graph => ({
  name: `${graph.name}.${name}`,
  inputs: [],
  weights: [],
  aliases: [],
  ignored: [],
  values: [],
  nodes: [],
  outputs: [],
  hidden: [],
});

type StateOf = (node: Extract<Node, { op: "attention" }>) => ValueId;

/** The forward graph as far as keys and values need it, and what remembers those. */
function prefillOf(forward: Graph, stateOf: StateOf): Graph {
  const nodes = forward.nodes.flatMap((node): readonly Node[] =>
    node.op === "attention"
      ? [
          {
            op: "remember",
            out: stateOf(node),
            k: node.k,
            v: node.v,
            place: PLACE.id,
            spec: node.spec,
          },
          node,
        ]
      : [node],
  );
  const needed = new Set<ValueId>();
  const kept: Node[] = [];
  for (const node of [...nodes].reverse()) {
    const made = node.op === "attention" ? [node.out, node.lse] : [node.out];
    if (node.op !== "remember" && !made.some((id) => needed.has(id))) continue;
    kept.unshift(node);
    argumentsOf(node).forEach((id) => needed.add(id));
    // What a node makes exists, whether it is read or not.
    made.forEach((id) => needed.add(id));
  }
  return {
    ...forward,
    name: `${forward.name}.prefill`,
    inputs: [...forward.inputs, PLACE],
    weights: forward.weights.filter((w) => needed.has(w.id)),
    aliases: forward.aliases.filter(({ of }) => needed.has(of)),
    values: forward.values.filter((v) => needed.has(v.id)),
    nodes: kept,
    outputs: [],
    hidden: [],
  };
}

/** The forward graph with one token for each sequence, at places of their own. */
function stepOf(forward: Graph, stateOf: StateOf): Pick<DecodeGraphs, "step" | "rows"> {
  const rows: { readonly input: string; readonly table: XposTable }[] = [];
  const inputs: (Value & { readonly name: string })[] = [];
  const gone = new Set<ValueId>();
  const single = <V extends Value>(v: V): V => ({
    ...v,
    shape: v.shape.map((d): Dim => (d === "N" ? 1 : d)),
  });
  const tableFor = (table: XposTable): ValueId => {
    const input = `xpos.${table.sign === 1 ? "q" : "k"}`;
    if (!rows.some((r) => r.input === input)) {
      rows.push({ input, table });
      inputs.push({ id: input, name: input, dtype: "f32", shape: ["B", table.headDim] });
    }
    return input;
  };
  const nodes = forward.nodes.map((node): Node => {
    switch (node.op) {
      case "attention": {
        gone.add(node.lse);
        const { q, k, v, out, spec, decay } = node;
        const state = stateOf(node);
        return {
          op: "decode",
          out,
          q,
          k,
          v,
          place: PLACE.id,
          state,
          spec,
          ...(decay === undefined ? {} : { decay }),
        };
      }
      case "xpos": {
        const { out, x, heads, headDim, base, block, sign } = node;
        return {
          op: "rotate",
          out,
          x,
          heads,
          headDim,
          table: tableFor({ kind: "xpos", headDim, base, block, sign }),
        };
      }
      case "position":
        return {
          op: "place",
          out: node.out,
          x: node.x,
          weight: node.weight,
          first: node.first,
          place: PLACE.id,
        };
      default:
        return node;
    }
  });
  return {
    rows,
    step: {
      ...forward,
      name: `${forward.name}.step`,
      inputs: [...forward.inputs.map(single), PLACE, ...inputs],
      values: forward.values.filter((v) => !gone.has(v.id)).map(single),
      nodes,
      hidden: [],
    },
  };
}
