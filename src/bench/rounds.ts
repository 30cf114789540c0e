/** Interleaved rounds: whatever slows a machine down for a while slows every contender, and shows as spread, not as a winner. */

export type Contender = {
  readonly name: string;
  /** One run; its time in ns. */
  readonly run: () => Promise<number>;
};

export type Measured = {
  readonly name: string;
  /** By round; of each contender in the same round at the same place. */
  readonly ms: readonly number[];
};

export type Pace = {
  readonly rounds: number;
  /** Least time spent on warming each contender up, besides two runs: engines compile late. */
  readonly warmMs: number;
};

const MOST_WARM_RUNS = 50;

/** Warms every contender up, then runs each once a round, starting one further each time so that none always follows the same neighbour. */
export async function measure(
  contenders: readonly Contender[],
  { rounds, warmMs }: Pace,
  progress: (round: number) => void = () => undefined,
): Promise<readonly Measured[]> {
  for (const { run } of contenders) {
    let spent = 0;
    for (let n = 0; n < 2 || (spent < warmMs * 1e6 && n < MOST_WARM_RUNS); n++) spent += await run();
  }
  const times = contenders.map((): number[] => []);
  for (let round = 0; round < rounds; round++) {
    progress(round);
    for (let i = 0; i < contenders.length; i++) {
      const at = (i + round) % contenders.length;
      const ns = await contenders[at]?.run();
      if (ns !== undefined) times[at]?.push(ns / 1e6);
    }
  }
  return contenders.map(({ name }, i) => ({ name, ms: times[i] ?? [] }));
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const half = sorted.length >> 1;
  const [lower = NaN, upper = NaN] = [sorted[half - 1], sorted[half]];
  return sorted.length % 2 === 1 ? upper : (lower + upper) / 2;
}

/** Half the distance between the quartiles, as a share of the median. */
export function spread(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const at = (share: number) => sorted[Math.round(share * (sorted.length - 1))] ?? NaN;
  return (at(0.75) - at(0.25)) / 2 / median(values);
}

/** Median over the rounds of a's time over b's in the same round: steadier than the ratio of medians where the machine is not. */
export const ratio = (a: Measured, b: Measured): number => median(a.ms.map((x, i) => x / (b.ms[i] ?? NaN)));
