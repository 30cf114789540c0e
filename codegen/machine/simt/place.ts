/** Where tiles lie: in memory that lanes share, or in registers. */
import { add, i32, mul, ref } from "../../../src/expr.ts";
import type { Expr } from "../../../src/kernel.ts";
import type { Style } from "./grid.ts";
import type { Order } from "./residence.ts";

/**
 * Lines of ld elements of a shared array from `base` on. By rows, a line is a row, and columns cols … ceil4(cols) are zeros where a
 * product may read them; by columns, a line is a column, and rows is a multiple of four.
 */
export type SharedPlace = {
  readonly at: "shared";
  /** For the barriers: which memory this is. */
  readonly tile: string;
  readonly rows: number;
  readonly cols: number;
  readonly order: Order;
  readonly array: string;
  readonly base: number;
  readonly ld: number;
};

/** First element of a line. */
export const lineOf = (p: SharedPlace, line: Expr): Expr =>
  p.order === "rows" && p.rows === 1 ? i32(p.base) : add(mul(line, i32(p.ld)), i32(p.base));
export type RegisterPlace = {
  readonly at: "registers";
  readonly rows: number;
  readonly cols: number;
  readonly style: Style;
  /** Variables by row and column (or quad) of a lane's block. */
  readonly vars: readonly (readonly string[])[];
  /** The copy that products read it from as their left operand. */
  readonly shadow: SharedPlace | null;
};
/** A column, each row in a register of one lane: row r belongs to lane r mod lanes. */
export type OwnerPlace = {
  readonly at: "owners";
  readonly rows: number;
  readonly cols: 1;
  /** Variables by ⌊row / lanes⌋. */
  readonly vars: readonly string[];
  /** The copy that other lanes read it from. */
  readonly shadow: SharedPlace | null;
};
export type Place = SharedPlace | RegisterPlace | OwnerPlace;

export const variable = (name: string | undefined, type: "f32" | "f32x4"): Expr => {
  if (name === undefined) throw new Error("heddle: internal: simt: a tile has no such register");
  return ref(name, type);
};
export const typeOf = (p: RegisterPlace): "f32" | "f32x4" =>
  p.style === "quads" && p.cols > 1 ? "f32x4" : "f32";
