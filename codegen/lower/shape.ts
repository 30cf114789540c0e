/** Shapes of graph values as sizes, and the pieces of a kernel that every row-wise operation shares. */
import type { Dim, Graph, ValueId } from "../../src/graph.ts";
import type { Buffer, Dtype, Expr, Rows, ScalarParam, Size } from "../../src/kernel.ts";
import { i32, mul, ref, sub } from "../../src/expr.ts";

function valueOf(graph: Graph, id: ValueId) {
  for (const values of [graph.values, graph.inputs, graph.weights])
    for (const v of values) if (v.id === id) return v;
  throw new Error(`heddle: internal: '${graph.name}' has no value '${id}'`);
}
export const shapeOf = (graph: Graph, id: ValueId): readonly Dim[] => valueOf(graph, id).shape;
export const dtypeOf = (graph: Graph, id: ValueId): Dtype => valueOf(graph, id).dtype;

/** Elements per row: the last axis, which is always a number. */
export function widthOf(graph: Graph, id: ValueId): number {
  const last = shapeOf(graph, id).at(-1);
  if (typeof last === "number") return last;
  throw new Error(`heddle: internal: the rows of '${id}' in '${graph.name}' have no fixed width`);
}

/** Rows of a value: the product of all axes but the last. */
export const rowsOf = (graph: Graph, id: ValueId): Size => productOf(shapeOf(graph, id).slice(0, -1));

export const productOf = (dims: readonly Dim[]): Size =>
  dims.reduce<Size>((a, b) => (a === 1 ? b : b === 1 ? a : { op: "mul", args: [a, b] }), 1);

export const ceilDivOf = (a: Size, b: number): Size => ({ op: "ceilDiv", args: [a, b] });
export const timesOf = (a: Size, b: Size): Size => (a === 1 ? b : b === 1 ? a : { op: "mul", args: [a, b] });

export const reads = (name: string, dtype: "f32" | "i32" = "f32"): Buffer => ({
  name,
  dtype,
  access: "read",
});
export const writes = (name: string): Buffer => ({ name, dtype: "f32", access: "write" });
export const integer = (name: string): ScalarParam => ({ name, type: "i32" });

/** Rows first … of a dense [rows, width] buffer, up to the row `end`; columns `col` … col + cols. */
export function denseRows(
  buffer: string,
  width: number,
  first: Expr,
  end: Expr,
  part: { readonly col: Expr; readonly cols: number } = { col: i32(0), cols: width },
): Rows {
  const base = mul(first, i32(width));
  return {
    buffer,
    base:
      part.col.e === "const" && part.col.value === 0
        ? base
        : { e: "op", type: "i32", op: "add", args: [base, part.col] },
    stride: i32(width),
    count: sub(end, first),
    cols: part.cols,
  };
}

export const int = (name: string): Expr => ref(name, "i32");

/** A number as part of a kernel's name: the same name only for the same number. */
export const named = (x: number): string => String(x).replace("-", "m").replace("+", "").replace(".", "p");
