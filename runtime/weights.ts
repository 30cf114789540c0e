/** Checkpoints against a Plan: are all tensors there and of the right shape, and in the layouts the kernels read. */
import { openCheckpoint } from "./checkpoint.ts";
import type { Checkpoint, CheckpointTensor } from "./checkpoint.ts";
import { isFloat } from "./elements.ts";
import { weightLength } from "./memory.ts";
import { commonRenaming, nearest } from "./names.ts";
import type { Renaming } from "./names.ts";
import { packInPlace } from "./panels.ts";
import type { Plan, PlanWeight } from "./plan.ts";
import { chunkBytes, readInto, readTensor } from "./safetensors.ts";
import type { ByteSource, SafetensorsHeader, TensorEntry } from "./safetensors.ts";

export { packPanels } from "./panels.ts";

export type WeightProblem = {
  readonly kind: "missing" | "extra" | "shape" | "dtype" | "untied";
  /** The tensor's name, in the plan or, for an extra one, in the checkpoint. */
  readonly name: string;
  /** Its shape in the checkpoint, where it is there. */
  readonly shape?: readonly number[];
  /** The likeliest repair, for `rename` of `heddle/runtime/sources`: a leading path up to a dot (or "": before every name), or a whole name. */
  readonly rename?: Renaming;
  /** A sentence for a user. */
  readonly message: string;
};

type Wanted = Pick<Plan, "weights" | "accepts">;

/** More pairs of names than this are not compared letter by letter: a hostile header may hold a million. */
const mostPairs = 200_000;

/**
 * Every difference between a plan's weights and a checkpoint, plan order first; empty when it can be loaded. Tensors in
 * `plan.accepts` may be absent, but not misshapen.
 */
export function checkWeights(
  plan: Wanted,
  { tensors }: Pick<SafetensorsHeader, "tensors">,
): readonly WeightProblem[] {
  const problems: WeightProblem[] = [];
  const weights = new Map(plan.weights.map((weight) => [weight.name, weight.shape]));
  const known = new Map([...plan.accepts.map(({ name, shape }) => [name, shape] as const), ...weights]);
  const extra = [...tensors.keys()].filter((name) => !known.has(name));
  const missing = [...weights.keys()].filter((name) => !tensors.has(name));
  const common = commonRenaming(missing, extra);
  const shapeOf = (name: string) => tensors.get(name)?.shape ?? [];
  /** What a name may stand for: a sentence, and the repair where one can be told. */
  const guess = (
    kind: "missing" | "extra",
    name: string,
  ): { readonly text: string; readonly rename?: Renaming } => {
    if (common !== undefined) return { text: ` ${renamingText(common)}`, rename: common };
    const near =
      missing.length * extra.length > mostPairs
        ? undefined
        : nearest(name, kind === "missing" ? extra : missing);
    if (near === undefined) return { text: "" };
    const [from, to] = kind === "missing" ? [near, name] : [name, near];
    const text = kind === "missing" ? `its '${near}'` : `'${near}', which is missing`;
    const fits = sameRows(shapeOf(from), known.get(to) ?? []);
    return { text: ` Did you mean ${text}?`, ...(fits ? { rename: { from, to } } : {}) };
  };

  for (const [name, shape] of known) {
    const entry = tensors.get(name);
    if (entry === undefined) {
      if (!weights.has(name)) continue;
      const { text, ...more } = guess("missing", name);
      problems.push({
        kind: "missing",
        name,
        ...more,
        message: `The checkpoint has no '${name}' ${shapeText(shape)}.${text}`,
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
    const { text, ...more } = guess("extra", name);
    problems.push({
      kind: "extra",
      name,
      shape: shapeOf(name),
      ...more,
      message: `The checkpoint's '${name}' ${shapeText(shapeOf(name))} is not part of the model.${text}`,
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

const same = (a: readonly number[], b: readonly number[]): boolean =>
  a.length === b.length && a.every((dim, i) => dim === b[i]);

const renamingText = ({ from, to }: Renaming): string =>
  from === ""
    ? `Its names lack the prefix '${to}' of the model's.`
    : to === ""
      ? `Its names begin with '${from}', which the model's do not.`
      : `Its names begin with '${from}' where the model's begin with '${to}'.`;

const shapeText = (shape: readonly number[]): string => `[${shape.join(", ")}]`;
/** The likeliest reason for a wrong shape, where one can be told. */
function reshaped(found: readonly number[], wanted: readonly number[]): string {
  if (found.length === 2 && wanted.length === 2 && found[0] === wanted[1] && found[1] === wanted[0])
    return " It looks transposed.";
  return "";
}

/**
 * Receives `plan.weights[index]` in its layout. Awaited before the next tensor is read, into the same memory: what is to be kept must be
 * copied.
 */
export type WeightSink = (index: number, data: Float32Array, weight: PlanWeight) => void | Promise<void>;

/** name "WeightsError"; the message lists the problems, one per line. */
export type WeightsError = Error & { readonly problems: readonly WeightProblem[] };

/** Elements of two tensors that are compared at a time. */
const comparedAtOnce = 1 << 20;

/** Whether two tensors of one shape hold the same numbers. */
async function equal(a: CheckpointTensor, b: CheckpointTensor, signal?: AbortSignal): Promise<boolean> {
  const part = (tensor: CheckpointTensor, count: number, from: number): TensorEntry => {
    const width = (tensor.end - tensor.start) / count;
    const start = tensor.start + from * width;
    return { ...tensor, start, end: Math.min(tensor.end, start + comparedAtOnce * width) };
  };
  const count = a.shape.reduce((product, dim) => product * dim, 1);
  for (let from = 0; from < count; from += comparedAtOnce) {
    const mine = await readTensor(a.source, part(a, count, from), { signal });
    const other = await readTensor(b.source, part(b, count, from), { signal });
    if (!mine.every((x, i) => x === other[i])) return false;
  }
  return true;
}

/** Names that the model ties to another weight, and that hold other numbers in the checkpoint. */
async function untied(
  plan: Wanted,
  { tensors }: Checkpoint,
  signal?: AbortSignal,
): Promise<readonly WeightProblem[]> {
  const problems: WeightProblem[] = [];
  for (const { name, sameAs } of plan.accepts) {
    if (sameAs === undefined) continue;
    const [own, other] = [tensors.get(name), tensors.get(sameAs)];
    if (own === undefined || other === undefined) continue;
    if (same(own.shape, other.shape) && (await equal(own, other, signal))) continue;
    const message = `'${name}' differs from '${sameAs}' in the checkpoint; the model ties them.`;
    problems.push({ kind: "untied", name, shape: own.shape, message });
  }
  return problems;
}

/** Lines of a message; `problems` has all. */
const mostLines = 100;

function weightsError(checkpoint: Checkpoint, problems: readonly WeightProblem[]): WeightsError {
  const lines = problems.slice(0, mostLines).map(({ message }) => `\n  ${message}`);
  if (problems.length > mostLines) lines.push(`\n  … and ${problems.length - mostLines} more.`);
  const error = new Error(`${checkpoint.name ?? "The checkpoint"} does not fit the model:${lines.join("")}`);
  return Object.assign(error, { name: "WeightsError", problems });
}

export type LoadWeightsOptions = {
  /** Ends the loading, which rejects with the signal's reason. */
  readonly signal?: AbortSignal | undefined;
  /** Called as bytes of tensors arrive: those read so far, and all that the plan's weights have in the checkpoint. */
  readonly bytes?: ((done: number, of: number) => void) | undefined;
};

/**
 * Loads a checkpoint in the order of its bytes, through memory for its largest tensor. Throws a WeightsError with every problem, or a
 * SafetensorsError for a bad file, before the sink sees anything; a tensor whose bytes are not the right ones before the sink sees it.
 */
export async function loadWeights(
  plan: Wanted,
  weights: ByteSource | Checkpoint,
  sink: WeightSink,
  { signal, bytes }: LoadWeightsOptions = {},
): Promise<void> {
  const checkpoint = await openCheckpoint(weights, { signal });
  const misfits = checkWeights(plan, checkpoint);
  const problems = misfits.length > 0 ? misfits : await untied(plan, checkpoint, signal);
  if (problems.length > 0) throw weightsError(checkpoint, problems);

  const reads = readsOf(plan, checkpoint);
  const of = reads.reduce((sum, { tensor }) => sum + tensor.end - tensor.start, 0);
  // One array for all: what a collector would free too late is never made.
  const memory = new Float32Array(reads.reduce((most, { elements }) => Math.max(most, elements), 0));
  const into = new Uint8Array(chunkBytes);
  let done = 0;
  for (const { tensor, until, uses } of reads) {
    const verifier = tensor.verify?.();
    await readInto(tensor.source, tensor, memory, { signal, until, into }, (piece) => {
      verifier?.add(piece);
      bytes?.((done += piece.length), of);
    });
    verifier?.end();
    let packed = false;
    for (const [index, weight] of uses) {
      const [out = 0, inputs = 0] = weight.shape;
      const data = memory.subarray(0, weightLength(weight));
      if (weight.layout === "panels" && !packed) {
        packInPlace(data, out, inputs);
        packed = true;
      }
      await sink(index, data, weight);
    }
  }
}

/** A tensor to read, and where it goes. */
type Read = {
  readonly tensor: CheckpointTensor;
  /** Where the last of the tensors ends that are read right after this one. */
  readonly until: number;
  /** Rows first: they are turned into panels where they lie. */
  readonly uses: readonly (readonly [number, PlanWeight])[];
  readonly elements: number;
};

/** Bytes that are rather read along than skipped. */
const smallGap = 1 << 16;

/** Every tensor that a plan wants, once, in the order of the sources' bytes. */
function readsOf(plan: Wanted, { tensors }: Checkpoint): readonly Read[] {
  // One tensor can serve in two layouts: a tied embedding is looked up by rows and multiplied by panels.
  const uses = new Map<string, (readonly [number, PlanWeight])[]>();
  plan.weights.forEach((weight, index) =>
    uses.set(weight.name, [...(uses.get(weight.name) ?? []), [index, weight]]),
  );
  const sources = [...new Set([...tensors.values()].map(({ source }) => source))];
  const place = new Map(sources.map((source, i) => [source, i]));
  const wanted = [...uses].flatMap(([name, list]) => {
    const tensor = tensors.get(name);
    return tensor === undefined ? [] : [{ tensor, list }];
  });
  wanted.sort(
    (a, b) =>
      (place.get(a.tensor.source) ?? 0) - (place.get(b.tensor.source) ?? 0) ||
      a.tensor.start - b.tensor.start,
  );
  const reads: Read[] = [];
  for (const { tensor, list } of wanted.reverse()) {
    const next = reads.at(-1);
    const near = next?.tensor.source === tensor.source && next.tensor.start - tensor.end <= smallGap;
    reads.push({
      tensor,
      until: near ? next.until : tensor.end,
      uses: list.sort(([, a], [, b]) => Number(a.layout === "panels") - Number(b.layout === "panels")),
      elements: Math.max(...list.map(([, weight]) => weightLength(weight))),
    });
  }
  return reads.reverse();
}
