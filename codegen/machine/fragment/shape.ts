/**
 * Which tile kernels the matrix units can run, and how their tiles are dealt to warps: warp w holds rows 16·tall·w … of every tile of
 * as many rows as the accumulators have, in `tall` bands of 16 and in all columns, so that the maximum and sum of a row are found
 * within four lanes.
 */
import type { Element, Expr, Stmt, Tile, TileDecl, TileKernel } from "../../../src/kernel.ts";
import type { Half } from "../../../src/warp.ts";
import { tilesIn } from "../../distribute.ts";
import { powerIn } from "../../divisor.ts";
import { referencesOf } from "../simt/residence.ts";

/** f32 values of accumulators that a lane keeps in registers: beside 208 of 255, operands and addresses find room. */
const ACCUMULATED = 208;
const TIGHT = 128;
/** Integers of a kernel's own beside which two bands to a warp spill: a class schedule has some for each branch. */
const MANY = 40;
const WARP = 32;

export type Home =
  /** 16-bit rows in shared memory, an operand of products. */
  | { readonly at: "operand"; readonly dtype: Half }
  /** Accumulators and what goes along with them, in registers. */
  | { readonly at: "fragment" }
  /** A number for each row, held by the four lanes that hold the row. */
  | { readonly at: "column" }
  /** A number for each column, held by all lanes that hold the column. */
  | { readonly at: "line" };

export type Shape = {
  readonly homes: ReadonlyMap<string, Home>;
  readonly decl: (tile: string) => TileDecl;
  /** Of accumulators. */
  readonly rows: number;
  readonly warps: number;
  readonly tall: number;
  readonly lanes: number;
  /** Whether accumulators leave so few registers that what follows from a lane's number is better computed than kept. */
  readonly tight: boolean;
};

type Mma = Extract<Tile, { readonly s: "mma" }>;
export type Panels = Exclude<Mma["b"], string>;

/** How a kernel's tiles are laid out; a sentence where the machine cannot run it. */
export function shapeOf(kernel: TileKernel): Shape | string {
  const statements = tilesIn(kernel.body);
  const products = statements.filter((s) => s.s === "mma");
  if (products.length === 0) return "it has no products";
  const decls = new Map(kernel.tiles.map((t) => [t.name, t]));
  const decl = (name: string): TileDecl => {
    const found = decls.get(name);
    if (found === undefined)
      throw new Error(`heddle: internal: fragment: no tile '${name}' in '${kernel.name}'`);
    return found;
  };
  const dtypes = new Map(kernel.buffers.map((b) => [b.name, b.dtype]));
  const half = (buffer: string): Half | null => {
    const dtype = dtypes.get(buffer);
    return dtype === "f16" || dtype === "bf16" ? dtype : null;
  };
  const accs = new Set(products.map((s) => s.acc));
  const [rows = 0, ...others] = new Set([...accs].map((a) => decl(a).rows));
  if (others.length > 0 || rows % 16 !== 0)
    return `its accumulators have ${[rows, ...others].join(" and ")} rows`;

  const homes = new Map<string, Home>();
  const operands = new Set(products.flatMap((s) => [s.a, ...(typeof s.b === "string" ? [s.b] : [])]));
  for (const t of kernel.tiles) {
    if (operands.has(t.name) && !accs.has(t.name)) {
      const wrong = operandProblem(t, statements, half);
      if (typeof wrong === "string") return wrong;
      homes.set(t.name, { at: "operand", dtype: wrong.dtype });
    } else if (t.cols === 1 && t.rows === rows) homes.set(t.name, { at: "column" });
    else if (t.rows === 1 && t.cols % 8 === 0) homes.set(t.name, { at: "line" });
    else if (t.rows === rows && t.cols % 8 === 0) homes.set(t.name, { at: "fragment" });
    else return `tile '${t.name}' is ${t.rows} × ${t.cols}`;
  }
  const at = (tile: string) => homes.get(tile)?.at;
  const held = statements.find(
    (s) =>
      ((s.s === "copy" || s.s === "write") &&
        at(s.tile) !== "operand" &&
        s.rows.cols !== decl(s.tile).cols) ||
      (s.s === "write" && at(s.tile) === "operand") ||
      (s.s === "fill" && at(s.tile) === "operand") ||
      (s.s === "reduce" && (at(s.from) !== "fragment" || at(s.into) !== "column")) ||
      (s.s === "map" && !reads(s, at)) ||
      (s.s === "write" && s.value !== undefined && !reads({ ...s, value: s.value }, at)),
  );
  if (held !== undefined)
    return `'${held.s}' of '${held.s === "reduce" ? held.from : held.s === "mma" ? held.acc : held.tile}' has no fragments`;
  for (const s of products) {
    const wrong = productProblem(s, homes, decl, half);
    if (wrong !== null) return wrong;
  }
  const width = [...accs].reduce((sum, a) => sum + decl(a).cols, 0);
  const integers = [...inside(kernel.body)].filter((s) => s.s === "let").length;
  const tall = rows % 128 === 0 && width <= ACCUMULATED && integers <= MANY ? 2 : 1;
  const warps = rows / 16 / tall;
  if (warps * WARP > 1024 || (tall * width) / 2 > ACCUMULATED)
    return `${rows} rows of ${width} columns exceed the registers of a block`;
  const tight = (tall * width) / 2 > TIGHT;
  return { homes, decl, rows, warps, tall, lanes: warps * WARP, tight };
}

/** An operand is copied whole from rows of one 16-bit type that start at multiples of 16 bytes. */
function operandProblem(
  t: TileDecl,
  statements: readonly Tile[],
  half: (buffer: string) => Half | null,
): string | { readonly dtype: Half } {
  if (t.rows % 8 !== 0 || t.cols % 8 !== 0) return `operand '${t.name}' is ${t.rows} × ${t.cols}`;
  let dtype: Half | null = null;
  for (const s of statements) {
    if (s.s !== "copy" || s.tile !== t.name) continue;
    const { rows } = s;
    const from = half(rows.buffer);
    if (from === null || (dtype !== null && dtype !== from))
      return `operand '${t.name}' is read from '${rows.buffer}', which is not of 16 bits`;
    if (rows.cols !== t.cols || rows.gather !== undefined) return `operand '${t.name}' is not copied whole`;
    if (dividing(rows.stride) % 8 !== 0) return `rows of '${rows.buffer}' are not aligned to 16 bytes`;
    dtype = from;
  }
  return dtype === null ? `operand '${t.name}' is never copied` : { dtype };
}

/** A power of two that divides an expression, whatever its names stand for. */
function dividing(e: Expr): number {
  if (e.e === "const") return powerIn(e.value);
  if (e.e !== "op") return 1;
  const [a, b] = e.args.map(dividing);
  if (a === undefined || b === undefined) return 1;
  if (e.op === "mul") return a === 0 || b === 0 ? 0 : a * b;
  return e.op === "add" || e.op === "sub" ? (a === 0 ? b : b === 0 ? a : Math.min(a, b)) : 1;
}

function productProblem(
  s: Mma,
  homes: ReadonlyMap<string, Home>,
  decl: (tile: string) => TileDecl,
  half: (buffer: string) => Half | null,
): string | null {
  if (s.from !== undefined) return "a product begins inside its left operand";
  const left = homes.get(s.a);
  const b = typeof s.b === "string" ? homes.get(s.b) : undefined;
  const dtype = typeof s.b === "string" ? (b?.at === "operand" ? b.dtype : null) : half(s.b.buffer);
  if (dtype === null) return `the right operand of '${s.acc}' is not of 16 bits`;
  if (left === undefined || (left.at === "operand" ? left.dtype !== dtype : left.at !== "fragment"))
    return `the left operand '${s.a}' is of another type`;
  if (left.at === "fragment" && decl(s.a).cols % 16 !== 0)
    return `the left operand '${s.a}' has ${decl(s.a).cols} columns`;
  if (s.transposed === true && decl(s.acc).cols % 16 !== 0)
    return `'${s.acc}' has ${decl(s.acc).cols} columns`;
  return null;
}

/** Whether a value of a tile reads others only where the lane that computes it holds them. */
function reads(
  s: { readonly tile: string; readonly value: Expr<Element> },
  at: (tile: string) => Home["at"] | undefined,
): boolean {
  const home = at(s.tile);
  return referencesOf(s.value).every(({ tile, picked }) => {
    if (picked) return false;
    const other = at(tile);
    if (home === "operand") return tile === s.tile;
    if (home === "fragment") return other !== "operand";
    return other === home;
  });
}

/** Statements of a block and of those inside it, tiles and others. */
export function* inside(body: readonly Stmt<Tile>[]): Generator<Stmt<Tile>> {
  for (const s of body) {
    yield s;
    if (s.s === "for") yield* inside(s.body);
    if (s.s === "if") {
      yield* inside(s.then);
      yield* inside(s.else ?? []);
    }
  }
}
