/** The shim in this process. */
import { rm } from "node:fs/promises";
import { createRequire } from "node:module";
import { buildShim } from "./build.ts";
import type { BuildOptions, Built } from "./build.ts";
import { cudaError } from "./errors.ts";
import type { Shim } from "./shim.ts";

export type LoadedShim = { readonly shim: Shim; readonly built: Built };

/**
 * Builds the shim where the cache has none and loads it.
 * @throws CudaError: what `buildShim` throws, and LOAD_FAILED.
 */
export async function loadShim(options: BuildOptions = {}): Promise<LoadedShim> {
  const built = await buildShim(options);
  const shim = load(built);
  if (!(shim instanceof Error)) return { shim, built };
  // A cache may come from another machine, whose C library is another.
  if (built.fresh || built.compiler === null) throw shim;
  await rm(built.path, { force: true });
  const again = await buildShim(options);
  const loaded = load(again);
  if (loaded instanceof Error) throw loaded;
  return { shim: loaded, built: again };
}

function load({ path }: Built): Shim | Error {
  try {
    return createRequire(import.meta.url)(path) as Shim;
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    return cudaError(
      "LOAD_FAILED",
      "load",
      `the shim cannot be loaded: ${why}: set HEDDLE_CACHE to a folder that code may be loaded from`,
    );
  }
}
