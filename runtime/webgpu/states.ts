/** What stays on the device between the runs of a program that generates. */
import { sizeOf } from "../plan.ts";
import type { Plan } from "../plan.ts";
import { bytesOf } from "../memory.ts";
import { sizeText } from "../room.ts";
import { deviceError } from "./errors.ts";
import type { Built } from "./prepare.ts";
import { allocate, release } from "./tensor.ts";

/** Makes the states of a plan anew for so many sequences of so many tokens. */
export async function reserveStates(
  b: Built,
  { capacity, lanes }: { readonly capacity: number; readonly lanes: number },
): Promise<void> {
  release(b.session, b.states.splice(0));
  for (const { name, dtype, elements } of b.chosen.plan.decoding?.states ?? []) {
    const bytes = bytesOf(dtype, sizeOf(elements, { N: capacity, B: lanes }));
    const formula = `${sizeText(elements)} of ${dtype} at N = ${capacity}, B = ${lanes}`;
    b.states.push(await allocate(b.session, { label: `state '${name}'`, bytes, formula }));
  }
}

/** Whether the states are there: a device that replaces a lost one begins without. */
export const holdsStates = (b: Built): boolean =>
  b.states.length === (b.chosen.plan.decoding?.states.length ?? 0);

export const statesLost = (plan: Plan) =>
  deviceError(
    "DEVICE_LOST",
    `the cache of '${plan.name}' is not there: it was never made, or it went with a lost device. Reserve it, and read the prompt again or restore saved bytes`,
  );
