/** The geometry's integers as formulas of N and B; conditions are not needed for sizes. */
import type { Size } from "../../runtime/plan.ts";
import type { Integers } from "./integers.ts";

const never = (): never => {
  throw new Error("heddle: internal: a size has no conditions");
};
const binary =
  (op: "add" | "sub" | "mul" | "floorDiv" | "min" | "max") =>
  (a: Size, b: Size): Size => {
    if (op === "mul" && (a === 0 || b === 0)) return 0;
    if (op === "mul" && (a === 1 || b === 1)) return a === 1 ? b : a;
    if (op === "add" && (a === 0 || b === 0)) return a === 0 ? b : a;
    if (typeof a === "number" && typeof b === "number")
      return {
        add: a + b,
        sub: a - b,
        mul: a * b,
        floorDiv: Math.floor(a / b),
        min: Math.min(a, b),
        max: Math.max(a, b),
      }[op];
    return { op, args: [a, b] };
  };
export const sizes: Integers<Size, never> = {
  of: (n) => n,
  add: binary("add"),
  sub: binary("sub"),
  mul: binary("mul"),
  div: binary("floorDiv"),
  min: binary("min"),
  max: binary("max"),
  rem: never,
  eq: never,
  lt: never,
  and: never,
  not: never,
  select: never,
  truth: never,
  offset: never,
  look: never,
  share: (_, value) => value,
  shareCondition: never,
};
