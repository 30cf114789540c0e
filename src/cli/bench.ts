/** `heddle bench`: how long a spec's attentions and models take on this machine, beside what its units can do. */
import { cpus, loadavg } from "node:os";
import { modelReach } from "../../codegen/decode.ts";
import { inputError } from "../../runtime/input-error.ts";
import { writeWhole } from "../../runtime/node.ts";
import { measure, median, ratio, spread } from "../bench/rounds.ts";
import type { Measured } from "../bench/rounds.ts";
import type { ScheduleKind } from "../schedule.ts";
import type { Spec } from "../spec.ts";
import { compare } from "../tolerance.ts";
import { openBenchDevices } from "./bench/devices.ts";
import type { BenchDeviceName } from "./bench/devices.ts";
import { chartsOf, textOf } from "./bench/report.ts";
import { readyFor } from "./bench/works.ts";
import type { BenchDevice, BenchWork, Counts, Peak, Ready } from "./bench/works.ts";
import { exitCodes, usageError } from "./failure.ts";
import type { ExitCode } from "./failure.ts";
import { progressOn } from "./io.ts";
import type { Io } from "./io.ts";
import { checkedSpec, itemsNamed } from "./spec-file.ts";
import type { Format } from "./spec-file.ts";
import { version } from "./version.ts";

export type BenchOptions = {
  readonly length: readonly number[];
  readonly batch: number;
  readonly device: readonly BenchDeviceName[];
  readonly threads: readonly number[];
  readonly rounds: number;
  /** Seconds. */
  readonly warm: number;
  readonly schedule?: ScheduleKind;
  /** Decoding of models, after prompts of the lengths, instead of forward passes. */
  readonly decode: boolean;
  readonly svg?: string;
  readonly json: boolean;
  readonly format: Format;
};

/** A work on a device. */
export type BenchRow = {
  readonly item: string;
  readonly what: BenchWork["what"];
  readonly length: number;
  readonly batch: number;
  readonly device: string;
  readonly schedule: string;
  readonly counts: Counts;
  /**
   * Floating-point operations in a ns that the units of the device did in the same rounds, and the median over the rounds of the share that
   * this work executed; null where nothing measures it.
   */
  readonly peak: { readonly gflops: number; readonly share: number } | null;
  readonly ms: number;
  /** Half the distance between the quartiles, as a share of the median. */
  readonly spread: number;
  /** Median over the rounds of the first device's time over this one's. */
  readonly speedup: number;
  /** The largest difference from the first device's outputs over their largest magnitude; null for the first. */
  readonly difference: number | null;
  readonly rounds: readonly number[];
};

export type BenchRun = {
  readonly heddle: string;
  readonly node: string;
  readonly processor: string;
  readonly processors: number;
  /** Load averages of a minute, before and after: what else ran. */
  readonly load: readonly [number, number];
  readonly rounds: number;
  readonly rows: readonly BenchRow[];
};

export async function bench(
  path: string,
  name: string | undefined,
  options: BenchOptions,
  io: Io,
): Promise<ExitCode> {
  const file = await checkedSpec(path, options.format, io);
  if (file === null) return exitCodes.diagnostics;
  const works = worksOf(file.spec, name, path, options);
  const progress = progressOn(io);
  const before = loadavg()[0] ?? 0;
  const devices = await openBenchDevices(options.device, options.threads, io.env);
  const rows: BenchRow[] = [];
  try {
    for (const work of works) rows.push(...(await rowsFor(file.spec, work, devices, options, progress.say)));
  } finally {
    progress.end();
    await Promise.all(devices.map(({ device }) => device.dispose()));
  }
  const [processor] = cpus();
  const run: BenchRun = {
    heddle: version,
    node: process.version,
    processor: processor?.model ?? "unknown",
    processors: cpus().length,
    load: [before, loadavg()[0] ?? 0],
    rounds: options.rounds,
    rows,
  };
  if (options.svg !== undefined) await writeWhole(options.svg, chartsOf(run));
  io.out(options.json ? `${JSON.stringify(run, null, 2)}\n` : textOf(run));
  return exitCodes.ok;
}

function worksOf(
  spec: Spec,
  name: string | undefined,
  path: string,
  { length, batch, decode, svg }: BenchOptions,
): readonly BenchWork[] {
  const items = itemsNamed(spec, name, path).filter((item) => !decode || item.kind === "model");
  if (items.length === 0) throw usageError("--decode is of models, and the spec has none");
  if (svg !== undefined && items.length * length.length === 0) throw usageError("there is nothing to draw");
  return items.flatMap((item) =>
    length.map((N): BenchWork => {
      if (item.kind === "model" && decode) {
        const { tokens, why } = modelReach(item.spec);
        if (tokens < N + 2)
          throw inputError(`model '${item.spec.name}' cannot generate after ${N} tokens: ${why}`);
      }
      const what = item.kind === "attention" ? "attention" : decode ? "decode" : "forward";
      return { item, what, length: N, batch };
    }),
  );
}

async function rowsFor(
  spec: Spec,
  work: BenchWork,
  devices: readonly BenchDevice[],
  { rounds, warm, schedule }: BenchOptions,
  say: (text: string) => void,
): Promise<readonly BenchRow[]> {
  const { item, what, length, batch } = work;
  const title = `${what} ${item.spec.name}, ${length} tokens`;
  const ready: Ready[] = [];
  try {
    for (const on of devices) {
      say(`${title}: compiling for ${on.name}`);
      ready.push(await readyFor(spec, work, on, schedule));
    }
    const peaks = devices.flatMap(({ name, peak }) =>
      peak === null ? [] : [{ name: `peak of ${name}`, ...peak }],
    );
    const measured = await measure([...ready, ...peaks], { rounds, warmMs: warm * 1000 }, (round) =>
      say(`${title}: round ${round + 1} of ${rounds}`),
    );
    const [first] = measured;
    if (first === undefined) return [];
    const shape = item.kind === "attention" ? item.spec : item.spec.attention;
    return ready.map((one, i): BenchRow => {
      const own: Measured = measured[i] ?? first;
      return {
        item: item.spec.name,
        what,
        length,
        batch,
        device: one.name,
        schedule: one.schedule,
        counts: one.counts,
        peak: shareOf(
          one,
          own,
          peaks.find((p) => p.name === `peak of ${one.name}`),
          measured,
        ),
        ms: median(own.ms),
        spread: spread(own.ms),
        speedup: ratio(first, own),
        difference: i === 0 ? null : differenceOf(ready[0], one, shape.dtype),
        rounds: own.ms,
      };
    });
  } finally {
    await Promise.all(ready.map((one) => one.dispose()));
  }
}

function shareOf(
  { counts }: Ready,
  own: Measured,
  peak: (Peak & { readonly name: string }) | undefined,
  all: readonly Measured[],
): BenchRow["peak"] {
  const found = all.find(({ name }) => name === peak?.name);
  if (peak === undefined || found === undefined) return null;
  const flops = counts.executedFlops ?? counts.usefulFlops;
  const shares = own.ms.map((ms, round) => flops / ms / (peak.flops / (found.ms[round] ?? NaN)));
  return { gflops: peak.flops / (median(found.ms) * 1e6), share: median(shares) };
}

/** The worst over all outputs; null where there are none to compare. */
function differenceOf(
  a: Ready | undefined,
  b: Ready,
  dtype: Spec["attentions"][number]["dtype"],
): number | null {
  const [expected, actual] = [a?.outputs(), b.outputs()];
  if (expected == null || actual === null) return null;
  let worst = 0;
  for (const [name, data] of expected) {
    const found = compare(actual.get(name) ?? new Float32Array(), data, { dtype, terms: 1, atLeast: 1e-30 });
    worst = Math.max(worst, found.worst / found.scale);
  }
  return worst;
}
