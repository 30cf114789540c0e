/** One sequence of a generation: where it stands, what it still has to read, and what it says next. */
import { seeded } from "../random.ts";
import type { RandomState } from "../random.ts";
import { sample } from "../sampling.ts";
import type { SamplingOptions } from "../sampling.ts";
import { textStream } from "../tokenizer.ts";
import type { Tokenizer } from "../tokenizer.ts";
import type { SavedLane } from "./save.ts";
import { stopWatch } from "./stop.ts";

/** A token of one sequence. */
export type GeneratedToken = {
  /** Which of the prompts it continues. */
  readonly sequence: number;
  readonly token: number;
  /** What is certain of the text with this token, "" while a character or a stop may be incomplete; without a tokenizer always "". */
  readonly text: string;
  /** Why nothing follows; null while something does. With `stop` the token itself belongs to the stop. */
  readonly end: "stop" | "length" | null;
};

/** Between generations. */
export type Lane = {
  position: number;
  pending: number[];
  readonly seen: Set<number>;
  random: RandomState;
};

export const newLane = (): Lane => ({ position: 0, pending: [], seen: new Set(), random: seeded(0) });

export const savedLane = ({ position, pending, seen, random }: Lane): SavedLane => ({
  position,
  pending,
  seen: [...seen],
  random,
});
export const laneOf = ({ position, pending, seen, random }: SavedLane): Lane => ({
  position,
  pending: [...pending],
  seen: new Set(seen),
  random,
});

export type Speaking = {
  readonly sequence: number;
  readonly lane: Lane;
  /** From the logits behind its newest token to the next one. */
  readonly choose: (logits: Float32Array) => GeneratedToken;
};

export function speaking(
  sequence: number,
  lane: Lane,
  options: SamplingOptions & {
    readonly maxTokens: number;
    readonly stopTokens: ReadonlySet<number>;
    readonly stop: readonly string[];
    readonly tokenizer: Tokenizer | undefined;
  },
): Speaking {
  const { tokenizer, maxTokens, stopTokens } = options;
  const stream = tokenizer === undefined ? undefined : textStream(tokenizer);
  const watch = stopWatch(options.stop);
  let left = maxTokens;
  return {
    sequence,
    lane,
    choose: (logits) => {
      const { token, state } = sample(logits, options, lane.random, lane.seen);
      lane.random = state;
      lane.pending = [token];
      lane.seen.add(token);
      left--;
      if (stopTokens.has(token))
        return { sequence, token, text: watch.push(stream?.end() ?? "").text + watch.end(), end: "stop" };
      const { text, stopped } = watch.push(stream?.push(token) ?? "");
      if (stopped) return { sequence, token, text, end: "stop" };
      if (left > 0) return { sequence, token, text, end: null };
      const last = watch.push(stream?.end() ?? "");
      const end = last.stopped ? "stop" : "length";
      return { sequence, token, text: text + last.text + watch.end(), end };
    },
  };
}
