/** Kernel expressions as text: infix with the fewest parentheses, everything else as a call. */
import type { Element, Expr, Op } from "../kernel.ts";
import { lanesOf, scalarOf } from "../expr.ts";
import { showFloat } from "./size.ts";

/** Infix signs with their binding strength; `and`, `or` and `xor` of bools have the signs of logic. */
const infix: { readonly [O in Op]?: readonly [sign: string, level: number, logic?: string] } = {
  or: ["|", 1, "||"],
  xor: ["^", 2, "^^"],
  and: ["&", 3, "&&"],
  eq: ["==", 4],
  ne: ["!=", 4],
  lt: ["<", 4],
  le: ["<=", 4],
  gt: [">", 4],
  ge: [">=", 4],
  shl: ["<<", 5],
  shr: [">>", 5],
  add: ["+", 6],
  sub: ["-", 6],
  mul: ["*", 7],
  div: ["/", 7],
  rem: ["%", 7],
};
const UNARY = 8;

/** `least` is the weakest operator that may stand without parentheses. */
export function showExpr(e: Expr<Element>, least = 0): string {
  const within = (level: number, text: string) => (level < least ? `(${text})` : text);
  switch (e.e) {
    case "const":
      if (e.type === "bool") return e.value === 0 ? "false" : "true";
      return within(
        e.value < 0 || Object.is(e.value, -0) ? UNARY : UNARY + 1,
        e.type === "f32" ? showFloat(e.value) : String(e.value),
      );
    case "ref":
      return e.name;
    case "builtin":
      return e.name;
    case "load":
      return access(e.from, showExpr(e.index), lanesOf(e.type));
    case "at":
      return e.pick === undefined ? e.tile : `${e.tile}.${e.pick}`;
    case "row":
    case "col":
      return e.e;
    case "op":
      return within(levelOf(e.op), operation(e));
  }
}

/** `q[i]`, and for the four elements from i on `q[i : 4]`. */
export const access = (array: string, index: string, lanes: number): string =>
  lanes > 1 ? `${array}[${index} : ${lanes}]` : `${array}[${index}]`;

const levelOf = (op: Op) => infix[op]?.[1] ?? (op === "neg" || op === "not" ? UNARY : UNARY + 1);

function operation(e: Extract<Expr<Element>, { e: "op" }>): string {
  const [a, b] = e.args;
  const row = infix[e.op];
  if (row !== undefined && a !== undefined && b !== undefined) {
    const [sign, level, logic] = row;
    // Additions and subtractions of negative constants read better the other way round.
    if (e.op === "add" && b.e === "const" && b.type === "i32" && b.value < 0 && b.value !== -(2 ** 31))
      return `${showExpr(a, level)} - ${-b.value}`;
    const word = logic !== undefined && scalarOf(a.type) === "bool" ? logic : sign;
    return `${showExpr(a, level)} ${word} ${showExpr(b, level + 1)}`;
  }
  if (e.op === "neg") return `-${showExpr(a!, UNARY + 1)}`;
  if (e.op === "not") return `!${showExpr(a!, UNARY)}`;
  const imm = e.imm === undefined ? "" : `; ${e.imm.join(" ")}`;
  return `${e.op}(${e.args.map((x) => showExpr(x)).join(", ")}${imm})`;
}
