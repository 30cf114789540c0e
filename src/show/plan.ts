/** A plan as text: what `HEDDLE_DEBUG=1` prints. */
import { entryOf } from "../../runtime/plan.ts";
import type {
  BufferRef,
  EntryName,
  Plan,
  PlanEntry,
  PlanKernel,
  PlanTable,
  PlanVariant,
  Step,
} from "../../runtime/plan.ts";
import { showShape, showSize } from "./size.ts";

const indent = (lines: readonly string[]) => lines.map((l) => `  ${l}`);

export function showPlan(p: Plan): string {
  return [
    `plan ${p.name}`,
    ...indent([
      ...showTensors(p),
      ...p.weights.map(
        (w, i) =>
          `weight ${i} '${w.name}': ${showShape(w.dtype ?? "f32", w.shape)}${w.layout === "rows" ? "" : " in panels"}`,
      ),
      ...p.tables.map(showTable),
      ...p.accepts.map((a) => `accepts '${a.name}': ${showShape("f32", a.shape)}`),
      ...p.kernels.map((k, i) => showPlanKernel(k, i)),
      ...p.variants.flatMap((v) => showVariant(p, v)),
      ...showDecoding(p),
    ]),
    "",
  ].join("\n");
}

const showTensors = (p: PlanEntry): string[] => [
  ...p.inputs.map((t, i) => `input ${i} '${t.name}': ${showShape(t.dtype, t.shape)}`),
  ...p.outputs.map((t, i) => `output ${i} '${t.name}': ${showShape(t.dtype, t.shape)}`),
];

const showTable = (t: PlanTable, i: number): string =>
  t.kind === "xpos"
    ? `table ${i} xpos head_dim ${t.headDim} base ${t.base} block ${t.block} sign ${t.sign}`
    : `table ${i} sincos [${t.rows}, ${t.width}]`;

/** What generates with the plan: states, and the entries beside the main program. */
function showDecoding(p: Plan): string[] {
  const how = p.decoding;
  if (how === undefined) return [];
  const reach = how.reach === null ? "any number of" : how.reach.tokens;
  const entries = (Object.keys(how.entries) as EntryName[]).flatMap((name) => {
    const entry = entryOf(p, name);
    const rows = entry.variants.flatMap((v) => showVariant(entry, v));
    return [`entry ${name}`, ...indent([...showTensors(entry), ...entry.tables.map(showTable), ...rows])];
  });
  return [
    `decoding of ${reach} tokens, promote at multiples of ${how.moves.join(", ") || "nothing"}`,
    ...how.states.map((s, i) => `state ${i} '${s.name}': ${s.dtype}[${showSize(s.elements)}]`),
    ...how.rows.map((r) => `rows '${r.input}' of ${showTable(r.table, 0)}`),
    ...entries,
  ];
}

function showPlanKernel(k: PlanKernel, i: number): string {
  const parameters = [
    ...k.buffers.map((b) => `${b.name}: ${b.access} ${b.dtype}`),
    ...k.scalars.map((s) => `${s.name}: ${s.type}`),
  ];
  const lanes = k.workgroup === 1 ? "" : `, ${k.workgroup} lanes`;
  return `kernel ${i} ${k.entry}(${parameters.join(", ")}) '${k.title}' shared ${k.sharedBytes} bytes${lanes}`;
}

const showRef = (r: BufferRef) => `${r.in} ${r.index}`;

function showVariant(p: Plan, v: PlanVariant): string[] {
  return [
    `variant ${v.upTo === null ? "any N" : `N <= ${v.upTo}`} schedule ${v.schedule}`,
    ...indent([
      ...v.slots.map((s, i) => `slot ${i}: ${showSize(s)}`),
      ...v.steps.flatMap((s, i) => [
        ...(v.chunks ?? [])
          .filter((c) => c.from === i)
          .map((c) => `the next ${c.to - c.from} for each ${c.rows} rows, slots ${c.slots.join(", ")}`),
        showStep(p, s),
      ]),
    ]),
  ];
}

function showStep(p: Plan, s: Step): string {
  const k = p.kernels[s.kernel];
  const given = [
    ...s.buffers.map((b, i) => `${k?.buffers[i]?.name ?? "?"}: ${showRef(b)}`),
    ...s.scalars.map((x, i) => `${k?.scalars[i]?.name ?? "?"}: ${showSize(x)}`),
  ];
  return `${showSize(s.grid)} groups of ${k?.entry ?? `kernel ${s.kernel}`}(${given.join(", ")}) '${s.title}'`;
}
