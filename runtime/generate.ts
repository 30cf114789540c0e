/**
 * Generation, as an entry point of its own for pages that need no more than a forward pass: prompts are read in one pass each, then every
 * step computes one token of each sequence, over a cache that holds only what dilated attention can still see.
 */
import type { ModelDefinition } from "./definition.ts";
import { tokensOf, whole } from "./inputs.ts";
import { inputError } from "./input-error.ts";
import { decodingOf } from "./generate/decoding.ts";
import { laneOf, newLane, savedLane, speaking } from "./generate/lane.ts";
import type { GeneratedToken, Lane, Speaking } from "./generate/lane.ts";
import { restored, saved } from "./generate/save.ts";
import { bytesOf } from "./memory.ts";
import { oneAtATime, openWith } from "./model.ts";
import type { CreateOptions } from "./model.ts";
import type { PlanDecoding } from "./plan.ts";
import { sizeOf } from "./plan.ts";
import { seeded } from "./random.ts";
import { checkSampling } from "./sampling.ts";
import type { SamplingOptions } from "./sampling.ts";
import { xposRows } from "./tables.ts";
import { bytes } from "./tokenizer.ts";
import type { Tokenizer } from "./tokenizer.ts";

export { candidatesOf, checkSampling, likeliest, penalized, sample } from "./sampling.ts";
export type { Candidates, SamplingOptions } from "./sampling.ts";
export { seeded, uniform } from "./random.ts";
export type { RandomState } from "./random.ts";
export { bytes, cl100k, textStream } from "./tokenizer.ts";
export type { TextStream, Tokenizer } from "./tokenizer.ts";
export type { GeneratedToken } from "./generate/lane.ts";

export type GenerationOptions = CreateOptions & {
  /** Sequences side by side at most; each takes a cache of its own. Default 1. */
  readonly batch?: number;
  /**
   * Tokens that a sequence may have, its prompt included. Needed where a branch spans the whole sequence, whose cache grows with it;
   * otherwise the cache is bounded by the segments, and without a limit here by nothing else.
   */
  readonly capacity?: number;
  /** Default: bytes, for a vocabulary of 256; otherwise prompts are tokens, and no text is made. */
  readonly tokenizer?: Tokenizer;
};

export type GenerateOptions = SamplingOptions & {
  /** Tokens of each sequence at most. Default 256, or what there is room for. */
  readonly maxTokens?: number;
  /** The same seed gives the same tokens. Default 0; a continued sequence goes on with its own numbers unless one is given. */
  readonly seed?: number;
  /** Texts that end a sequence; they are not part of what is given. */
  readonly stop?: string | readonly string[];
  /** Tokens that end a sequence. */
  readonly stopTokens?: readonly number[];
  /** Goes on where the last generation, or what was restored, ended; the prompts, which may be empty, are read after it. */
  readonly resume?: boolean;
  readonly signal?: AbortSignal;
};

/** A text, tokens, or one of either for each sequence. */
export type Prompt = string | readonly number[] | readonly (string | readonly number[])[];

export type CacheUse = {
  /** Bytes of the cache, the same from the first token to the last. */
  readonly bytes: number;
  /** Tokens that each sequence has come to. */
  readonly tokens: readonly number[];
  /** What a cache of all these tokens would take. */
  readonly dense: number;
};

export type GenerationSession = {
  readonly device: string;
  /**
   * Tokens as they are chosen, those of several sequences in turn. One generation at a time; leaving the loop ends it.
   * @throws InputError where prompts or options do not fit; the signal's reason where it is aborted.
   */
  readonly generate: (
    prompt: Prompt,
    options?: GenerateOptions,
  ) => AsyncGenerator<GeneratedToken, void, void>;
  readonly cache: () => CacheUse;
  /** Everything that `generate` with `resume` needs to go on, in another process too. */
  readonly save: () => Promise<Uint8Array<ArrayBuffer>>;
  /** @throws InputError where the bytes are of another model, or for other sizes. */
  readonly restore: (bytes: Uint8Array) => Promise<void>;
  readonly dispose: () => void;
};

/** Beyond any sequence: what "no limit" is where kernels count in i32. */
const ENDLESS = 2 ** 30 - 1;
const MOST_ELEMENTS = 2 ** 31 - 1;

/**
 * Opens a model for generation.
 * @throws InputError where the model was not compiled for it, where it cannot, or where `capacity` is missing; as `create` of a model.
 */
export async function generation(
  definition: ModelDefinition,
  options: GenerationOptions,
): Promise<GenerationSession> {
  const { name, program, vocab } = definition;
  const lanes = whole(options.batch ?? 1, "batch", 1);
  const how = program.plan.decoding;
  if (how === undefined)
    throw inputError(
      `model '${name}' was not compiled for generation (\`heddle compile --generate\`), or does not predict tokens from those before`,
    );
  const capacity = capacityOf(name, how, options.capacity);
  const loaded = await openWith(program, options);
  const decoding = decodingOf(loaded);
  const states = loaded.plan.decoding?.states ?? [];
  try {
    if (decoding === undefined) throw inputError(`${loaded.device} cannot generate yet: take another device`);
    for (const { name: state, elements } of states) {
      const count = sizeOf(elements, { N: capacity, B: lanes });
      if (count > MOST_ELEMENTS)
        throw inputError(
          `'${state}' would hold ${count} numbers for ${lanes} sequences of ${capacity} tokens; kernels count to 2^31 - 1`,
        );
    }
    await decoding.reserve({ capacity, lanes });
  } catch (error) {
    loaded.dispose();
    throw error;
  }
  const tokenizer = options.tokenizer ?? (vocab === 256 ? bytes : undefined);
  const turn = oneAtATime(`generation of '${name}'`);
  const sequences: Lane[] = Array.from({ length: lanes }, newLane);
  let busy = false;

  const placeOf = (of: readonly number[], first: readonly number[]): Int32Array =>
    Int32Array.of(...first, ...of, ...of.map(() => capacity));

  /** A device that replaces a lost one holds no cache: what begins anew gets another, and nothing is left to resume. */
  const begin = async (): Promise<void> => {
    if (await decoding.ready()) return;
    await decoding.reserve({ capacity, lanes });
    sequences.forEach((_, i) => (sequences[i] = newLane()));
  };
  const prefill = async (lane: number, tokens: readonly number[]): Promise<void> => {
    const N = tokens.length;
    if (N > 0)
      await decoding.run(
        "prefill",
        { tokens: Int32Array.from(tokens), place: placeOf([lane], [0]) },
        { N, B: 1 },
      );
  };
  /** One token of each of these sequences; the logits behind them. */
  const step = async (of: readonly Speaking[]): Promise<Float32Array> => {
    const at = of.map(({ lane }) => lane.position);
    const place = placeOf(
      of.map((s) => s.sequence),
      at,
    );
    const extent = { N: 1, B: of.length };
    if (how.moves.some((w) => at.some((t) => t > 0 && t % w === 0)))
      await decoding.run("promote", { place }, extent);
    const rows = how.rows.map(
      ({ input, table }) => [input, xposRows(table, of.length, (b) => at[b] ?? 0)] as const,
    );
    const tokens = Int32Array.from(of, ({ lane }) => lane.pending[0] ?? 0);
    const { logits } = await decoding.run("step", { tokens, place, ...Object.fromEntries(rows) }, extent);
    if (!(logits instanceof Float32Array)) throw new Error("heddle: internal: a step gave no logits");
    for (const { lane } of of) {
      lane.pending.shift();
      lane.position++;
    }
    return logits;
  };

  const read = (prompt: Prompt): readonly (readonly number[])[] => {
    const one = typeof prompt === "string" || prompt.every((x) => typeof x === "number");
    const list = (one ? [prompt] : prompt) as readonly (string | readonly number[])[];
    return list.map((given, i) => {
      if (typeof given !== "string") return [...tokensOf(given, given.length, vocab)];
      if (tokenizer === undefined)
        throw inputError(`prompt ${i} is a text, and model '${name}' was opened without a tokenizer`);
      return [...tokensOf(tokenizer.encode(given), Infinity, vocab)];
    });
  };
  const roomFor = (sequence: number, tokens: number, asked: number | undefined): number => {
    // The last token that is chosen is never read.
    const room = capacity - tokens + 1;
    const wanted = asked ?? Math.max(1, Math.min(256, room));
    if (wanted <= room) return wanted;
    const limit = how.reach !== null && how.reach.tokens === capacity ? `: ${how.reach.why}` : "";
    throw inputError(
      `sequence ${sequence} has ${tokens} tokens and shall get ${wanted} more; model '${name}' has room for ${capacity}${limit}`,
    );
  };

  async function* generate(
    prompt: Prompt,
    given: GenerateOptions = {},
  ): AsyncGenerator<GeneratedToken, void, void> {
    if (busy) throw inputError(`a generation of '${name}' is running; it ends when its loop is left`);
    busy = true;
    try {
      checkSampling(given);
      const { resume = false, signal, stopTokens = [], stop = [], seed } = given;
      const prompts = read(prompt);
      if (prompts.length < 1 || prompts.length > lanes)
        throw inputError(`there are ${prompts.length} prompts; model '${name}' was opened for 1 to ${lanes}`);
      if (given.maxTokens !== undefined) whole(given.maxTokens, "maxTokens", 1);
      if (seed !== undefined) whole(seed, "seed", 0);
      const plans = prompts.map((tokens, i) => {
        const before = resume ? sequences[i] : undefined;
        const known = before === undefined ? 0 : before.position + before.pending.length;
        if (known + tokens.length === 0) throw inputError(`prompt ${i} is empty`);
        return { tokens, before, maxTokens: roomFor(i, known + tokens.length, given.maxTokens) };
      });
      signal?.throwIfAborted();
      if (!resume) await turn.take(begin);
      let speakers: Speaking[] = [];
      for (const [i, { tokens, before, maxTokens }] of plans.entries()) {
        const lane = before ?? newLane();
        sequences[i] = lane;
        if (before === undefined) {
          // Its last token goes through a step, which gives the logits behind it.
          await turn.take(() => prefill(i, tokens.slice(0, -1)));
          lane.position = tokens.length - 1;
          lane.pending = tokens.slice(-1);
          signal?.throwIfAborted();
        } else lane.pending.push(...tokens);
        tokens.forEach((token) => lane.seen.add(token));
        // Apart, so that what a sequence says does not depend on those beside it.
        if (before === undefined || seed !== undefined) lane.random = seeded((seed ?? 0) + i * 2 ** 32);
        const stops = typeof stop === "string" ? [stop] : stop;
        const ends = { stop: stops.filter((s) => s !== ""), stopTokens: new Set(stopTokens) };
        speakers.push(speaking(i, lane, { ...given, ...ends, maxTokens, tokenizer }));
      }
      while (speakers.length > 0) {
        signal?.throwIfAborted();
        const now = speakers;
        const logits = await turn.take(() => step(now));
        const made = now.flatMap((speaker, b) =>
          // What is still to be read of a resumed prompt comes before anything is said.
          speaker.lane.pending.length > 0
            ? []
            : [speaker.choose(logits.subarray(b * vocab, (b + 1) * vocab))],
        );
        const ended = new Set(made.filter((t) => t.end !== null).map((t) => t.sequence));
        speakers = now.filter((s) => !ended.has(s.sequence));
        yield* made;
      }
    } finally {
      busy = false;
    }
  }

  const idle = (): void => {
    if (busy) throw inputError(`a generation of '${name}' is running; save and restore when it has ended`);
  };
  return {
    device: loaded.device,
    generate,
    cache: () => {
      const tokens = sequences.map((lane) => lane.position);
      const all = tokens.reduce((a, b) => a + b, 0);
      const sum = (count: (state: PlanDecoding["states"][number]) => number) =>
        states.reduce((n, state) => n + bytesOf(state.dtype, count(state)), 0);
      return {
        bytes: sum(({ elements }) => sizeOf(elements, { N: capacity, B: lanes })),
        tokens,
        dense: sum(({ perToken }) => all * perToken),
      };
    },
    save: () => {
      idle();
      return turn.take(async () => {
        const parts: Uint8Array[] = [];
        for (const index of states.keys()) parts.push(await decoding.read(index));
        return saved(loaded.plan, capacity, { lanes: sequences.map(savedLane), states: parts });
      });
    },
    restore: (from) => {
      idle();
      return turn.take(async () => {
        const found = restored(loaded.plan, capacity, lanes, from);
        await begin();
        for (const [index, state] of found.states.entries()) await decoding.write(index, state);
        found.lanes.forEach((lane, i) => (sequences[i] = laneOf(lane)));
      });
    },
    dispose: () => {
      turn.close();
      loaded.dispose();
    },
  };
}

/** Tokens that the cache of a sequence is made for. */
function capacityOf(name: string, { reach, grows }: PlanDecoding, asked: number | undefined): number {
  if (asked === undefined && grows && reach === null)
    throw inputError(
      `a branch of model '${name}' spans the whole sequence, so its cache grows with every token: say with 'capacity' how many there may be`,
    );
  const most = Math.min(reach?.tokens ?? ENDLESS, ENDLESS);
  const capacity = whole(asked ?? most, "capacity", 1);
  if (capacity <= most) return capacity;
  throw inputError(
    `model '${name}' generates sequences of at most ${most} tokens, not ${capacity}${reach === null ? "" : `: ${reach.why}`}`,
  );
}
