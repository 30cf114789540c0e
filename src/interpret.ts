/**
 * Runs a distributed kernel: the living definition of the kernel IR, with every promise of `src/kernel.ts` checked.
 *
 * f32 arithmetic rounds after every operation (`madd` twice), i32 wraps, `exp2` and `log2` are rounded from f64.
 * Anything a target may answer differently is an error: see `FailureKind`. The kernel is translated once to JavaScript.
 */
import type { Kernel } from "./kernel.ts";
import { failure } from "./interpret/failure.ts";
import * as memory from "./interpret/memory.ts";
import { script } from "./interpret/script.ts";
import type { Compiled } from "./interpret/script.ts";

export { isInterpretError } from "./interpret/failure.ts";
export type { FailureKind, InterpretError } from "./interpret/failure.ts";

export type Launch = {
  /** By buffer name: Int32Array for i32, Float32Array for f32, f16 and bf16 (stores round to the storage type). */
  readonly buffers: { readonly [name: string]: Float32Array | Int32Array };
  readonly scalars: { readonly [name: string]: number };
  /** Size of the grid. */
  readonly groups: number;
  /** Runs groups [begin, end) only, as a thread would. */
  readonly range?: readonly [number, number];
  readonly check?: {
    /**
     * Two groups writing one element, or one reading what another writes, is an error (on unless switched off). Only
     * groups of one call are compared.
     */
    readonly groups?: boolean;
  };
};

type Ready = Compiled & { readonly make: (env: Environment) => (group: number) => void };
type Environment = { readonly [name: string]: unknown };

const ready = new WeakMap<Kernel, { on?: Ready; off?: Ready }>();

function prepare(kernel: Kernel, groups: boolean): Ready {
  const known = ready.get(kernel) ?? {};
  ready.set(kernel, known);
  const which = groups ? "on" : "off";
  const compiled = known[which];
  if (compiled !== undefined) return compiled;
  const made = script(kernel, groups);
  // The text is made of our own words, numbers and sanitised names.
  // oxlint-disable-next-line no-new-func
  const make = new Function("env", made.text) as Ready["make"];
  return (known[which] = { ...made, make });
}

/** The JavaScript a kernel is run as, for debugging. */
export const scriptOf = (kernel: Kernel): string => prepare(kernel, true).text;

/**
 * Runs the groups of one launch, in order. Writes into the caller's arrays.
 * @throws InterpretError at the first broken promise; arrays then hold what was written so far.
 */
export function interpret(kernel: Kernel, launch: Launch): void {
  const wrong = (text: string) => {
    throw failure(kernel.name, { kind: "argument", path: "", text }, undefined, []);
  };
  const [begin, end] = launch.range ?? [0, launch.groups];
  if (!(Number.isInteger(begin) && Number.isInteger(end) && 0 <= begin && end <= launch.groups))
    wrong(`groups ${begin} … ${end} of ${launch.groups}`);

  for (const b of kernel.buffers) {
    const given = launch.buffers[b.name];
    if (given === undefined) wrong(`buffer '${b.name}' is missing`);
    else if (given instanceof Int32Array !== (b.dtype === "i32"))
      wrong(`buffer '${b.name}' of ${b.dtype} is given as ${given.constructor.name}`);
  }
  for (const s of kernel.scalars) {
    const given = launch.scalars[s.name];
    if (given === undefined) wrong(`scalar '${s.name}' is missing`);
    else if (s.type === "i32" ? given !== (given | 0) : given !== Math.fround(given))
      wrong(`scalar '${s.name}' of ${s.type} is given as ${given}`);
  }
  const unknown = [
    ...Object.keys(launch.buffers).filter((n) => !kernel.buffers.some((b) => b.name === n)),
    ...Object.keys(launch.scalars).filter((n) => !kernel.scalars.some((s) => s.name === n)),
  ];
  if (unknown.length > 0) wrong(`no parameter is called '${unknown.join("', '")}'`);
  const overlap = overlapping(kernel, launch);
  if (overlap !== undefined) wrong(`'${overlap[0]}' and '${overlap[1]}' share memory and one is written`);

  const checkGroups = launch.check?.groups ?? true;
  const { make, sites, out } = prepare(kernel, checkGroups);
  const written = kernel.buffers.filter((b) => b.access !== "read").map((b) => b.name);
  const sized = <T>(made: (length: number) => T, names: readonly string[]) =>
    Object.fromEntries(names.map((n) => [n, made(lengthOf(n))]));
  const lengthOf = (name: string) =>
    launch.buffers[name]?.length ?? kernel.shared.find((s) => s.name === name)?.length ?? 0;
  const shared = kernel.shared.map((s) => s.name);
  const run = make({
    ...memory,
    ...tools,
    fail: (site: number, group: number, lane: number, values: readonly number[]) => {
      throw failure(kernel.name, sites[site]!, { group, lane }, values);
    },
    out: new Float64Array(out),
    buffers: launch.buffers,
    scalars: launch.scalars,
    tables: Object.fromEntries(
      kernel.tables.map((t) => [
        t.name,
        t.type === "i32" ? Int32Array.from(t.values) : Float32Array.from(t.values),
      ]),
    ),
    shared: Object.fromEntries(
      kernel.shared.map((s) => [
        s.name,
        s.type === "i32" ? new Int32Array(s.length) : new Float32Array(s.length),
      ]),
    ),
    stamps: sized((n) => new Int32Array(n), shared),
    laneLog: kernel.workgroup > 1 ? sized(memory.laneLog, [...shared, ...written]) : {},
    groupLog: sized(memory.groupLog, written),
  });
  for (let g = begin; g < end; g++) run(g);
}

const tools = {
  toF16: memory.toF16,
  toBf16: memory.toBf16,
  fround: Math.fround,
  imul: Math.imul,
  min: Math.min,
  max: Math.max,
  abs: Math.abs,
  sqrt: Math.sqrt,
  floor: Math.floor,
  log2: Math.log2,
};

function overlapping(kernel: Kernel, launch: Launch): readonly [string, string] | undefined {
  const spans = kernel.buffers.map((b) => {
    const a = launch.buffers[b.name]!;
    return { ...b, memory: a.buffer, from: a.byteOffset, to: a.byteOffset + a.byteLength };
  });
  for (const a of spans)
    for (const b of spans)
      if (a !== b && a.access !== "read" && a.memory === b.memory && a.from < b.to && b.from < a.to)
        return [a.name, b.name];
  return undefined;
}
