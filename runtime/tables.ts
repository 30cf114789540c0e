/** Tables that the host makes for a device: xPos angles and scales. Self-contained, so that a web page ships only this. */
import type { PlanTable, Size, XposTable } from "./plan.ts";

/** The shape of a table, at most as long as the longest sequence. */
export const tableShape = (table: PlanTable): readonly [rows: Size, width: number] =>
  table.kind === "xpos" ? ["N", table.headDim] : [table.rows, table.width];

/** Elements of a table for sequences of N tokens. */
export const tableLength = (table: PlanTable, N: number): number =>
  table.kind === "xpos" ? N * table.headDim : table.rows * table.width;

export const tableValues = (table: PlanTable, N: number): Float32Array =>
  table.kind === "xpos" ? xposTable(table, N) : sincosTable(table);

/** [rows, width]: see PlanTable. Angles and functions in f64, as Prov-GigaPath's pos_embed.py has them. */
export function sincosTable({
  rows,
  width,
}: {
  readonly rows: number;
  readonly width: number;
}): Float32Array {
  const half = width / 2;
  const frequencies = Array.from({ length: half }, (_, k) => 10000 ** (-k / half));
  const table = new Float32Array(rows * width);
  for (let p = 0; p < rows; p++)
    frequencies.forEach((frequency, k) => {
      table[p * width + k] = Math.sin(p * frequency);
      table[p * width + half + k] = Math.cos(p * frequency);
    });
  return table;
}

/**
 * 10000^(−2i/headDim) for pair i < headDim/2, in the roundings of torch's f32 expression
 * `1.0 / (10000 ** (arange(0, D/2) / (D/2)))`: exponent, power and reciprocal are each rounded to f32.
 */
export function xposFrequencies(headDim: number): Float32Array {
  const half = headDim / 2;
  return Float32Array.from({ length: half }, (_pair, i) => 1 / Math.fround(10000 ** Math.fround(i / half)));
}

/** ζ_i = (2i + 0.4·headDim) / (1.4·headDim), i < headDim/2, in f32 steps: bit for bit the checkpoint's buffer `xpos.scale`. */
export function xposZeta(headDim: number): Float32Array {
  const first = Math.fround(0.4 * headDim);
  const whole = Math.fround(1.4 * headDim);
  return Float32Array.from({ length: headDim / 2 }, (_pair, i) => Math.fround(2 * i + first) / whole);
}

/**
 * [N, headDim] of pairs (cos·f, sin·f): at row n, pair i the angle fl32(n · frequency_i) and f = ζ_i^(sign·(n mod block)/base),
 * computed in f64 and rounded once.
 */
export const xposTable = (table: Omit<XposTable, "kind">, N: number): Float32Array =>
  xposRows(table, N, (n) => n);

/** [count, headDim]: as row i that of the table at position `positionOf(i)`. */
export function xposRows(
  { headDim, base, block, sign }: Omit<XposTable, "kind">,
  count: number,
  positionOf: (row: number) => number,
): Float32Array {
  const frequencies = xposFrequencies(headDim);
  const rates = Float64Array.from(xposZeta(headDim), (zeta) => (sign * Math.log(zeta)) / base);
  const table = new Float32Array(count * headDim);
  for (let row = 0; row < count; row++) {
    const n = positionOf(row);
    for (let i = 0; i < frequencies.length; i++) {
      const angle = Math.fround(n * (frequencies[i] ?? 0));
      const factor = Math.exp((rates[i] ?? 0) * (n % block));
      table[row * headDim + 2 * i] = Math.cos(angle) * factor;
      table[row * headDim + 2 * i + 1] = Math.sin(angle) * factor;
    }
  }
  return table;
}

/** log₂ ζ_i for pair i < headDim/2: a kernel fades pair i of q·k over d blocks by exp2(d · block / base · this). */
export function decayTable(headDim: number): Float32Array {
  return Float32Array.from(xposZeta(headDim), Math.log2);
}
