/**
 * Programs with inputs as JSON, for another process to run: numbers are base64 of little-endian words. Deno and a web page read this
 * file too.
 */
import { wasmModules, type WasmText } from "../../runtime/modules.ts";
import type { Program } from "../../runtime/plan.ts";
import type { Extent, HostArray, Tensors } from "../../runtime/tensors.ts";

export type Numbers = { readonly dtype: "f32" | "i32"; readonly base64: string };

/** A program for one target. */
export type ProgramText = Pick<Program, "plan" | "webgpu"> & { readonly wasm?: WasmText };

export type Task = {
  readonly name: string;
  readonly program: ProgramText;
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

/** Bytes that one call turns into characters: fewer than an engine takes arguments. */
const PIECE = 0x8000;

export function base64Of(bytes: Uint8Array): string {
  let text = "";
  for (let i = 0; i < bytes.length; i += PIECE) text += String.fromCharCode(...bytes.subarray(i, i + PIECE));
  return btoa(text);
}
function bytesOf(base64: string): Uint8Array<ArrayBuffer> {
  const text = atob(base64);
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  return bytes;
}

export const encode = (array: HostArray): Numbers => ({
  dtype: array instanceof Int32Array ? "i32" : "f32",
  base64: base64Of(new Uint8Array(array.buffer, array.byteOffset, array.byteLength)),
});
export function decode({ dtype, base64 }: Numbers): HostArray {
  const { buffer } = bytesOf(base64);
  return dtype === "i32" ? new Int32Array(buffer) : new Float32Array(buffer);
}
export const encodeAll = (tensors: Tensors): { readonly [name: string]: Numbers } =>
  Object.fromEntries(Object.entries(tensors).map(([name, array]) => [name, encode(array)]));
export const decodeAll = (tensors: { readonly [name: string]: Numbers }): Tensors =>
  Object.fromEntries(Object.entries(tensors).map(([name, numbers]) => [name, decode(numbers)]));

/** A program's kernels of one target. */
export function programText({ plan, wasm, webgpu }: Program, target: "wasm" | "wgsl"): ProgramText {
  if (target === "wgsl") {
    if (webgpu === undefined) throw new Error(`'${plan.name}' was not compiled for WebGPU`);
    return { plan, webgpu };
  }
  if (wasm === undefined) throw new Error(`'${plan.name}' was not compiled for WebAssembly`);
  return { plan, wasm: { ...wasm, base: base64Of(wasm.base), relaxed: base64Of(wasm.relaxed) } };
}
export const programOf = ({ wasm, ...rest }: ProgramText): Program => ({
  ...rest,
  ...(wasm === undefined ? {} : { wasm: wasmModules(wasm) }),
});
