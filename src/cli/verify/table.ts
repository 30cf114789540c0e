/** Findings as rows: for each device and kernel the comparison nearest to its tolerance. */
import { worse } from "./nodes.ts";
import type { Finding } from "./item.ts";
import type { Extent } from "./random.ts";

export type Row = {
  readonly device: string;
  readonly item: string;
  readonly kernel: string;
  /** Where the error was largest in terms of its tolerance. */
  readonly at: Extent;
  /** Both relative to the largest number expected there. */
  readonly worst: number;
  readonly tolerance: number;
  readonly ok: boolean;
  /** How many results were compared. */
  readonly compared: number;
};

export function rowsOf(findings: readonly Finding[]): readonly Row[] {
  const groups = new Map<string, Finding[]>();
  for (const f of findings) {
    const key = JSON.stringify([f.item, f.device, f.kernel]);
    groups.set(key, [...(groups.get(key) ?? []), f]);
  }
  return [...groups.values()].map((group) => {
    const found = group.reduce((a, b) => (worse(a.comparison, b.comparison) === a.comparison ? a : b));
    const { worst, scale, limit, ok } = found.comparison;
    const { device, item, kernel, at } = found;
    const of = scale === 0 ? 1 : scale;
    return { device, item, kernel, at, worst: worst / of, tolerance: limit / of, ok, compared: group.length };
  });
}

/** Columns that stand under each other. */
export function tableText(rows: readonly Row[]): string {
  const short = (x: number) => (x === 0 ? "0" : x.toExponential(1));
  const cells = [
    ["device", "kernel", "worst error", "tolerance", "", "at"],
    ...rows.map((r) => [
      r.device,
      r.kernel,
      short(r.worst),
      short(r.tolerance),
      r.ok ? "ok" : "MISS",
      `${r.at.B} × ${r.at.N} tokens, of ${r.compared}`,
    ]),
  ];
  const widths = (cells[0] ?? []).map((_, c) => Math.max(...cells.map((row) => row[c]?.length ?? 0)));
  return cells
    .map((row) => `  ${row.map((cell, c) => cell.padEnd(widths[c] ?? 0)).join("  ")}`.trimEnd() + "\n")
    .join("");
}
