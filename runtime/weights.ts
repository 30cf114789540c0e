/** Checkpoints against a Plan: are all tensors there and of the right shape, and in the layouts the kernels read. */
import { isFloat } from "./elements.ts";
import type { Plan, PlanWeight } from "./plan.ts";
import { readHeader, readTensor } from "./safetensors.ts";
import type { ByteSource, SafetensorsHeader } from "./safetensors.ts";

export type WeightProblem = {
  readonly kind: "missing" | "extra" | "shape" | "dtype" | "untied";
  /** The tensor's name, in the plan or, for an extra one, in the checkpoint. */
  readonly name: string;
  /** Its shape in the checkpoint, where it is there. */
  readonly shape?: readonly number[];
  /** A sentence for a user. */
  readonly message: string;
};

type Wanted = Pick<Plan, "weights" | "accepts">;

/**
 * Every difference between a plan's weights and a checkpoint, plan order first; empty when it can be loaded. Tensors in
 * `plan.accepts` may be absent, but not misshapen.
 */
export function checkWeights(plan: Wanted, header: SafetensorsHeader): readonly WeightProblem[] {
  const problems: WeightProblem[] = [];
  const weights = new Map(plan.weights.map((weight) => [weight.name, weight.shape]));
  const known = new Map([...plan.accepts.map(({ name, shape }) => [name, shape] as const), ...weights]);
  const extra = [...header.tensors.keys()].filter((name) => !known.has(name));
  const missing = [...weights.keys()].filter((name) => !header.tensors.has(name));
  const prefix = commonPrefix(missing, extra);
  const hint = prefix === undefined ? "" : ` ${prefix}`;

  for (const [name, shape] of known) {
    const entry = header.tensors.get(name);
    if (entry === undefined) {
      if (!weights.has(name)) continue;
      const near = nearest(name, extra);
      const guess = near === undefined ? "" : ` Did you mean its '${near}'?`;
      problems.push({
        kind: "missing",
        name,
        message: `The checkpoint has no '${name}' ${shapeText(shape)}.${hint === "" ? guess : hint}`,
      });
    } else if (!sameRows(entry.shape, shape))
      problems.push({
        kind: "shape",
        name,
        message: `'${name}' is ${shapeText(entry.shape)} in the checkpoint; the model needs ${shapeText(shape)}.${reshaped(entry.shape, shape)}`,
      });
    else if (weights.has(name) && !isFloat(entry.dtype))
      problems.push({
        kind: "dtype",
        name,
        message: `'${name}' is ${entry.dtype} in the checkpoint; a weight must be F32, F16, BF16 or F64.`,
      });
  }
  for (const name of extra) {
    const near = nearest(name, missing);
    const guess = near === undefined ? "" : ` Did you mean '${near}', which is missing?`;
    problems.push({
      kind: "extra",
      name,
      shape: header.tensors.get(name)?.shape ?? [],
      message: `The checkpoint's '${name}' ${shapeText(header.tensors.get(name)?.shape ?? [])} is not part of the model.${hint === "" ? guess : hint}`,
    });
  }
  return problems;
}

/**
 * Whether a tensor holds the wanted rows one after the other: axes of one in front do not matter (`cls_token` [1, 1, E]), nor into how many
 * axes a row is divided (a convolution [E, 3, 32, 32] that is a matrix [E, 3072]).
 */
function sameRows(found: readonly number[], wanted: readonly number[]): boolean {
  if (found.length < wanted.length) return false;
  const product = (dims: readonly number[]) => dims.reduce((a, b) => a * b, 1);
  const dims = [...found];
  while (dims.length > wanted.length && dims[0] === 1) dims.shift();
  return (
    dims[0] === wanted[0] &&
    (wanted.length === 1 ? dims.length === 1 : product(dims) === product(wanted)) &&
    (dims.length > wanted.length || dims.every((d, i) => d === wanted[i]))
  );
}

const shapeText = (shape: readonly number[]): string => `[${shape.join(", ")}]`;

/** The likeliest reason for a wrong shape, where one can be told. */
function reshaped(found: readonly number[], wanted: readonly number[]): string {
  if (found.length === 2 && wanted.length === 2 && found[0] === wanted[1] && found[1] === wanted[0])
    return " It looks transposed.";
  return "";
}

/** A prefix that, taken from the extra names or added to them, gives at least half of the missing ones: `module.` and the like. */
function commonPrefix(missing: readonly string[], extra: readonly string[]): string | undefined {
  const wanted = new Set(missing);
  const given = new Set(extra);
  const count = (prefixes: Map<string, number>, prefix: string) =>
    prefixes.set(prefix, (prefixes.get(prefix) ?? 0) + 1);
  /** How often each leading path of `from` leads to a name of `to`. */
  const surplus = (from: readonly string[], to: ReadonlySet<string>) => {
    const prefixes = new Map<string, number>();
    for (const name of from)
      for (let dot = name.indexOf("."); dot >= 0; dot = name.indexOf(".", dot + 1))
        if (to.has(name.slice(dot + 1))) count(prefixes, name.slice(0, dot + 1));
    return [...prefixes].sort(([, a], [, b]) => b - a)[0];
  };
  const [added, addedCount] = surplus(extra, wanted) ?? ["", 0];
  if (addedCount > 0 && addedCount * 2 >= missing.length)
    return `Its names begin with '${added}', which the model's do not.`;
  const [dropped, droppedCount] = surplus(missing, given) ?? ["", 0];
  if (droppedCount > 0 && droppedCount * 2 >= missing.length)
    return `Its names lack the prefix '${dropped}' of the model's.`;
  return undefined;
}

/** The closest name within a third of its length in edits, if there is one. */
function nearest(name: string, candidates: readonly string[]): string | undefined {
  let best: string | undefined;
  let least = Math.floor(name.length / 3) + 1;
  for (const candidate of candidates) {
    if (Math.abs(candidate.length - name.length) >= least) continue;
    const distance = edits(name, candidate);
    if (distance < least) [best, least] = [candidate, distance];
  }
  return best;
}

/** Levenshtein distance. */
function edits(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_column, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++)
      next.push(
        Math.min(
          (row[j] ?? 0) + 1,
          (next[j - 1] ?? 0) + 1,
          (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1),
        ),
      );
    row = next;
  }
  return row[b.length] ?? 0;
}

/**
 * A matrix [out, in] (rows of a checkpoint) as panels of 8 outputs: element (k, j) at ⌊j/8⌋·in·8 + k·8 + j mod 8, with zeros
 * for outputs beyond the last. See PlanWeight.layout.
 */
export function packPanels(weight: Float32Array, out: number, inputs: number): Float32Array {
  const packed = new Float32Array(Math.ceil(out / 8) * 8 * inputs);
  for (let j = 0; j < out; j++) {
    const to = (j >> 3) * inputs * 8 + (j & 7);
    const from = j * inputs;
    for (let k = 0; k < inputs; k++) packed[to + k * 8] = weight[from + k] ?? 0;
  }
  return packed;
}

/** Receives `plan.weights[index]` in its layout; the array may be kept. Awaited before the next tensor is read. */
export type WeightSink = (index: number, data: Float32Array, weight: PlanWeight) => void | Promise<void>;

/** name "WeightsError"; the message lists the problems, one per line. */
export type WeightsError = Error & { readonly problems: readonly WeightProblem[] };

/** Names that the model ties to another weight, and that hold other numbers in the checkpoint. */
async function untied(plan: Wanted, source: ByteSource, header: SafetensorsHeader): Promise<WeightProblem[]> {
  const problems: WeightProblem[] = [];
  for (const { name, sameAs } of plan.accepts) {
    const [own, other] = [
      header.tensors.get(name),
      sameAs === undefined ? undefined : header.tensors.get(sameAs),
    ];
    if (own === undefined || other === undefined) continue;
    const [a, b] = [await readTensor(source, own), await readTensor(source, other)];
    if (a.length === b.length && a.every((x, i) => x === b[i])) continue;
    const message = `'${name}' differs from '${other.name}' in the checkpoint; the model ties them.`;
    problems.push({ kind: "untied", name, shape: own.shape, message });
  }
  return problems;
}

/**
 * Loads a checkpoint in the order of its bytes, one tensor in memory at a time. Throws a WeightsError with every problem, or a
 * SafetensorsError for a bad file, before the sink sees anything.
 */
export async function loadWeights(plan: Wanted, source: ByteSource, sink: WeightSink): Promise<void> {
  const header = await readHeader(source);
  const misfits = checkWeights(plan, header);
  const problems = misfits.length > 0 ? misfits : await untied(plan, source, header);
  if (problems.length > 0) {
    const lines = problems.map(({ message }) => `\n  ${message}`).join("");
    const error = new Error(`${source.name ?? "The checkpoint"} does not fit the model:${lines}`);
    throw Object.assign(error, { name: "WeightsError", problems });
  }
  // One tensor can serve in two layouts: a tied embedding is looked up by rows and multiplied by panels.
  const uses = new Map<string, number[]>();
  plan.weights.forEach(({ name }, index) => uses.set(name, [...(uses.get(name) ?? []), index]));
  const entries = [...header.tensors.values()].sort((a, b) => a.start - b.start);
  for (const entry of entries) {
    const indices = uses.get(entry.name);
    if (indices === undefined) continue;
    const read = await readTensor(source, entry);
    if (!(read instanceof Float32Array))
      throw new Error(`heddle: internal: weight '${entry.name}' was read as integers`);
    for (const index of indices) {
      const weight = plan.weights[index];
      if (weight === undefined) continue;
      const [out = 0, inputs = 0] = weight.shape;
      await sink(index, weight.layout === "panels" ? packPanels(read, out, inputs) : read, weight);
    }
  }
}
