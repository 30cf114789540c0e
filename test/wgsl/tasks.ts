/** Programs with inputs as JSON, for another process to run: numbers are base64 of little-endian words. Deno reads this file too. */
import type { Program } from "../../runtime/plan.ts";
import type { Extent, HostArray, Tensors } from "../../runtime/tensors.ts";

export type Numbers = { readonly dtype: "f32" | "i32"; readonly base64: string };

export type Task = {
  readonly name: string;
  /** Without WebAssembly, which JSON does not hold. */
  readonly program: Program;
  /** Weights by checkpoint name, with their shapes. */
  readonly weights: readonly {
    readonly name: string;
    readonly shape: readonly number[];
    readonly data: Numbers;
  }[];
  readonly inputs: { readonly [name: string]: Numbers };
  readonly at: Extent;
};

export type TaskResult = {
  readonly name: string;
  readonly ms: number;
} & (
  | { readonly detail: string; readonly outputs: { readonly [name: string]: Numbers } }
  | { readonly error: string }
);

export const encode = (array: HostArray): Numbers => ({
  dtype: array instanceof Int32Array ? "i32" : "f32",
  base64: Buffer.from(array.buffer, array.byteOffset, array.byteLength).toString("base64"),
});
export function decode({ dtype, base64 }: Numbers): HostArray {
  const { buffer } = Uint8Array.from(Buffer.from(base64, "base64"));
  return dtype === "i32" ? new Int32Array(buffer) : new Float32Array(buffer);
}
export const encodeAll = (tensors: Tensors): { readonly [name: string]: Numbers } =>
  Object.fromEntries(Object.entries(tensors).map(([name, array]) => [name, encode(array)]));
export const decodeAll = (tensors: { readonly [name: string]: Numbers }): Tensors =>
  Object.fromEntries(Object.entries(tensors).map(([name, numbers]) => [name, decode(numbers)]));

/** A program of one target only. */
export const webgpuOnly = ({ plan, webgpu }: Program): Program => {
  if (webgpu === undefined) throw new Error(`'${plan.name}' was not compiled for WebGPU`);
  return { plan, webgpu };
};
