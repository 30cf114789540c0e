/** What the value of a `map` or `write` is made of: shared parts, what varies along an axis, how indices grow. */
import type { Element, Expr } from "../../../src/kernel.ts";
import type { SimdSite } from "./layout.ts";

/** The direction in which a vector's four lanes lie. */
export type Axis = "col" | "row";
export type Node = Expr<Element>;

/** The same expression with equal parts made one object, so that sharing can be seen. */
export function shareParts(root: Node): Node {
  const ids = new Map<Node, number>();
  const parts = new Map<string, Node>();
  const done = new Map<Node, Node>();
  const keep = (key: string, node: Node): Node => {
    const known = parts.get(key);
    if (known !== undefined) return known;
    parts.set(key, node);
    ids.set(node, ids.size);
    return node;
  };
  const visit = (node: Node): Node => {
    const known = done.get(node);
    if (known !== undefined) return known;
    let result: Node;
    if (node.e === "op") {
      const args = node.args.map(visit);
      const key = `${node.op}:${node.type}:${args.map((a) => ids.get(a)).join()}:${node.imm?.join() ?? ""}`;
      result = keep(key, { ...node, args });
    } else if (node.e === "load") {
      const index = visit(node.index);
      result = keep(`load:${node.type}:${node.from}:${ids.get(index)}`, { ...node, index });
    } else result = keep(JSON.stringify(node), node);
    done.set(node, result);
    return result;
  };
  return visit(root);
}

/** Nodes of the value from which the axis can be reached, and how often each node is used. */
export function survey(site: SimdSite, root: Node, axis: Axis) {
  const uses = new Map<Node, number>();
  const varies = new Map<Node, boolean>();
  const visit = (node: Node): boolean => {
    uses.set(node, (uses.get(node) ?? 0) + 1);
    const known = varies.get(node);
    if (known !== undefined) return known;
    let result = false;
    if (node.e === "op") for (const a of node.args) result = visit(a) || result;
    else if (node.e === "load") result = visit(node.index);
    else if (node.e === "at") {
      const p = site.place(node.tile);
      result = axis === "col" ? p.cols > 1 : p.rows > 1;
    } else result = node.e === axis;
    varies.set(node, result);
    return result;
  };
  visit(root);
  return { uses: (n: Node) => uses.get(n) ?? 0, varies: (n: Node) => varies.get(n) ?? false };
}

/** How much an index grows per step of the axis, if that is a constant. */
export function slope(node: Node, axis: Axis): number | undefined {
  if (node.e === axis) return 1;
  if (node.e === "at" || node.e === "load") return undefined;
  if (node.e !== "op") return 0;
  const [a, b] = node.args.map((x) => slope(x, axis));
  const zero = node.args.every((x) => slope(x, axis) === 0);
  if (zero) return 0;
  if (a === undefined || b === undefined) return undefined;
  const [x, y] = node.args;
  if (node.op === "add") return a + b;
  if (node.op === "sub") return a - b;
  if (node.op === "mul" && x?.e === "const") return x.value * b;
  if (node.op === "mul" && y?.e === "const") return a * y.value;
  return undefined;
}
