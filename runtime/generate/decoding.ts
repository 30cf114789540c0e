/** The entries of a plan (`Plan.decoding`) on a device, over the states that they share. */
import { deviceError } from "../device-error.ts";
import type { States } from "../device.ts";
import { bytesOf } from "../memory.ts";
import { entryOf, sizeOf } from "../plan.ts";
import type { EntryName, Plan } from "../plan.ts";
import { sizeText } from "../room.ts";
import { checkExtent } from "../tensors.ts";
import type { Extent, HostArray, Tensors } from "../tensors.ts";

export type Decoding = {
  /** Makes the states for `lanes` sequences of at most `capacity` tokens; what they held before is lost. */
  readonly reserve: (at: { readonly capacity: number; readonly lanes: number }) => Promise<void>;
  /** Whether the states are there; a device that replaces a lost one begins without. */
  readonly ready: () => Promise<boolean>;
  /** Like `run` of an executable. @throws DeviceError DEVICE_LOST where the states are not there. */
  readonly run: (
    entry: EntryName,
    inputs: Tensors,
    at: Extent,
  ) => Promise<{ readonly [name: string]: HostArray }>;
  /** The bytes of `plan.decoding.states[index]` in its storage type, little-endian, in a fresh array. */
  readonly read: (index: number) => Promise<Uint8Array<ArrayBuffer>>;
  readonly write: (index: number, bytes: Uint8Array) => Promise<void>;
};

/** Undefined where the program was not compiled for generation, or the device cannot. */
export function decodingOf({
  plan,
  states,
}: {
  readonly plan: Plan;
  readonly states?: States | undefined;
}): Decoding | undefined {
  const how = plan.decoding;
  if (how === undefined || states === undefined) return undefined;
  const { name } = plan;
  let sizes: readonly number[] = [];
  /** By plan, of which a device may take another after a loss. */
  const entries = new WeakMap<Plan, Map<EntryName, Plan>>();
  const entry = (of: Plan, which: EntryName): Plan => {
    const known = entries.get(of) ?? new Map<EntryName, Plan>();
    entries.set(of, known);
    const found = known.get(which) ?? entryOf(of, which);
    known.set(which, found);
    return found;
  };
  const there = (held: number): void => {
    if (held !== how.states.length)
      throw deviceError(
        "DEVICE_LOST",
        `the cache of '${name}' is not there: it was never made, or it went with a lost device. Read the prompt again, or restore saved bytes`,
      );
  };
  return {
    reserve: async ({ capacity, lanes }) => {
      checkExtent({ N: capacity, B: lanes });
      const wanted = how.states.map(({ name: state, dtype, elements }) => ({
        label: `state '${state}'`,
        bytes: bytesOf(dtype, sizeOf(elements, { N: capacity, B: lanes })),
        formula: `${sizeText(elements)} of ${dtype} at N = ${capacity}, B = ${lanes}`,
      }));
      await states.allocate(wanted);
      sizes = wanted.map((w) => w.bytes);
    },
    ready: async () => (await states.held()) === how.states.length,
    run: (which, inputs, at) =>
      states.run(
        (of, held) => {
          there(held);
          return entry(of, which);
        },
        inputs,
        at,
      ),
    read: async (index) => {
      there(sizes.length);
      const bytes = new Uint8Array(sizes[index] ?? 0);
      await states.read(index, bytes);
      return bytes;
    },
    write: async (index, bytes) => {
      there(sizes.length);
      if (bytes.length !== sizes[index])
        throw deviceError(
          "FAILED",
          `state ${index} of '${name}' has ${sizes[index]} bytes, found ${bytes.length}`,
        );
      await states.write(index, bytes);
    },
  };
}
