/** What stays on the device between the runs of a program that generates. */
import { deviceError } from "../device-error.ts";
import { bytesOf } from "../memory.ts";
import { sizeOf } from "../plan.ts";
import { sizeText } from "../room.ts";
import type { Built } from "./prepare.ts";

/** Makes the states of a plan anew for so many sequences of so many tokens. */
export async function reserveStates(
  b: Built,
  { capacity, lanes }: { readonly capacity: number; readonly lanes: number },
): Promise<void> {
  b.states.splice(0).forEach(b.session.free);
  for (const { name, dtype, elements } of b.chosen.plan.decoding?.states ?? []) {
    const bytes = bytesOf(dtype, sizeOf(elements, { N: capacity, B: lanes }));
    const formula = `${sizeText(elements)} of ${dtype} at N = ${capacity}, B = ${lanes}`;
    b.states.push(await b.session.allocate({ label: `state '${name}'`, bytes, formula }));
  }
}

/** Whether the states are there: a context that replaces a lost one begins without. */
export const holdsStates = (b: Built): boolean =>
  b.states.length === (b.chosen.plan.decoding?.states.length ?? 0);

export const statesLost = (name: string) =>
  deviceError(
    "DEVICE_LOST",
    `the cache of '${name}' is not there: it was never made, or it went with a lost context. Reserve it, and read the prompt again or restore saved bytes`,
  );
