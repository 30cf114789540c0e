/** What a lane computes of its own number for copies and matrices: pieces of 16 bytes in shared memory. */
import { add, div, i32, laneId, let_, load, mul, op, ref, rem } from "../../../src/expr.ts";
import type { Expr, Stmt } from "../../../src/kernel.ts";
import type { Warp } from "../../../src/warp.ts";
import { warp, type Operand, type Site } from "./site.ts";

/** A lane's number, and values that follow from it: each is named once, by statements that `pre` holds in the end. */
export type Own = {
  readonly lane: Expr;
  readonly once: (hint: string, value: Expr) => Expr;
  readonly pre: readonly Stmt<Warp>[];
};

/** Values computed at the start of the kernel. */
export const known = (site: Site): Own => ({ lane: laneId, once: site.once, pre: [] });

/** Values computed anew where they are used, so that no register holds them meanwhile. */
export function anew(site: Site): Own {
  const mover = site.registers("mover", "i32", 1);
  const pre: Stmt<Warp>[] = [warp("reread_lane", [[mover, i32(0)]])];
  const values = new Map<string, Expr>();
  const once = (hint: string, value: Expr): Expr => {
    const key = JSON.stringify(value);
    const before = values.get(key);
    if (before !== undefined) return before;
    const name = site.fresh(hint);
    pre.push(let_(name, value));
    const made = ref(name);
    values.set(key, made);
    return made;
  };
  return { lane: load(mover, i32(0), "i32"), once, pre };
}

/** Which row and piece of a matrix a lane names, in the parts of its number within the warp. */
export type Namer = {
  readonly own: Own;
  /** First row of the warp's bands. */
  readonly warpRow: Expr;
  /** Of 32: the last four bits, the last three, the upper bit, the fourth bit. */
  readonly low16: Expr;
  readonly low8: Expr;
  readonly high: Expr;
  readonly eighth: Expr;
};

export function namerOf(own: Own, tall: number): Namer {
  const bits = (hint: string, shift: number, mask: number): Expr =>
    own.once(hint, op("and", [shift === 0 ? own.lane : op("shr", [own.lane, i32(shift)]), i32(mask)]));
  return {
    own,
    warpRow: mul(op("shr", [own.lane, i32(5)]), i32(16 * tall)),
    low16: bits("low_16", 0, 15),
    low8: bits("low_8", 0, 7),
    high: bits("high", 4, 1),
    eighth: bits("eighth", 3, 1),
  };
}

/**
 * The word of the piece that a lane names for a matrix: its own row `laneRow` of the block of rows `rows`, and of the pieces 2·pair and
 * 2·pair + 1 the one its `bit` says. What a lane adds is the same for every matrix but for the turn of the low bits of 2·pair, so that
 * after unrolling an address is one of at most four registers and a constant.
 */
export function matrixPiece(
  { own, low8 }: Namer,
  p: Operand,
  [laneRow, rows]: readonly [Expr, Expr],
  [bit, pair]: readonly [Expr, Expr],
  stage: Expr,
): Expr {
  const fold = rem(div(low8, i32(8 / p.fold)), i32(p.fold));
  const turn = p.fold === 1 ? bit : own.once("turn", op("xor", [bit, fold]));
  const base = own.once("piece", mul(laneRow, i32(p.chunks)));
  const two = mul(pair, i32(2));
  const mask = p.fold - 1;
  const piece =
    mask < 2
      ? add(two, turn)
      : add(op("and", [two, i32(~mask)]), op("xor", [op("and", [two, i32(mask)]), turn]));
  return add(mul(add(add(base, mul(rows, i32(p.chunks))), piece), i32(4)), stage);
}
