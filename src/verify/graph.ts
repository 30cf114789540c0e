/**
 * Graphs: single assignment, and the shape rule of every operation. Rows and matrices may be stored in any float type, vectors (norms,
 * biases) and lse are f32.
 */
import type { Dim, Graph, Node, Value } from "../graph.ts";
import { showShape } from "../show/size.ts";

export function verifyGraph(g: Graph): string[] {
  const problems: string[] = [];
  const values = new Map<string, Value>();
  const declare = (v: Value, what: string) => {
    const known = values.get(v.id);
    if (known !== undefined && show(known) !== show(v))
      problems.push(`${what} '${v.id}' is ${show(v)} and elsewhere ${show(known)}`);
    values.set(v.id, v);
  };
  const given = [...g.inputs, ...g.weights];
  const states = new Set((g.states ?? []).map((s) => s.id));
  given.forEach((v) => declare(v, "value"));
  g.values.forEach((v) => declare(v, "value"));

  const defined = new Set<string>();
  const define = (id: string, where: string) => {
    if (defined.has(id)) problems.push(`${where}: '${id}' is defined twice`);
    if (!values.has(id)) problems.push(`${where}: '${id}' has no shape`);
    defined.add(id);
  };
  given.forEach((v) => define(v.id, "inputs and weights"));
  for (const s of states) {
    if (defined.has(s) || values.has(s)) problems.push(`state '${s}' is a value too`);
    defined.add(s);
  }
  g.nodes.forEach((n, i) => {
    const where = `node ${i} ${n.op} ${n.out}`;
    const missing = argumentsOf(n).filter((a) => !defined.has(a));
    missing.forEach((a) => problems.push(`${where}: '${a}' is not defined yet`));
    if (n.op === "remember" || n.op === "promote") {
      if (!states.has(n.out)) problems.push(`${where}: '${n.out}' is no state`);
    } else define(n.out, where);
    if (n.op === "decode" && !states.has(n.state)) problems.push(`${where}: '${n.state}' is no state`);
    if (n.op === "attention") define(n.lse, where);
    if (missing.length === 0)
      shapes(n, (id) => values.get(id)).forEach((p) => problems.push(`${where}: ${p}`));
  });
  for (const v of g.values) if (!defined.has(v.id)) problems.push(`'${v.id}' has a shape and no definition`);
  for (const o of g.outputs)
    if (!defined.has(o.value)) problems.push(`output '${o.name}': '${o.value}' is not defined`);
  for (const h of g.hidden) if (!defined.has(h)) problems.push(`hidden: '${h}' is not defined`);

  const names = new Set<string>();
  for (const name of [
    ...g.weights.map((w) => w.name),
    ...g.aliases.map((a) => a.alias),
    ...g.ignored.map((i) => i.name),
  ]) {
    if (names.has(name)) problems.push(`checkpoint name '${name}' is taken twice`);
    names.add(name);
  }
  for (const w of g.weights)
    if (!w.shape.every((d) => typeof d === "number" && Number.isInteger(d) && d > 0))
      problems.push(`weight '${w.name}' is ${show(w)}`);
  for (const a of g.aliases)
    if (!g.weights.some((w) => w.name === a.of))
      problems.push(`alias '${a.alias}' of an unknown weight '${a.of}'`);
  return problems;
}

const show = (v: Value) => showShape(v.dtype, v.shape);

function argumentsOf(n: Node): readonly string[] {
  switch (n.op) {
    case "embed":
      return [n.tokens, n.weight];
    case "position":
    case "class_token":
      return [n.x, n.weight];
    case "grid":
      return [n.x, n.rows, n.columns];
    case "mask":
      return [n.x, n.mask];
    case "pool":
      return [n.x];
    case "norm":
      return [n.x, n.weight, n.bias];
    case "linear":
      return [
        n.x,
        n.weight,
        ...(n.bias === undefined ? [] : [n.bias]),
        ...(n.residual === undefined ? [] : [n.residual.x]),
      ];
    case "activate":
    case "xpos":
      return [n.x];
    case "add":
      return [n.x, n.residual];
    case "attention":
      return [n.q, n.k, n.v];
    case "rotate":
      return [n.x, n.table];
    case "place":
      return [n.x, n.weight, n.place];
    case "decode":
      return [n.q, n.k, n.v, n.place, n.state];
    case "remember":
      return [n.k, n.v, n.place];
    case "promote":
      return [n.place];
  }
}

/** The shape rule of a node whose arguments are all defined. */
function shapes(n: Node, valueOf: (id: string) => Value | undefined): string[] {
  const problems: string[] = [];
  const want = (id: string, dtype: "f32" | "i32" | "float", shape: readonly (Dim | undefined)[]) => {
    const v = valueOf(id);
    if (v === undefined) return;
    const fits =
      (dtype === "float" ? v.dtype !== "i32" : v.dtype === dtype) &&
      v.shape.length === shape.length &&
      shape.every((d, i) => d === undefined || d === v.shape[i]);
    // Of a type that may differ, the one that is there is not at fault.
    const wanted = dtype !== "float" ? dtype : v.dtype === "i32" ? "f32" : v.dtype;
    if (!fits)
      problems.push(`'${id}' is ${show(v)}, not ${wanted}[${shape.map((d) => d ?? "any").join(", ")}]`);
  };
  const shapeOf = (id: string): readonly Dim[] => valueOf(id)?.shape ?? [];
  const like = (id: string, other: string) => want(id, "float", shapeOf(other));
  const last = (id: string) => shapeOf(id).at(-1);

  switch (n.op) {
    case "embed": {
      want(n.tokens, "i32", [undefined, undefined]);
      want(n.weight, "float", [undefined, undefined]);
      want(n.out, "float", [...shapeOf(n.tokens), last(n.weight)]);
      break;
    }
    case "position":
      want(n.weight, "float", [undefined, last(n.x)]);
      like(n.x, n.x);
      like(n.out, n.x);
      break;
    case "grid": {
      const [B, N, width] = shapeOf(n.x);
      want(n.rows, "i32", [B, N]);
      want(n.columns, "i32", [B, N]);
      like(n.out, n.x);
      if (typeof width !== "number" || width % 4 !== 0) problems.push(`rows of ${width} have no four parts`);
      if (!(Number.isInteger(n.cells) && n.cells > 0)) problems.push(`${n.cells} cells`);
      break;
    }
    case "class_token":
      want(n.weight, "f32", [last(n.x)]);
      like(n.out, n.x);
      break;
    case "mask":
      want(n.mask, "i32", shapeOf(n.x).slice(0, -1));
      like(n.out, n.x);
      break;
    case "pool": {
      const [B, , width] = shapeOf(n.x);
      want(n.x, "float", [B, undefined, width]);
      want(n.out, "f32", [B, width]);
      if (n.from !== 0 && n.from !== 1) problems.push(`a pool from row ${n.from}`);
      break;
    }
    case "norm":
      want(n.weight, "f32", [last(n.x)]);
      want(n.bias, "f32", [last(n.x)]);
      like(n.out, n.x);
      if (!(n.eps > 0)) problems.push(`eps ${n.eps}`);
      break;
    case "linear": {
      const out = shapeOf(n.weight)[0];
      want(n.weight, "float", [undefined, last(n.x)]);
      if (n.bias !== undefined) want(n.bias, "f32", [out]);
      want(n.out, "float", [...shapeOf(n.x).slice(0, -1), out]);
      if (n.residual !== undefined) like(n.residual.x, n.out);
      break;
    }
    case "activate":
      like(n.out, n.x);
      break;
    case "add":
      like(n.residual, n.x);
      like(n.out, n.x);
      break;
    case "xpos":
      if (last(n.x) !== n.heads * n.headDim)
        problems.push(`'${n.x}' is not ${n.heads} heads of ${n.headDim}`);
      if (n.headDim % 2 !== 0) problems.push(`pairs in a head of ${n.headDim}`);
      like(n.out, n.x);
      break;
    case "attention": {
      const { heads, kvHeads, headDim } = n.spec;
      const [B, N] = shapeOf(n.q);
      // Heads side by side are the same memory as one row: [B, N, heads, headDim] or [B, N, heads · headDim].
      const apart = shapeOf(n.q).length === 4;
      const rows = (count: number) => (apart ? [count, headDim] : [count * headDim]);
      want(n.q, "float", [undefined, undefined, ...rows(heads)]);
      want(n.k, "float", [B, N, ...rows(kvHeads)]);
      want(n.v, "float", [B, N, ...rows(kvHeads)]);
      like(n.out, n.q);
      want(n.lse, "f32", [B, heads, N]);
      break;
    }
    case "rotate":
      if (last(n.x) !== n.heads * n.headDim)
        problems.push(`'${n.x}' is not ${n.heads} heads of ${n.headDim}`);
      want(n.x, "float", ["B", 1, undefined]);
      want(n.table, "f32", ["B", n.headDim]);
      like(n.out, n.x);
      break;
    case "place":
      want(n.x, "float", ["B", 1, undefined]);
      want(n.weight, "float", [undefined, last(n.x)]);
      want(n.place, "i32", [3, "B"]);
      like(n.out, n.x);
      break;
    case "decode": {
      const { heads, kvHeads, headDim } = n.spec;
      want(n.q, "float", ["B", 1, heads * headDim]);
      want(n.k, "float", ["B", 1, kvHeads * headDim]);
      want(n.v, "float", ["B", 1, kvHeads * headDim]);
      want(n.place, "i32", [3, "B"]);
      like(n.out, n.q);
      break;
    }
    case "remember": {
      const width = n.spec.kvHeads * n.spec.headDim;
      want(n.k, "float", ["B", "N", width]);
      want(n.v, "float", ["B", "N", width]);
      want(n.place, "i32", [3, "B"]);
      break;
    }
    case "promote":
      want(n.place, "i32", [3, "B"]);
  }
  return problems;
}
