/** What `heddle bench` found, for a reader and as a picture. */
import { chartsSvg } from "../../bench/chart.ts";
import type { Series } from "../../bench/chart.ts";
import type { BenchRow, BenchRun } from "../bench.ts";
import { grouped } from "../io.ts";

/** Three significant digits, no exponent. */
const short = (x: number): string =>
  x >= 100 ? grouped(Math.round(x)) : x >= 10 ? x.toFixed(1) : x >= 1 ? x.toFixed(2) : x.toPrecision(2);
const percent = (x: number): string => `${(100 * x).toFixed(0)} %`;

const HEAD = [
  "device",
  "ms",
  "±",
  "GFLOP/s",
  "executed",
  "of peak",
  "GB/s",
  "tokens/s",
  "× first",
  "schedule",
];

function cells(row: BenchRow): readonly string[] {
  const { counts, ms, peak } = row;
  const rate = (flops: number) => flops / (ms * 1e6);
  const executed = counts.executedFlops === null ? null : rate(counts.executedFlops);
  return [
    row.device,
    short(ms),
    percent(row.spread),
    short(rate(counts.usefulFlops)),
    executed === null ? "–" : short(executed),
    peak === null ? "–" : percent(peak.share),
    short(counts.bytes / (ms * 1e6)),
    short(counts.tokens / (ms / 1000)),
    row.speedup.toFixed(2),
    row.schedule,
  ];
}

export function textOf({ rows, processor, processors, node, rounds, load }: BenchRun): string {
  const titles = [...new Set(rows.map(titleOf))];
  const tables = titles.map((title) => {
    const own = rows.filter((row) => titleOf(row) === title);
    const lines = [HEAD, ...own.map(cells)];
    const widths = HEAD.map((_, i) => Math.max(...lines.map((line) => line[i]?.length ?? 0)));
    const body = lines.map((line) =>
      line
        .map((cell, i) =>
          i === 0 || i === HEAD.length - 1 ? cell.padEnd(widths[i] ?? 0) : cell.padStart(widths[i] ?? 0),
        )
        .join("  ")
        .trimEnd(),
    );
    const worst = Math.max(0, ...own.map((row) => row.difference ?? 0));
    const compared = own.some((row) => row.difference !== null)
      ? [`outputs differ by ${worst.toExponential(1)} of their largest value at most`]
      : [];
    return [
      `${title}\n`,
      ...body.map((line) => `  ${line}\n`),
      ...compared.map((line) => `  ${line}\n`),
    ].join("");
  });
  const peaks = [...new Map(rows.map(({ device, peak }) => [device, peak]))].flatMap(([device, peak]) =>
    peak === null ? [] : [`${device} ${short(peak.gflops)}`],
  );
  return [
    ...tables.map((table) => `${table}\n`),
    `Medians of ${rounds} interleaved rounds; ± is half the distance between the quartiles. GFLOP/s counts what was asked for, executed with what tiles add.\n`,
    ...(peaks.length === 0 ? [] : [`Peaks measured here, GFLOP/s: ${peaks.join("; ")}.\n`]),
    `${processor}, ${processors} processors, Node ${node.slice(1)}; load average ${load[0].toFixed(1)} before, ${load[1].toFixed(1)} after.\n`,
  ].join("");
}

const titleOf = ({ item, what, length, batch }: BenchRow): string =>
  `${what} ${item}, ${grouped(length)} tokens${batch === 1 ? "" : `, batch ${batch}`}`;

/** Time and rate against length, by device; of the first item where there are several. */
export function chartsOf({ rows }: BenchRun): string {
  const [first] = rows;
  if (first === undefined) throw new Error("heddle: internal: nothing was measured");
  const own = rows.filter((row) => row.item === first.item && row.what === first.what);
  const devices = [...new Set(own.map((row) => row.device))];
  const by = (value: (row: BenchRow) => number): readonly Series[] =>
    devices.map((device) => ({
      name: device,
      points: own.filter((row) => row.device === device).map((row) => [row.length, value(row)] as const),
    }));
  const title = `${first.what} ${first.item}${first.batch === 1 ? "" : `, batch ${first.batch}`}`;
  return chartsSvg([
    {
      title: `${title}: time`,
      x: "tokens",
      y: "ms",
      series: by((row) => row.ms),
      linear: first.what !== "decode",
    },
    {
      title: `${title}: rate of what was asked for`,
      x: "tokens",
      y: "GFLOP/s",
      series: by((row) => row.counts.usefulFlops / (row.ms * 1e6)),
    },
  ]);
}
