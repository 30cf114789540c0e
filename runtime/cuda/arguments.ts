/** A launch as data: shape and packed parameters. Made once, it may be launched again and again. */
import type { DeviceMemory } from "./context.ts";
import { cudaError } from "./errors.ts";
import type { Handle } from "./shim.ts";

/** One parameter of a kernel, in the order of its declaration. */
export type Argument =
  | { readonly memory: DeviceMemory; /** Bytes. */ readonly offset?: number }
  | { readonly i32: number }
  | { readonly u32: number }
  | { readonly f32: number }
  | { readonly i64: number | bigint };

export type LaunchShape = {
  /** Blocks; what is left out is 1. */
  readonly grid: readonly [x: number, y?: number, z?: number];
  /** Threads of a block. */
  readonly block: readonly [x: number, y?: number, z?: number];
  /** Dynamic shared memory of a block. */
  readonly sharedBytes?: number;
};

export type Launch = {
  readonly shape: Uint32Array;
  readonly parameters: Uint8Array;
  readonly memories: readonly Handle<"memory">[];
  readonly slots: Float64Array;
};

/** @throws CudaError INVALID_ARGUMENT where a number does not fit its type. */
export function launchOf({ grid, block, sharedBytes = 0 }: LaunchShape, args: readonly Argument[]): Launch {
  const [gx, gy = 1, gz = 1] = grid;
  const [bx, by = 1, bz = 1] = block;
  const sizes = [gx, gy, gz, bx, by, bz, sharedBytes];
  for (const size of sizes) whole(size, 0, 2 ** 32 - 1, "shape");

  const parameters = new Uint8Array(args.reduce((at, a) => alignedTo(sizeOf(a), at) + sizeOf(a), 0));
  const view = new DataView(parameters.buffer);
  const memories: Handle<"memory">[] = [];
  const slots: number[] = [];
  let at = 0;
  args.forEach((a, i) => {
    const name = `parameter ${i}`;
    at = alignedTo(sizeOf(a), at);
    if ("memory" in a) {
      memories.push(a.memory.handle);
      slots.push(at, a.offset ?? 0);
    } else if ("i32" in a) view.setInt32(at, whole(a.i32, -(2 ** 31), 2 ** 31 - 1, name), true);
    else if ("u32" in a) view.setUint32(at, whole(a.u32, 0, 2 ** 32 - 1, name), true);
    else if ("f32" in a) view.setFloat32(at, a.f32, true);
    else view.setBigInt64(at, whole64(a.i64, name), true);
    at += sizeOf(a);
  });
  return { shape: Uint32Array.from(sizes), parameters, memories, slots: Float64Array.from(slots) };
}

/** Bytes of a parameter, and its alignment. */
const sizeOf = (a: Argument): 4 | 8 => ("memory" in a || "i64" in a ? 8 : 4);
const alignedTo = (size: number, at: number): number => Math.ceil(at / size) * size;

function whole(value: number, least: number, most: number, name: string): number {
  if (Number.isInteger(value) && value >= least && value <= most) return value;
  throw cudaError(
    "INVALID_ARGUMENT",
    "launch",
    `${name}: expected a whole number from ${least} to ${most}, got ${value}`,
  );
}

function whole64(value: number | bigint, name: string): bigint {
  if (typeof value === "number")
    return BigInt(whole(value, Number.MIN_SAFE_INTEGER, Number.MAX_SAFE_INTEGER, name));
  if (BigInt.asIntN(64, value) === value) return value;
  throw cudaError("INVALID_ARGUMENT", "launch", `${name}: ${value} does not fit 64 bits`);
}
