/**
 * A generation as bytes: "heddle-cache", a version, the length of a JSON header, the header, then the states one after the other as the
 * device stores them. It fits the same model, made for as many sequences and tokens, on a device that stores the same types.
 */
import { inputError } from "../input-error.ts";
import type { RandomState } from "../random.ts";
import type { Plan } from "../plan.ts";

const MAGIC = "heddle-cache";
const VERSION = 1;
const HEAD = MAGIC.length + 8;

/** What a sequence has come to. */
export type SavedLane = {
  /** Tokens in the cache. */
  readonly position: number;
  /** Tokens that were chosen and are not in the cache yet. */
  readonly pending: readonly number[];
  /** For the repetition penalty: tokens that were there. */
  readonly seen: readonly number[];
  readonly random: RandomState;
};
type Header = {
  readonly model: string;
  readonly spec: string;
  readonly capacity: number;
  readonly lanes: readonly SavedLane[];
  readonly states: readonly { readonly name: string; readonly dtype: string; readonly bytes: number }[];
};
export type Saved = {
  readonly lanes: readonly SavedLane[];
  readonly states: readonly Uint8Array[];
};

const statesOf = (plan: Plan) => plan.decoding?.states ?? [];

export function saved(plan: Plan, capacity: number, { lanes, states }: Saved): Uint8Array<ArrayBuffer> {
  const header: Header = {
    model: plan.name,
    spec: plan.decoding?.spec ?? "",
    capacity,
    lanes,
    states: statesOf(plan).map(({ name, dtype }, i) => ({ name, dtype, bytes: states[i]?.length ?? 0 })),
  };
  const text = new TextEncoder().encode(JSON.stringify(header));
  const bytes = new Uint8Array(HEAD + text.length + states.reduce((sum, s) => sum + s.length, 0));
  const view = new DataView(bytes.buffer);
  bytes.set(new TextEncoder().encode(MAGIC));
  view.setUint32(MAGIC.length, VERSION, true);
  view.setUint32(MAGIC.length + 4, text.length, true);
  bytes.set(text, HEAD);
  let at = HEAD + text.length;
  for (const state of states) {
    bytes.set(state, at);
    at += state.length;
  }
  return bytes;
}

/** @throws InputError that says what does not fit. */
export function restored(plan: Plan, capacity: number, lanes: number, bytes: Uint8Array): Saved {
  const no = (why: string) => inputError(`these bytes are no cache of model '${plan.name}': ${why}`);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const magic = new TextDecoder().decode(bytes.slice(0, MAGIC.length));
  if (bytes.length < HEAD || magic !== MAGIC) throw no("they do not begin like one");
  const version = view.getUint32(MAGIC.length, true);
  if (version !== VERSION) throw no(`they are of version ${version}, and this heddle reads ${VERSION}`);
  const length = view.getUint32(MAGIC.length + 4, true);
  if (HEAD + length > bytes.length) throw no("they are cut off");
  let header: Header;
  try {
    header = JSON.parse(new TextDecoder().decode(bytes.slice(HEAD, HEAD + length))) as Header;
  } catch {
    throw no("their header is damaged");
  }
  if (header.model !== plan.name) throw no(`they are of model '${header.model}'`);
  if (header.spec !== plan.decoding?.spec) throw no("the model had another spec when they were saved");
  if (header.capacity !== capacity)
    throw no(
      `they were saved with room for ${header.capacity} tokens, and here there is room for ${capacity}`,
    );
  if (header.lanes.length !== lanes)
    throw no(`they hold ${header.lanes.length} sequences, and here there are ${lanes}`);
  let at = HEAD + length;
  const states = statesOf(plan).map((state, i) => {
    const found = header.states[i];
    if (found?.name !== state.name) throw no(`they have no state '${state.name}'`);
    if (found.dtype !== state.dtype)
      throw no(`their states are ${found.dtype}, and this device stores ${state.dtype}`);
    const part = bytes.subarray(at, at + found.bytes);
    at += found.bytes;
    return part;
  });
  if (at !== bytes.length) throw no("they are cut off, or go on behind their end");
  return { lanes: header.lanes, states };
}
