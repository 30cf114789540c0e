/** Native devices that tests share, where there is a compiler, and what they compile. */
import { afterAll } from "vitest";
import { usable } from "../../runtime/cpu/host.ts";
import { inspectHost, nativeDevice } from "../../runtime/native.ts";
import type { Host, NativeDevice, NativeDeviceOptions } from "../../runtime/native.ts";
import type { NativeVectors, Program } from "../../runtime/plan.ts";
import type { CompileOptions, CompiledProgram } from "../../src/compile.ts";
import { compileSpec } from "../../src/compile.ts";
import { seal } from "../../src/spec.ts";
import type { AttentionSpec, ModelSpec } from "../../src/spec.ts";
import { folder } from "../cli/session.ts";
import { missing } from "../webgpu/require.ts";

const why = await inspectHost().then(
  (host) => ({ host }),
  (error: unknown) => ({ text: error instanceof Error ? error.message : String(error) }),
);
if ("text" in why) missing("cc", why.text);
/** Null where native code cannot be made; tests that need it then skip. */
export const host: Host | null = "host" in why ? why.host : null;

/** Every shape of vectors that runs here; narrower ones than the processor's too. */
export const shapes: readonly NativeVectors[] = host === null ? [] : usable[host.vectors];

const here = folder();
/** A cache of this file's own. */
export const cache = here.at("cache");

const open = new Map<string, Promise<NativeDevice>>();
/** With poisoned memory. `-O0` halves a compiler's time; some tests compile as for a user, with no flags. */
export function device(
  vectors: NativeVectors,
  threads: number,
  flags: readonly string[] = ["-O0"],
  more: NativeDeviceOptions = {},
): Promise<NativeDevice> {
  const key = JSON.stringify([vectors, threads, flags, more]);
  const made = open.get(key) ?? nativeDevice({ vectors, threads, poison: true, cache, flags, ...more });
  open.set(key, made);
  return made;
}
afterAll(async () => {
  for (const made of open.values()) await (await made).dispose();
  here.remove();
});

export function compiled(
  item: { readonly attention: AttentionSpec } | { readonly model: ModelSpec },
  vectors: NativeVectors,
  options: Partial<CompileOptions> = {},
): CompiledProgram {
  const spec = seal({
    attentions: "attention" in item ? [item.attention] : [],
    models: "model" in item ? [item.model] : [],
    schedules: [],
  });
  const [found] = compileSpec(spec, { target: "native", vectors: [vectors], ...options });
  if (found === undefined) throw new Error("nothing compiled");
  return found;
}

export const only = (item: AttentionSpec | ModelSpec, vectors: NativeVectors, options = {}): Program =>
  compiled("headDim" in item ? { attention: item } : { model: item }, vectors, options).program;
