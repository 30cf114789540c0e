/** Arrays of the host against the tensors of a Plan. */
import { inputError } from "./input-error.ts";
import { sizeOf } from "./plan.ts";
import type { TensorSpec } from "./plan.ts";

/** Tokens per sequence and sequences per batch of one run. */
export type Extent = { readonly N: number; readonly B: number };
/** Int32Array for tensors of i32, Float32Array for all others; row-major, without padding. */
export type HostArray = Float32Array | Int32Array;
export type Tensors = { readonly [name: string]: HostArray };

/** Elements of a tensor at N and B. */
export const elementsAt = (shape: TensorSpec["shape"], at: Extent): number =>
  shape.reduce<number>((product, size) => product * sizeOf(size, at), 1);

/** @throws InputError when N or B is not a positive integer. */
export function checkExtent({ N, B }: Extent): void {
  for (const [name, value] of Object.entries({ N, B }))
    if (!Number.isSafeInteger(value) || value < 1)
      throw inputError(`${name} must be a positive integer, found ${value}`);
}

/** Inputs must all be there; outputs may be left out. @throws InputError naming the first tensor that does not fit. */
export function checkTensors(
  what: "input" | "output",
  wanted: readonly TensorSpec[],
  given: Tensors,
  at: Extent,
): void {
  for (const name of Object.keys(given))
    if (!wanted.some((t) => t.name === name))
      throw inputError(`there is no ${what} '${name}', only ${wanted.map((t) => `'${t.name}'`).join(", ")}`);
  for (const t of wanted) {
    const array = given[t.name];
    if (array === undefined) {
      if (what === "output") continue;
      throw inputError(`input '${t.name}' is missing`);
    }
    const fits = t.dtype === "i32" ? array instanceof Int32Array : array instanceof Float32Array;
    if (!fits)
      throw inputError(`${what} '${t.name}' must be a ${t.dtype === "i32" ? "Int32Array" : "Float32Array"}`);
    const elements = elementsAt(t.shape, at);
    if (array.length !== elements) {
      const shape = t.shape.map((size) => sizeOf(size, at)).join(", ");
      throw inputError(`${what} '${t.name}' [${shape}] has ${elements} elements, found ${array.length}`);
    }
  }
}
