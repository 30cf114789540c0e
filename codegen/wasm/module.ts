/** Kernels as one WebAssembly module that imports its memory, with their constant tables as data segments. */
import type { Kernel } from "../../src/kernel.ts";
import { f32Bytes, leb, sleb, typeByte } from "./encode.ts";
import { emitFunction, newOutlined } from "./emit.ts";

/** Addresses below this one stay free, so that a null pointer is never a table. */
const FIRST = 1024;
const MAX_PAGES = 65536;

const vec = (items: readonly (readonly number[])[]): number[] => [...leb(items.length), ...items.flat()];
const section = (id: number, body: readonly number[]): number[] => [id, ...leb(body.length), ...body];
const text = (s: string): number[] => {
  const bytes = [...new TextEncoder().encode(s)];
  return [...leb(bytes.length), ...bytes];
};
const i32Bytes = (x: number): number[] => [x & 255, (x >> 8) & 255, (x >> 16) & 255, (x >> 24) & 255];

export type EmittedModule = {
  readonly bytes: Uint8Array;
  /** Byte offset of the limits flag of the memory import: 0x01, or 0x03 for shared memory. */
  readonly memoryFlag: number;
  /** First address that no table uses. */
  readonly dataEnd: number;
  /** Scratch bytes of one thread, by kernel. */
  readonly scratch: ReadonlyMap<string, number>;
};

export function emitModule(
  kernels: readonly Kernel[],
  options: { readonly relaxed: boolean },
): EmittedModule {
  let free = FIRST;
  const segments: number[][] = [];
  const placed = new Map<string, number>();
  const outlined = newOutlined(kernels.length);
  const exported = kernels.map((kernel) => {
    const tables = new Map<string, number>();
    for (const table of kernel.tables) {
      const bytes = table.values.flatMap(table.type === "f32" ? f32Bytes : i32Bytes);
      const content = bytes.join();
      const at = placed.get(content) ?? free;
      tables.set(table.name, at);
      if (placed.has(content)) continue;
      placed.set(content, at);
      segments.push([0, 0x41, ...sleb(at), 0x0b, ...leb(bytes.length), ...bytes]);
      free += Math.ceil(bytes.length / 16) * 16;
    }
    return { name: kernel.name, ...emitFunction(kernel, { tables }, outlined, options) };
  });

  const functions = [...exported, ...outlined.functions];

  const header = [0x00, 0x61, 0x73, 0x6d, 1, 0, 0, 0];
  const types = section(1, vec(functions.map((f) => [0x60, ...vec(f.params.map((p) => [typeByte[p]])), 0])));
  const limits = [0x01, 1, ...leb(MAX_PAGES)];
  const imports = section(2, vec([[...text("env"), ...text("memory"), 2, ...limits]]));
  const memoryFlag = header.length + types.length + imports.length - limits.length;
  const bodies = functions.map((f) => {
    const body = [...vec(f.locals.map((t) => [1, typeByte[t]])), ...f.bytes, 0x0b];
    return [...leb(body.length), ...body];
  });
  const bytes = new Uint8Array([
    ...header,
    ...types,
    ...imports,
    ...section(3, vec(functions.map((_, i) => leb(i)))),
    ...section(7, vec(exported.map((f, i) => [...text(f.name), 0, ...leb(i)]))),
    ...section(10, vec(bodies)),
    ...(segments.length === 0 ? [] : section(11, vec(segments))),
  ]);
  return { bytes, memoryFlag, dataEnd: free, scratch: new Map(exported.map((f) => [f.name, f.scratch])) };
}
