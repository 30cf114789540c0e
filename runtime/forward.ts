/** One forward pass of a model: its inputs as the tensors of its program, and sequences of different lengths without their padding. */
import type { ModelDefinition } from "./definition.ts";
import { inputError } from "./input-error.ts";
import { fits, positionsFit, tokensOf } from "./inputs.ts";
import type { Extent, HostArray } from "./tensors.ts";

/** What a model is run on; `length` counts tokens or tiles, without a class token. */
export type ForwardInputs = {
  /** Tokens [batch, length], or features [batch, length, width of a row]. */
  readonly input: ArrayLike<number>;
  readonly batch: number;
  readonly length: number;
  /** [batch, length, 2]: x and y of each tile, in pixels of the slide. */
  readonly coords?: ArrayLike<number> | undefined;
  /** [batch, length]: other than 0 where a sequence is padded. */
  readonly paddingMask?: ArrayLike<number> | undefined;
};

/** Arrays of a pass; N is the length, and one more with a class token. */
export type Forward = {
  /** [B, N, width], or [B, width] of a pooled model. */
  readonly result: Float32Array;
  /** [layers + 1, B, dim] */
  readonly states?: Float32Array;
  /** [layers + 1, B, N, dim] */
  readonly hidden?: Float32Array;
};

/** Runs the program once. Inputs are in the order of its plan. */
export type Pass = (at: Extent, inputs: readonly HostArray[]) => Promise<Forward>;

type Definition = Omit<ModelDefinition, "program">;

/** @throws InputError where the arrays do not fit the model. */
export async function forward(d: Definition, given: ForwardInputs, pass: Pass): Promise<Forward> {
  const { input, batch: B, length, coords, paddingMask } = given;
  const tokens = d.input === "tokens";
  fits(d.input, input, tokens ? [B, length] : [B, length, widthOf(d)]);
  if (d.grid === undefined && coords !== undefined)
    throw inputError(`model '${d.name}' takes no coordinates`);
  if (d.grid !== undefined) {
    if (coords === undefined) throw inputError(`model '${d.name}' needs coords [batch, length, 2]`);
    fits("coords", coords, [B, length, 2]);
  }
  if (paddingMask !== undefined) fits("the padding mask", paddingMask, [B, length]);
  const lengths = paddingMask === undefined ? null : lengthsOf(d, paddingMask, B, length);
  const N = rowsFor(d, length);
  positionsFit(d, N);
  if (tokens) tokensOf(input, length, d.vocab);
  if (lengths === null) return pass({ N, B }, inputsOf(d, given));

  // Sequences of one length run as one batch.
  const whole: { -readonly [K in keyof Forward]: Float32Array } = { result: new Float32Array() };
  const part = <T extends ArrayLike<number>>(
    data: T,
    members: readonly number[],
    count: number,
    width: number,
  ) =>
    Float32Array.from({ length: members.length * count * width }, (_, i) => {
      const [b, at] = [members[Math.floor(i / (count * width))] ?? 0, i % (count * width)];
      return data[b * length * width + at] ?? NaN;
    });
  for (const count of new Set(lengths)) {
    const members = lengths.flatMap((n, b) => (n === count ? [b] : []));
    const made = await pass(
      { N: rowsFor(d, count), B: members.length },
      inputsOf(d, {
        input: part(input, members, count, tokens ? 1 : widthOf(d)),
        batch: members.length,
        length: count,
        ...(coords === undefined ? {} : { coords: part(coords, members, count, 2) }),
      }),
    );
    for (const [name, data] of Object.entries(made) as [keyof Forward, Float32Array][]) {
      const layers = name === "result" ? 1 : d.layers + 1;
      // Padded rows stay 0.
      const apart = name === "hidden" || (name === "result" && d.pooled !== true);
      const [rows, short] = apart ? [N, rowsFor(d, count)] : [1, 1];
      const width = data.length / (layers * members.length * short);
      if (whole[name] === undefined || whole[name].length === 0)
        whole[name] = new Float32Array(layers * B * rows * width);
      const into = whole[name];
      for (let layer = 0; layer < layers; layer++)
        members.forEach((b, m) => {
          const from = (layer * members.length + m) * short * width;
          into.set(data.subarray(from, from + short * width), (layer * B + b) * rows * width);
        });
    }
  }
  return whole;
}

/** Numbers in a row of features. */
export const widthOf = (d: Pick<ModelDefinition, "features" | "dim">): number => d.features ?? d.dim;

/** Rows of the program for a length. */
export const rowsFor = (d: Pick<ModelDefinition, "classToken">, length: number): number =>
  length + (d.classToken === true ? 1 : 0);

/** The tensors of the program, in the order of its plan. With a class token every sequence begins with a row for it. */
function inputsOf(d: Definition, { input, batch, length, coords, paddingMask }: ForwardInputs): HostArray[] {
  const N = rowsFor(d, length);
  const shifted = <A extends HostArray>(into: A, data: ArrayLike<number>, width: number): A => {
    for (let b = 0; b < batch; b++) {
      const to = (b * N + N - length) * width;
      for (let i = 0; i < length * width; i++) into[to + i] = data[b * length * width + i] ?? 0;
    }
    return into;
  };
  const tensors: HostArray[] = [
    d.input === "tokens"
      ? shifted(new Int32Array(batch * N), input, 1)
      : shifted(new Float32Array(batch * N * widthOf(d)), input, widthOf(d)),
  ];
  if (d.grid !== undefined && coords !== undefined)
    // Prov-GigaPath's table has y in the first half of a row.
    for (const axis of ["y", "x"] as const)
      tensors.push(shifted(new Int32Array(batch * N), cellsOf(coords, axis, d.grid, length), 1));
  if (d.padding === "zero") tensors.push(shifted(new Int32Array(batch * N), paddingMask ?? [], 1));
  return tensors;
}

/** The cell of each tile along one axis. */
function cellsOf(
  coords: ArrayLike<number>,
  axis: "x" | "y",
  { cells, tile }: { readonly cells: number; readonly tile: number },
  length: number,
): Int32Array {
  const places = new Int32Array(coords.length / 2);
  places.forEach((_, i) => {
    const at = coords[2 * i + (axis === "x" ? 0 : 1)] ?? NaN;
    const cell = Math.floor(at / tile);
    if (!(cell >= 0 && cell < cells)) {
      const row = places.length > length ? ` of sequence ${Math.floor(i / length)}` : "";
      throw inputError(
        `tile ${i % length}${row} has ${axis} = ${at}, outside the grid of ${cells} cells of ${tile} pixels: coordinates go from 0 to ${cells * tile - 1}`,
      );
    }
    places[i] = cell;
  });
  return places;
}

/** The length of each sequence without its padding; null where a mask hides nothing, or is an input of the program. */
function lengthsOf(d: Definition, mask: ArrayLike<number>, B: number, length: number): number[] | null {
  if (d.padding === "zero") return null;
  let padded = false;
  const lengths = Array.from({ length: B }, (_, b) => {
    let count = length;
    while (count > 0 && mask[b * length + count - 1] !== 0) count--;
    for (let n = 0; n < count; n++)
      if (mask[b * length + n] !== 0)
        throw inputError(`the padding mask hides token ${n} of sequence ${b}: padding must stand at the end`);
    if (count === 0) throw inputError(`the padding mask hides all of sequence ${b}`);
    padded ||= count < length;
    return count;
  });
  return padded ? lengths : null;
}
