/** The tensors and launches of a program at one length: made once, used by every run until the length changes. */
import { turnsOf } from "../chunks.ts";
import type { Turn } from "../chunks.ts";
import { deviceError } from "../device-error.ts";
import { sizeOf, variantFor } from "../plan.ts";
import type { BufferRef, CudaProgram, Plan } from "../plan.ts";
import { roomOf, sizeText } from "../room.ts";
import type { Room, RoomFor } from "../room.ts";
import { tableValues } from "../tables.ts";
import type { Extent } from "../tensors.ts";
import { launchOf } from "./arguments.ts";
import type { Argument, Launch } from "./arguments.ts";
import type { CudaFunction, CudaProduct, CudaProducts, DeviceMemory } from "./context.ts";
import type { Kernels } from "./kernels.ts";
import { isProduct, productOf } from "./linears.ts";
import type { Linears } from "./linears.ts";
import type { Session } from "./session.ts";
import { stagingFor } from "./staging.ts";
import type { Staging } from "./staging.ts";
import type { CudaGraph, CudaStream } from "./stream.ts";

/** What lives as long as a context: kernels and weights. */
export type Built = {
  readonly session: Session;
  readonly chosen: CudaProgram;
  readonly stream: CudaStream;
  readonly kernels: Kernels;
  readonly weights: readonly DeviceMemory[];
  /** Of a program that generates, once they were reserved. */
  readonly states: DeviceMemory[];
  readonly missing: Set<number>;
  /** Where cuBLASLt multiplies: itself, its memory, and which linear layers it takes. */
  readonly products: Products | null;
};

export type Products = {
  readonly library: CudaProducts;
  readonly workspace: DeviceMemory;
  readonly linears: Linears;
};

export type ReadyStep = {
  readonly title: string;
  /** Entry of the kernel, for profiles. */
  readonly entry: string;
} & (
  | {
      readonly fn: CudaFunction;
      /** One, unless the grid is larger than one launch takes. */
      readonly launches: readonly Launch[];
    }
  | { readonly product: CudaProduct; readonly memories: readonly DeviceMemory[] }
);

/** What lives as long as N and B stay the same. */
export type Prepared = {
  /** The program's own, or one of its entries. */
  readonly plan: Plan;
  readonly at: Extent;
  readonly room: Room<DeviceMemory>;
  readonly steps: readonly ReadyStep[];
  readonly staging: Staging;
  /** All steps as one, where graphs are wished for. */
  readonly graph: CudaGraph | null;
  readonly dispose: () => void;
};

export type PrepareOptions = {
  /** Blocks that one launch takes at most. */
  readonly maxGridX: number;
  readonly stagingBytes: number;
  readonly graph: boolean;
};

/** Kernels count groups, tokens and rows in an i32, with some room for sums; see CudaSource. */
const MOST_COUNT = 2 ** 31 - 2 ** 16 - 1;

/**
 * Makes everything that a run at N and B needs; on a failure nothing stays behind.
 * @throws DeviceError LIMITS, OUT_OF_MEMORY
 */
export async function prepare(b: Built, plan: Plan, at: Extent, options: PrepareOptions): Promise<Prepared> {
  const { session, stream } = b;
  const wanted = roomOf(plan, at);
  const made: DeviceMemory[] = [];
  const roomFor = async (list: readonly RoomFor[]): Promise<readonly DeviceMemory[]> => {
    const memories: DeviceMemory[] = [];
    for (const wish of list) {
      const memory = await session.allocate(wish);
      memories.push(memory);
      made.push(memory);
    }
    return memories;
  };
  const counts = countsOf(plan, at);
  const products = new Map<string, CudaProduct>();
  let staging: Staging | undefined;
  let graph: CudaGraph | null = null;
  const dispose = () => {
    // A graph keeps the memory that it uses.
    graph?.dispose();
    staging?.dispose();
    for (const product of products.values()) product.dispose();
    made.forEach(session.free);
  };
  try {
    const room: Room<DeviceMemory> = {
      input: await roomFor(wanted.input),
      output: await roomFor(wanted.output),
      table: await roomFor(wanted.table),
      slot: await roomFor(wanted.slot),
    };
    const sizes = [...wanted.input, ...wanted.output].map((w) => w.bytes);
    staging = await stagingFor(session, stream, sizes, options.stagingBytes);
    for (const [i, table] of plan.tables.entries()) {
      const to = room.table[i];
      if (to !== undefined) await stream.write(to, tableValues(table, at.N));
    }
    const steps = counts.flatMap((c) =>
      c.groups === 0 ? [] : [readyStep(b, room, c, { ...options, products })],
    );
    if (options.graph && steps.length > 0) {
      // cuBLASLt loads a kernel when it runs first, which a capture might not allow. What it writes here is written anew by each run.
      for (const step of steps) if ("product" in step) stream.multiply(step.product, step.memories);
      graph = stream.capture(() => enqueue(stream, steps));
    }
    return { plan, at: { N: at.N, B: at.B }, room, steps, staging, graph, dispose };
  } catch (error) {
    dispose();
    throw error;
  }
}

/** Gives the stream every step. */
export function enqueue(
  stream: CudaStream,
  steps: readonly ReadyStep[],
  before?: (step: number) => void,
): void {
  steps.forEach((step, i) => {
    before?.(i);
    if ("product" in step) stream.multiply(step.product, step.memories);
    else for (const launch of step.launches) stream.launch(step.fn, launch);
  });
}

type Counted = Pick<Turn, "step" | "skip"> & { readonly groups: number; readonly scalars: readonly number[] };

/** The numbers of every step, in chunks of rows where the plan has them. @throws DeviceError LIMITS where kernels cannot count so far. */
function countsOf(plan: Plan, at: Extent): readonly Counted[] {
  return turnsOf(plan, variantFor(plan, at.N), at).map(({ step, at, skip }) => {
    const sizes = [step.grid, ...step.scalars];
    const [groups = 0, ...scalars] = sizes.map((size) => sizeOf(size, at));
    const over = [groups, ...scalars].findIndex((n) => n > MOST_COUNT);
    const size = sizes[over];
    if (size !== undefined)
      throw deviceError(
        "LIMITS",
        `'${plan.name}' would count to ${sizeOf(size, at)} in '${step.title}' (${sizeText(size)} at N = ${at.N}, B = ${at.B}); its kernels ` +
          `count to ${MOST_COUNT}. Use shorter sequences or smaller batches`,
      );
    return { step, skip, groups, scalars };
  });
}

function readyStep(
  b: Built,
  room: Room<DeviceMemory>,
  { step, skip, groups, scalars }: Counted,
  { maxGridX, products }: Pick<PrepareOptions, "maxGridX"> & { readonly products: Map<string, CudaProduct> },
): ReadyStep {
  const { plan } = b.chosen;
  const [kernel, fn] = [plan.kernels[step.kernel], b.kernels.functions[step.kernel]];
  if (kernel === undefined || fn === undefined)
    throw deviceError("FAILED", `internal: '${plan.name}' has no kernel ${step.kernel}`);
  const memoryOf = (ref: BufferRef): DeviceMemory => {
    const found =
      ref.in === "weight"
        ? b.weights[ref.index]
        : ref.in === "state"
          ? b.states[ref.index]
          : room[ref.in][ref.index];
    if (found === undefined)
      throw deviceError("FAILED", `internal: '${plan.name}' has no ${ref.in} ${ref.index}`);
    return found;
  };
  if (b.products !== null && isProduct(b.products.linears, kernel, step.buffers)) {
    const { library, workspace } = b.products;
    const rows = scalars[kernel.scalars.findIndex((s) => s.name === "M")] ?? 0;
    const key = `${step.kernel} ${rows}`;
    const product = products.get(key) ?? productOf(library, kernel, rows);
    products.set(key, product);
    const named = (name: string): readonly DeviceMemory[] =>
      kernel.buffers.flatMap((buffer, i) => {
        const ref = step.buffers[i];
        return buffer.name === name && ref !== undefined ? [memoryOf(ref)] : [];
      });
    const memories = [
      ...["x", "weight", "out", "bias", "residual"].flatMap(named),
      ...(product.workspaceBytes > 0 ? [workspace] : []),
    ];
    return { title: step.title, entry: "cublasLtMatmul", product, memories };
  }
  const args: readonly Argument[] = [
    ...step.buffers.map((ref) => ({ memory: memoryOf(ref), offset: 4 * skip(ref) })),
    ...kernel.scalars.map(({ type }, i) => {
      const value = scalars[i] ?? 0;
      return type === "i32" ? { i32: value } : { f32: value };
    }),
  ];
  const launches: Launch[] = [];
  for (let first = 0; first < groups; first += maxGridX) {
    const shape = {
      grid: [Math.min(maxGridX, groups - first)],
      block: [kernel.workgroup],
      sharedBytes: kernel.sharedBytes,
    } as const;
    launches.push(launchOf(shape, [...args, { i32: first }]));
  }
  return { title: step.title, entry: kernel.entry, fn, launches };
}
