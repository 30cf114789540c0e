/**
 * Folds the activation and the residual sum that follow a linear into it: out = act(x Wᵀ + bias) + alpha · residual.
 * A value that somebody else reads, or that the graph hands out, stays.
 */
import type { Graph, Node, ValueId } from "../src/graph.ts";

type Linear = Extract<Node, { readonly op: "linear" }>;

/** Every value a node reads, as often as it reads it. */
export function argumentsOf(node: Node): readonly ValueId[] {
  switch (node.op) {
    case "embed":
      return [node.tokens, node.weight];
    case "position":
    case "class_token":
      return [node.x, node.weight];
    case "grid":
      return [node.x, node.rows, node.columns];
    case "mask":
      return [node.x, node.mask];
    case "pool":
      return [node.x];
    case "norm":
      return [node.x, node.weight, node.bias];
    case "linear": {
      const bias = node.bias === undefined ? [] : [node.bias];
      const residual = node.residual === undefined ? [] : [node.residual.x];
      return [node.x, node.weight, ...bias, ...residual];
    }
    case "activate":
    case "xpos":
      return [node.x];
    case "add":
      return [node.x, node.residual];
    case "attention":
      return [node.q, node.k, node.v];
    case "rotate":
      return [node.x, node.table];
    case "place":
      return [node.x, node.weight, node.place];
    case "decode":
      return [node.q, node.k, node.v, node.place, node.state];
    case "remember":
      return [node.k, node.v, node.place];
    case "promote":
      return [node.place];
  }
}

export function fuse(graph: Graph): Graph {
  const uses = new Map<ValueId, number>();
  const use = (id: ValueId) => uses.set(id, (uses.get(id) ?? 0) + 1);
  for (const node of graph.nodes) argumentsOf(node).forEach(use);
  for (const { value } of graph.outputs) use(value);
  graph.hidden.forEach(use);

  let nodes: readonly Node[] = [];
  const gone = new Set<ValueId>();
  /** The linear that made `id`, if nothing else wants its result. */
  const sole = (id: ValueId): Linear | undefined => {
    const made = nodes.find((n) => n.out === id);
    return made?.op === "linear" && uses.get(id) === 1 ? made : undefined;
  };
  const replace = (old: Linear, merged: Linear): void => {
    gone.add(old.out);
    // At the place of its consumer, where the residual is known too.
    nodes = [...nodes.filter((n) => n !== old), merged];
  };
  for (const node of graph.nodes) {
    if (node.op === "activate") {
      const linear = sole(node.x);
      if (linear !== undefined && linear.activation === undefined && linear.residual === undefined) {
        replace(linear, { ...linear, out: node.out, activation: node.activation });
        continue;
      }
    }
    if (node.op === "add") {
      const { x, residual, alpha, out } = node;
      const linear = sole(x);
      if (linear !== undefined && linear.residual === undefined) {
        replace(linear, { ...linear, out, residual: { x: residual, alpha } });
        continue;
      }
      // Sums are symmetric where nothing is scaled.
      const other = alpha === 1 ? sole(residual) : undefined;
      if (other !== undefined && other.residual === undefined) {
        replace(other, { ...other, out, residual: { x, alpha } });
        continue;
      }
    }
    nodes = [...nodes, node];
  }
  return { ...graph, nodes, values: graph.values.filter((v) => !gone.has(v.id)) };
}
