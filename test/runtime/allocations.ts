/** What a hostile file makes a reader allocate. */
import { vi } from "vitest";

/** Records the largest typed array that is made by a count, in elements, until `vi.unstubAllGlobals()`. */
export function watchAllocations(): { largest: number } {
  const seen = { largest: 0 };
  for (const name of ["Uint8Array", "Int32Array", "Float32Array", "Float64Array", "ArrayBuffer"] as const)
    vi.stubGlobal(
      name,
      new Proxy(globalThis[name], {
        construct(target, args: unknown[], self) {
          if (typeof args[0] === "number") seen.largest = Math.max(seen.largest, args[0]);
          return Reflect.construct(target, args, self) as object;
        },
      }),
    );
  return seen;
}
