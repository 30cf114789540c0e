/** The graph as text: one value a line, with its shape. */
import type { Graph, Node } from "../graph.ts";
import { showShape, showSize } from "./size.ts";

export function showGraph(g: Graph): string {
  const shapes = new Map(g.values.map((v) => [v.id, showShape(v.dtype, v.shape)]));
  const shape = (id: string) => shapes.get(id) ?? "?";
  return [
    `graph ${g.name}`,
    ...g.inputs.map((i) => `input ${i.id} '${i.name}': ${showShape(i.dtype, i.shape)}`),
    ...g.weights.map((w) => `weight ${w.id} '${w.name}': ${showShape(w.dtype, w.shape)}`),
    ...(g.states ?? []).map((s) => `state ${s.id}: ${s.dtype}[${showSize(s.elements)}]`),
    ...g.aliases.map((a) => `alias '${a.alias}' of '${a.of}'`),
    ...g.ignored.map((i) => `ignored '${i.name}': ${showShape("f32", i.shape)}`),
    ...g.nodes.map((n) =>
      n.op === "attention"
        ? `${n.out}: ${shape(n.out)}, ${n.lse}: ${shape(n.lse)} = ${showNode(n)}`
        : `${n.out}: ${shape(n.out)} = ${showNode(n)}`,
    ),
    ...g.outputs.map((o) => `output '${o.name}' = ${o.value}`),
    ...(g.hidden.length === 0 ? [] : [`hidden ${g.hidden.join(", ")}`]),
    "",
  ].join("\n  ").trimEnd() + "\n"; // prettier-ignore
}

export function showNode(n: Node): string {
  switch (n.op) {
    case "embed":
      return `embed ${n.tokens} by ${n.weight}${n.scale === 1 ? "" : ` * ${n.scale}`}`;
    case "position":
      return `${n.x} + position ${n.weight} from row ${n.first}`;
    case "grid":
      return `${n.x} + grid of ${n.cells} at ${n.rows}, ${n.columns}`;
    case "class_token":
      return `class token ${n.weight} before ${n.x}`;
    case "mask":
      return `${n.x} where ${n.mask} is 0`;
    case "pool":
      return n.of === "class" ? `row 0 of ${n.x}` : `mean of ${n.x} from row ${n.from}`;
    case "norm":
      return `norm ${n.x} by ${n.weight}, ${n.bias} eps ${n.eps}`;
    case "linear": {
      const product = `linear ${n.x} by ${n.weight}${n.bias === undefined ? "" : `, ${n.bias}`}`;
      const active = n.activation === undefined ? product : `${n.activation}(${product})`;
      return n.residual === undefined ? active : `${active} + ${scaled(n.residual.alpha, n.residual.x)}`;
    }
    case "activate":
      return `${n.activation} ${n.x}`;
    case "add":
      return `${n.x} + ${scaled(n.alpha, n.residual)}`;
    case "xpos":
      return `xpos ${n.x} heads ${n.heads} * ${n.headDim} base ${n.base} block ${n.block} sign ${n.sign}`;
    case "attention": {
      const decay = n.decay === undefined ? "" : ` decay base ${n.decay.base} block ${n.decay.block}`;
      return `attention '${n.spec.name}' of ${n.q}, ${n.k}, ${n.v}${decay}`;
    }
    case "rotate":
      return `rotate ${n.x} heads ${n.heads} * ${n.headDim} by ${n.table}`;
    case "place":
      return `${n.x} + position ${n.weight} at ${n.place}`;
    case "decode": {
      const decay = n.decay === undefined ? "" : ` decay base ${n.decay.base} block ${n.decay.block}`;
      return `decode '${n.spec.name}' of ${n.q}, ${n.k}, ${n.v} over ${n.state} at ${n.place}${decay}`;
    }
    case "remember":
      return `remember '${n.spec.name}' of ${n.k}, ${n.v} at ${n.place}`;
    case "promote":
      return `promote '${n.spec.name}' at ${n.place}`;
  }
}
const scaled = (alpha: number, x: string) => (alpha === 1 ? x : `${alpha} * ${x}`);
