/** Which of several ways to compute the same is fastest here: measured, and only believed where it is more than noise. */
import { measure, median, ratio } from "./rounds.ts";
import type { Contender, Measured } from "./rounds.ts";

/** Something that can be made ready to run, and takes memory while it is. */
export type Entrant = {
  readonly name: string;
  readonly open: () => Promise<{
    readonly run: () => Promise<number>;
    readonly dispose: () => Promise<void>;
  }>;
};

export type TuneOptions = {
  readonly rounds: number;
  /** A winner must take this share less time than the first entrant: below it, the first one stays. */
  readonly margin: number;
  readonly progress?: (text: string) => void;
};

export type Tuned = {
  /** Index of the entrant to take: 0 where no other is surely faster. */
  readonly winner: number;
  /** Medians in ms of all entrants, those that were left out after their first runs included. */
  readonly ms: readonly number[];
  /** Median over the rounds of the first entrant's time over the winner's. */
  readonly gain: number;
};

const SCREENED_RUNS = 3;
/** After their first runs those that take this much longer than the best are left out. */
const CUT = 1.35;
const FINALISTS = 4;
/** Share of the rounds in which a winner must be faster. */
const SURE = 0.8;

/** The first entrant is the default. Every entrant is warmed up; finalists run in interleaved rounds. */
export async function fastest(entrants: readonly Entrant[], options: TuneOptions): Promise<Tuned> {
  const { rounds, margin, progress = () => undefined } = options;
  const screened: number[] = [];
  for (const [i, { name, open }] of entrants.entries()) {
    progress(`${name} (${i + 1} of ${entrants.length})`);
    const ready = await open();
    try {
      const [measured] = await measure([{ name, run: ready.run }], { rounds: SCREENED_RUNS, warmMs: 100 });
      screened.push(Math.min(...(measured?.ms ?? [])));
    } finally {
      await ready.dispose();
    }
  }
  const best = Math.min(...screened);
  const finalists = [...screened.keys()]
    .filter((i) => i > 0 && (screened[i] ?? Infinity) <= CUT * best)
    .sort((a, b) => (screened[a] ?? Infinity) - (screened[b] ?? Infinity))
    .slice(0, FINALISTS);
  const chosen = [0, ...finalists];

  const open: { readonly contender: Contender; readonly dispose: () => Promise<void> }[] = [];
  let measured: readonly Measured[];
  try {
    for (const i of chosen) {
      const entrant = entrants[i];
      if (entrant === undefined) continue;
      const { run, dispose } = await entrant.open();
      open.push({ contender: { name: entrant.name, run }, dispose });
    }
    measured = await measure(
      open.map(({ contender }) => contender),
      { rounds, warmMs: 100 },
      (round) => progress(`finalists, round ${round + 1} of ${rounds}`),
    );
  } finally {
    for (const { dispose } of open) await dispose();
  }

  const [first] = measured;
  if (first === undefined) throw new Error("heddle: internal: nobody entered");
  let [winner, gain] = [0, 1];
  measured.forEach((own, i) => {
    const ahead = own.ms.filter((ms, round) => ms < (first.ms[round] ?? 0)).length / own.ms.length;
    const found = ratio(first, own);
    if (i > 0 && ahead >= SURE && found >= 1 / (1 - margin) && found > gain)
      [winner, gain] = [chosen[i] ?? 0, found];
  });
  const ms = screened.map((once, i) => {
    const at = chosen.indexOf(i);
    return at < 0 ? once : median(measured[at]?.ms ?? []);
  });
  return { winner, ms, gain };
}
