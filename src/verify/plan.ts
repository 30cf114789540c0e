/** Plans: every argument exists and fits, and nothing is read before it is written. Formulas are tried at sample lengths. */
import { entryOf, sizeOf, storageOf } from "../../runtime/plan.ts";
import type { BufferRef, EntryName, Plan, PlanVariant, Size, Step } from "../../runtime/plan.ts";
import { showSize } from "../show/size.ts";

const LENGTHS = [1, 2, 7, 63, 64, 65, 1000, 16_384];
const BATCHES = [1, 3];

export function verifyPlan(p: Plan): string[] {
  const problems: string[] = [];
  const entries = new Set<string>();
  for (const k of p.kernels) {
    if (entries.has(k.entry)) problems.push(`two kernels are exported as '${k.entry}'`);
    entries.add(k.entry);
    if (!(Number.isInteger(k.workgroup) && k.workgroup > 0))
      problems.push(`kernel ${k.entry} has ${k.workgroup} lanes`);
    if (!(Number.isInteger(k.sharedBytes) && k.sharedBytes >= 0))
      problems.push(`kernel ${k.entry} has ${k.sharedBytes} bytes of shared memory`);
  }
  problems.push(...entry(p));
  for (const name of Object.keys(p.decoding?.entries ?? {}) as EntryName[])
    problems.push(...entry(entryOf(p, name)).map((text) => `${name}: ${text}`));
  p.decoding?.states.forEach((s) =>
    formula(s.elements, LENGTHS).forEach((text) => problems.push(`state '${s.name}': ${text}`)),
  );
  return problems;
}

/** The variants of a plan, or of one of its entries. */
function entry(p: Plan): string[] {
  const problems: string[] = [];
  if (p.variants.length === 0) problems.push("no variant");
  let below = 0;
  p.variants.forEach((v, i) => {
    const lastOne = i === p.variants.length - 1;
    if (v.upTo === null ? !lastOne : v.upTo <= below)
      problems.push(`variant ${i}: no length is left for it or for those behind it`);
    const lengths = [...LENGTHS, below + 1, ...(v.upTo === null ? [] : [v.upTo])].filter(
      (N) => N > below && (v.upTo === null || N <= v.upTo),
    );
    variant(p, v, lengths).forEach((text) => problems.push(`variant ${i}: ${text}`));
    below = v.upTo ?? Infinity;
  });
  return problems;
}

function variant(p: Plan, v: PlanVariant, lengths: readonly number[]): string[] {
  const problems: string[] = [];
  /** Slots and outputs that some step has written. */
  const written = new Set<string>();
  const key = (r: BufferRef) => `${r.in} ${r.index}`;
  v.slots.forEach((s, i) => formula(s, lengths).forEach((text) => problems.push(`slot ${i}: ${text}`)));
  v.steps.forEach((s, i) => {
    const say = (text: string) => void problems.push(`step ${i} '${s.title}': ${text}`);
    argumentsOf(p, v, s).forEach(say);
    formula(s.grid, lengths).forEach((text) => say(`grid: ${text}`));
    s.scalars.forEach((x, j) => formula(x, lengths).forEach((text) => say(`scalar ${j}: ${text}`)));
    const access = (j: number) => p.kernels[s.kernel]?.buffers[j]?.access;
    s.buffers.forEach((r, j) => {
      const fresh = (r.in === "slot" || r.in === "output") && !written.has(key(r));
      // A kernel that continues a state begins it on its first launch: only plain reads need an earlier write.
      if (access(j) === "read" && fresh) say(`reads ${key(r)}, which no step before has written`);
    });
    s.buffers.forEach((r, j) => {
      if (access(j) !== "read") written.add(key(r));
    });
  });
  p.outputs.forEach((o, i) => {
    if (!written.has(`output ${i}`)) problems.push(`no step writes output '${o.name}'`);
  });
  return problems;
}

function argumentsOf(p: Plan, v: PlanVariant, s: Step): string[] {
  const k = p.kernels[s.kernel];
  if (k === undefined) return [`there is no kernel ${s.kernel}`];
  const problems: string[] = [];
  if (s.buffers.length !== k.buffers.length)
    problems.push(`${s.buffers.length} buffers for the ${k.buffers.length} of ${k.entry}`);
  if (s.scalars.length !== k.scalars.length)
    problems.push(`${s.scalars.length} scalars for the ${k.scalars.length} of ${k.entry}`);
  const rooms = {
    input: p.inputs,
    output: p.outputs,
    weight: p.weights,
    table: p.tables,
    slot: v.slots,
    state: p.decoding?.states ?? [],
  };
  s.buffers.forEach((r, j) => {
    const b = k.buffers[j];
    if (b === undefined) return;
    if (rooms[r.in][r.index] === undefined) problems.push(`'${b.name}': there is no ${r.in} ${r.index}`);
    if (b.access !== "read" && r.in !== "slot" && r.in !== "output" && r.in !== "state")
      problems.push(`'${b.name}' is written, but bound to ${r.in} ${r.index}`);
    const dtype = storageOf(p, r);
    if (dtype !== undefined && dtype !== b.dtype)
      problems.push(`'${b.name}' is ${b.dtype} and ${r.in} ${r.index} ${dtype}`);
    const other = s.buffers.findIndex((q, i) => i !== j && q.in === r.in && q.index === r.index);
    if (b.access !== "read" && other >= 0)
      problems.push(`'${b.name}' is written and shares ${r.in} ${r.index} with '${k.buffers[other]?.name}'`);
  });
  return problems;
}

/** A formula must be a whole number that is not negative, at every length. */
function formula(size: Size, lengths: readonly number[]): string[] {
  for (const N of lengths)
    for (const B of BATCHES) {
      const value = sizeOf(size, { N, B });
      if (!(Number.isSafeInteger(value) && value >= 0))
        return [`${showSize(size)} is ${value} at N = ${N}, B = ${B}`];
    }
  return [];
}
