// Figures of heddle beside those of PyTorch, as a table: node bench/gpu/table.mjs DIR
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

const folder = process.argv[2] ?? ".";
/** @param {string} name */
const read = (name) =>
  existsSync(join(folder, name)) ? JSON.parse(readFileSync(join(folder, name), "utf8")) : null;
const [own, torch] = [read("heddle.json"), read("torch.json")];
if (own === null) throw new Error("there is no heddle.json");
const keyOf = (r) => [r.name, r.length, r.dtype, r.causal].join(" ");
const others = new Map();
for (const r of torch?.results ?? []) others.set(keyOf(r), { ...others.get(keyOf(r)), [r.contender]: r });
const contenders = [...new Set((torch?.results ?? []).map((r) => r.contender))];
const cell = (r) => (r === undefined ? "" : r.error !== undefined ? "-" : `${r.ms.toFixed(3)} ms`);
const rows = own.results.map((r) => {
  const beside = others.get(keyOf(r)) ?? {};
  return [
    r.name,
    r.length,
    r.dtype,
    r.causal ? "causal" : "",
    `${r.schedule ?? ""}${r.asked === undefined ? "" : " (asked for)"}`,
    cell(r),
    r.error === undefined ? r.tflops.toFixed(1) : "",
    r.executed === undefined ? "" : r.executed.toFixed(1),
    ...contenders.map((c) => cell(beside[c])),
  ];
});
const head = [
  "attention",
  "tokens",
  "dtype",
  "",
  "schedule",
  "heddle",
  "useful TFLOP/s",
  "executed",
  ...contenders,
];
const line = (cells) => `| ${cells.join(" | ")} |`;
const text = [
  `${own.device}${torch === null ? "; PyTorch was not there" : `; PyTorch ${torch.torch}`}. Medians of ${own.rounds} runs by CUDA events.`,
  "",
  line(head),
  line(head.map(() => "---")),
  ...rows.map(line),
  "",
].join("\n");
writeFileSync(join(folder, "table.md"), text);
console.log(text);
