/** What `heddle explain` tells, for a reader. */
import { bytesText, grouped } from "../io.ts";
import type { AttentionNumbers, ModelNumbers, ScheduleNumbers } from "./numbers.ts";
import type { KernelNumbers } from "./kernels.ts";
import type { Path } from "./path.ts";

/** Rows of cells with aligned columns; the first column to the left, the others to the right. */
function table(rows: readonly (readonly string[])[], indent = "  "): string {
  const widths: number[] = [];
  for (const row of rows) row.forEach((cell, i) => (widths[i] = Math.max(widths[i] ?? 0, cell.length)));
  const line = (row: readonly string[]) =>
    row.map((cell, i) => (i === 0 ? cell.padEnd(widths[i] ?? 0) : cell.padStart(widths[i] ?? 0))).join("  ");
  return rows.map((row) => `${indent}${line(row).trimEnd()}\n`).join("");
}

/** FLOPs and counts: `12.3 G`. */
export function amount(n: bigint | number): string {
  const units = ["", " k", " M", " G", " T", " P", " E", " Z"];
  let [value, unit] = [Number(n), 0];
  while (value >= 1000 && unit < units.length - 1) [value, unit] = [value / 1000, unit + 1];
  return unit === 0 ? value.toString() : `${value.toPrecision(3)}${units[unit]}`;
}

const percent = (share: number): string => `${(100 * share).toPrecision(3)} %`;

const pathText = ({ layers, unreached, exact, length }: Path, causal: boolean): string => {
  const reach = causal ? "each token to all later ones" : "each token to all others";
  const never = unreached === 0 ? "" : ` that it ever reaches; ${percent(unreached)} of the pairs never meet`;
  const seen = exact ? "" : ` (from a sample of ${grouped(length)} tokens)`;
  return `${layers} layer${layers === 1 ? "" : "s"} from ${reach}${never}${seen}`;
};

const scheduleRow = (s: ScheduleNumbers, onGpu: boolean): readonly string[] => [
  `${s.chosen ? "→ " : "  "}${s.kind}`,
  s.rows === null ? "" : `${s.rows}×${s.keys}`,
  s.launches === null ? "" : grouped(s.launches),
  s.groups === null ? "" : grouped(s.groups),
  ...(!onGpu ? [] : [s.waves === null ? "" : grouped(s.waves)]),
  s.work === null ? "" : s.work.toFixed(2),
  s.bytes === null ? "" : bytesText(s.bytes),
  s.ms === null ? "" : s.ms.toPrecision(3),
];

const KIB = 1024;
const kernelRow = (k: KernelNumbers): readonly string[] => [
  `  ${k.kernel}`,
  `sm_${k.sm}`,
  String(k.threads),
  String(k.registers),
  k.spillBytes === 0 ? "none" : `${k.spillBytes} B`,
  `${(k.sharedBytes / KIB).toFixed(1)} KiB`,
  k.occupancy === null ? "?" : String(k.occupancy.blocks),
  k.occupancy === null ? "?" : `${(100 * k.occupancy.share).toFixed(0)} % (${k.occupancy.limit})`,
];
/** What kernels take of a multiprocessor; nothing where that was not asked for. */
const kernelTable = (kernels: readonly KernelNumbers[] | undefined): string =>
  kernels === undefined
    ? ""
    : `\n${table([
        ["kernel", "for", "threads", "registers", "spilled", "shared", "blocks", "warps held"],
        ...kernels.map(kernelRow),
      ])}`;

export function attentionText(a: AttentionNumbers, causal: boolean): string {
  const usable = a.schedules.filter((s) => s.refused === null);
  const refused = a.schedules.filter((s) => s.refused !== null);
  return [
    `attention ${a.name}, ${grouped(a.length)} tokens\n`,
    table(
      [
        [
          "pairs",
          grouped(a.pairs),
          `${percent(Number(a.pairs) / Number(a.densePairs))} of dense attention's`,
        ],
        ["FLOPs", amount(a.flops), ""],
        ["bytes", bytesText(a.bytes), "q, k, v, out and lse once"],
      ].map(([what = "", n = "", note = ""]) => [what, n, note]),
    ),
    "\n",
    table([
      ["branch", "segment", "dilation", "pairs", "rows covered"],
      ...a.branches.map((b, i) => [
        String(i),
        b.segment === "all" ? "all" : grouped(b.segment),
        String(b.dilation),
        grouped(b.pairs),
        percent(b.coverage),
      ]),
    ]),
    "\n",
    table([
      [
        `schedule (${a.target})`,
        "rows×keys",
        "launches",
        "groups",
        ...(a.target === "cuda" ? ["waves"] : []),
        "work/pair",
        "traffic",
        "modelled ms",
      ],
      ...usable.map((s) => scheduleRow(s, a.target === "cuda")),
    ]),
    ...refused.map((s) => `    ${s.kind}: ${s.refused}\n`),
    kernelTable(a.kernels),
    `\n  dependency path: ${pathText(a.path, causal)}\n`,
  ].join("");
}

export function modelText(m: ModelNumbers, causal: boolean): string {
  const { memory } = m;
  const enough = m.attention.path.layers <= m.layers ? "enough" : "not enough";
  return [
    `model ${m.name}, ${grouped(m.length)} tokens, batch ${m.batch}\n`,
    table([
      ["parameters", grouped(m.parameters)],
      ["layers", String(m.layers)],
      ["kernels, steps", `${m.kernels}, ${m.steps}`],
      ...(m.chunks === null
        ? []
        : [[`  ${grouped(m.chunks.rows)} rows at a time`, `${m.chunks.steps} of them`]]),
      ["FLOPs", amount(m.flops.total)],
      ["  linear", amount(m.flops.linear)],
      ["  attention", amount(m.flops.attention)],
      ["memory", bytesText(memory.total)],
      ["  weights", bytesText(memory.weights)],
      ["  activations", bytesText(memory.activations)],
      ["  inputs, outputs", bytesText(memory.inputs + memory.outputs)],
      ["  tables", bytesText(memory.tables)],
      ...(m.cache === null
        ? []
        : [["cache of generation", `${bytesText(m.cache.bytes)} (dense ${bytesText(m.cache.dense)})`]]),
    ]),
    "\n  of each layer:\n",
    attentionText(m.attention, causal),
    kernelTable(m.kernelUse),
    m.kernelUse === undefined ? "" : "\n",
    `  the model's ${m.layers} layers are ${enough} for that\n`,
  ].join("");
}
