/** How many blocks of a kernel one multiprocessor holds, by NVIDIA's published figures: what `cuOccupancyMaxActiveBlocksPerMultiprocessor` says. */

type Multiprocessor = {
  readonly warps: number;
  readonly blocks: number;
  /** Bytes of shared memory. */
  readonly shared: number;
};

const KIB = 1024;
/** CUDA C++ Programming Guide, "Technical specifications per compute capability"; all of them have 65536 registers. */
const MULTIPROCESSORS: ReadonlyMap<number, Multiprocessor> = new Map([
  [80, { warps: 64, blocks: 32, shared: 164 * KIB }],
  [86, { warps: 48, blocks: 16, shared: 100 * KIB }],
  [87, { warps: 48, blocks: 16, shared: 164 * KIB }],
  [89, { warps: 48, blocks: 24, shared: 100 * KIB }],
  [90, { warps: 64, blocks: 32, shared: 228 * KIB }],
  [100, { warps: 64, blocks: 32, shared: 228 * KIB }],
  [103, { warps: 64, blocks: 32, shared: 228 * KIB }],
  [120, { warps: 48, blocks: 24, shared: 100 * KIB }],
  [121, { warps: 48, blocks: 24, shared: 100 * KIB }],
]);
const REGISTERS = 65536;
/** Registers are given to a warp by 256, to four warps at a time (one for each scheduler). */
const REGISTER_UNIT = 256;
const SCHEDULERS = 4;
const SHARED_UNIT = 128;
/** Of each block, for the driver. */
const RESERVED = 1 * KIB;

export type Occupancy = {
  /** Blocks of one multiprocessor at a time. */
  readonly blocks: number;
  /** Warps of them, of those that it can hold. */
  readonly share: number;
  readonly limit: "registers" | "shared memory" | "warps" | "blocks";
};

const upTo = (unit: number, n: number): number => Math.ceil(n / unit) * unit;

/** Null for architectures without published figures here. */
export function occupancy(
  capability: number,
  {
    threads,
    registers,
    sharedBytes,
  }: { readonly threads: number; readonly registers: number; readonly sharedBytes: number },
): Occupancy | null {
  const has = MULTIPROCESSORS.get(capability);
  if (has === undefined) return null;
  const warps = Math.ceil(threads / 32);
  const perWarp = upTo(REGISTER_UNIT, registers * 32);
  const heldWarps = Math.floor(Math.floor(REGISTERS / Math.max(1, perWarp)) / SCHEDULERS) * SCHEDULERS;
  const limits = {
    warps: Math.floor(has.warps / warps),
    blocks: has.blocks,
    registers: Math.floor(heldWarps / upTo(SCHEDULERS, warps)),
    "shared memory": Math.floor(has.shared / upTo(SHARED_UNIT, sharedBytes + RESERVED)),
  };
  const [limit, blocks] = (Object.entries(limits) as [Occupancy["limit"], number][]).reduce((a, b) =>
    b[1] < a[1] ? b : a,
  );
  return { blocks, share: (blocks * warps) / has.warps, limit };
}
