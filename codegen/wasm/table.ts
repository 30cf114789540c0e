/** The operations of the IR that WebAssembly has, as instructions; what is missing here `codegen/legalize` spells. */
import type { Op, Scalar } from "../../src/kernel.ts";
import type { Instruction } from "./encode.ts";

/** By operand scalar type: the scalar instruction and its four-lane form. */
type Form = { readonly one?: Instruction; readonly four?: Instruction };

/** Operations that are one instruction on their operands in order. The rest (`special`) is spelled in emit.ts. */
export const direct: { readonly [O in Op]?: { readonly [S in Scalar]?: Form } } = {
  add: { f32: { one: "f32.add", four: "f32x4.add" }, i32: { one: "i32.add", four: "i32x4.add" } },
  sub: { f32: { one: "f32.sub", four: "f32x4.sub" }, i32: { one: "i32.sub", four: "i32x4.sub" } },
  mul: { f32: { one: "f32.mul", four: "f32x4.mul" }, i32: { one: "i32.mul", four: "i32x4.mul" } },
  // Dividends are never negative, so the unsigned forms serve; vectors are divided lane by lane in emit.ts.
  div: { f32: { one: "f32.div", four: "f32x4.div" }, i32: { one: "i32.div_u" } },
  rem: { i32: { one: "i32.rem_u" } },
  // Nothing is ever NaN, so the pseudo-minimum serves: one instruction on x64, where the IEEE one takes about five.
  min: { f32: { one: "f32.min", four: "f32x4.pmin" }, i32: { four: "i32x4.min_s" } },
  max: { f32: { one: "f32.max", four: "f32x4.pmax" }, i32: { four: "i32x4.max_s" } },
  neg: { f32: { one: "f32.neg", four: "f32x4.neg" }, i32: { four: "i32x4.neg" } },
  abs: { f32: { one: "f32.abs", four: "f32x4.abs" } },
  sqrt: { f32: { one: "f32.sqrt", four: "f32x4.sqrt" } },
  floor: { f32: { one: "f32.floor", four: "f32x4.floor" } },
  round: { f32: { one: "f32.nearest", four: "f32x4.nearest" } },
  eq: { f32: { one: "f32.eq", four: "f32x4.eq" }, i32: { one: "i32.eq", four: "i32x4.eq" } },
  ne: { f32: { one: "f32.ne", four: "f32x4.ne" }, i32: { one: "i32.ne", four: "i32x4.ne" } },
  lt: { f32: { one: "f32.lt", four: "f32x4.lt" }, i32: { one: "i32.lt_s", four: "i32x4.lt_s" } },
  le: { f32: { one: "f32.le", four: "f32x4.le" }, i32: { one: "i32.le_s", four: "i32x4.le_s" } },
  gt: { f32: { one: "f32.gt", four: "f32x4.gt" }, i32: { one: "i32.gt_s", four: "i32x4.gt_s" } },
  ge: { f32: { one: "f32.ge", four: "f32x4.ge" }, i32: { one: "i32.ge_s", four: "i32x4.ge_s" } },
  and: { i32: { one: "i32.and", four: "v128.and" }, bool: { one: "i32.and", four: "v128.and" } },
  or: { i32: { one: "i32.or", four: "v128.or" }, bool: { one: "i32.or", four: "v128.or" } },
  xor: { i32: { one: "i32.xor", four: "v128.xor" }, bool: { one: "i32.xor", four: "v128.xor" } },
  not: { bool: { one: "i32.eqz", four: "v128.not" } },
  shl: { i32: { one: "i32.shl" } },
  shr: { i32: { one: "i32.shr_s" } },
  float: { i32: { one: "f32.convert_i32_s", four: "f32x4.convert_i32x4_s" } },
  int: { f32: { one: "i32.trunc_sat_f32_s", four: "i32x4.trunc_sat_f32x4_s" } },
  bits: { f32: { one: "i32.reinterpret_f32" } },
  unbits: { i32: { one: "f32.reinterpret_i32" } },
  splat: { f32: { one: "f32x4.splat" }, i32: { one: "i32x4.splat" } },
};

/** Operations that take more than one instruction or an immediate. */
export const special = ["madd", "select", "iota", "shuffle", "lane"] as const satisfies readonly Op[];
