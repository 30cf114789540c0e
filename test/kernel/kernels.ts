/** Kernels written by hand, for the tests of the kernel tools. */
import type { Buffer, Expr, Kernel, Op, Scalar, Stmt } from "../../src/kernel.ts";
import { f32, i32, op } from "../../src/expr.ts";
import { interpret } from "../../src/interpret.ts";

export const read = (name: string, dtype: Buffer["dtype"] = "f32"): Buffer => ({
  name,
  dtype,
  access: "read",
});
export const write = (name: string, dtype: Buffer["dtype"] = "f32"): Buffer => ({
  name,
  dtype,
  access: "write",
});
export const both = (name: string): Buffer => ({ name, dtype: "f32", access: "readwrite" });

export const kernel = (body: readonly Stmt[], rest: Partial<Kernel> = {}): Kernel => ({
  name: "test",
  buffers: [],
  scalars: [],
  tables: [],
  shared: [],
  workgroup: 1,
  ...rest,
  body,
});

export const loop = (
  name: string,
  from: number,
  to: number | Expr,
  body: readonly Stmt[],
  step = 1,
): Stmt => ({
  s: "for",
  name,
  from: i32(from),
  to: typeof to === "number" ? i32(to) : to,
  step,
  body,
});
export const when = (cond: Expr, then: readonly Stmt[], otherwise?: readonly Stmt[]): Stmt =>
  otherwise === undefined ? { s: "if", cond, then } : { s: "if", cond, then, else: otherwise };
export const barrier: Stmt = { s: "barrier" };

/** Evaluates scalar f32 or i32 expressions over scalar parameters `a`, `b`, `c`. */
export function evaluate(
  type: "f32" | "i32",
  e: Expr,
  scalars: { readonly [name: string]: number } = {},
  types: { readonly [name: string]: "f32" | "i32" } = {},
): number {
  const k = kernel([{ s: "store", to: "o", index: i32(0), value: e }], {
    buffers: [write("o", type)],
    scalars: Object.keys(scalars).map((name) => ({ name, type: types[name] ?? type })),
  });
  const o = type === "i32" ? new Int32Array(1) : new Float32Array(1);
  interpret(k, { buffers: { o }, scalars, groups: 1 });
  return o[0]!;
}
export const number = (type: Scalar, x: number): Expr => (type === "i32" ? i32(x) : f32(x));
export const apply = (name: Op, type: "f32" | "i32", ...args: number[]): Expr =>
  op(
    name,
    args.map((x) => number(type, x)),
  );
