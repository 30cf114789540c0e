import type { WasmModules } from "./plan.ts";

/** Modules as a generated file holds them, in base64. */
export type WasmText = Omit<WasmModules, "base" | "relaxed"> & {
  readonly base: string;
  readonly relaxed: string;
};

export const wasmModules = ({ base, relaxed, ...rest }: WasmText): WasmModules => ({
  ...rest,
  base: bytesOf(base),
  relaxed: bytesOf(relaxed),
});

const bytesOf = (base64: string): Uint8Array => Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
