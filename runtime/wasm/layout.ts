/** Where everything of one program lies in its WebAssembly memory. */
import { weightLength } from "../memory.ts";
import { sizeOf } from "../plan.ts";
import type { BufferRef, Plan, PlanVariant, WasmModules } from "../plan.ts";
import { tableLength } from "../tables.ts";
import { elementsAt } from "../tensors.ts";
import type { Extent } from "../tensors.ts";

export const PAGE = 65536;
/** WebAssembly memories of 32-bit addresses end here. */
export const MOST_BYTES = 65536 * PAGE;

/** Every pointer that a kernel gets is at least this, see `Fixed.start`. */
const LOWEST = PAGE;
/** A cache line; also more than a vector, so that a read of four elements that begins inside stays harmless. */
const ALIGN = 64;
const align = (bytes: number) => Math.ceil(bytes / ALIGN) * ALIGN;

/** What does not depend on N and B. */
export type Fixed = {
  readonly weights: readonly number[];
  /** Where states lie, and their bytes; none before they are made. */
  readonly states: readonly number[];
  readonly sizes: readonly number[];
  readonly scratch: number;
  /** Bytes from one thread's scratch memory to the next's. */
  readonly scratchStride: number;
  readonly end: number;
  readonly bytes: { readonly weights: number; readonly scratch: number };
};

export function fixedLayout(plan: Plan, modules: WasmModules, threads: number): Fixed {
  // The emitter folds constants of an index into unsigned offsets; a pointer below the first page could underflow then.
  let end = align(Math.max(LOWEST, modules.dataEnd));
  const weights = plan.weights.map((weight) => {
    const at = end;
    end += align(4 * weightLength(weight));
    return at;
  });
  const scratch = end;
  // Apart by a line more than needed: neighbours' tiles then do not fall on the same cache sets.
  const scratchStride = align(Math.max(0, ...plan.kernels.map((k) => k.sharedBytes))) + ALIGN;
  end += scratchStride * threads;
  const bytes = { weights: scratch - (weights[0] ?? scratch), scratch: end - scratch };
  return { weights, states: [], sizes: [], scratch, scratchStride, end, bytes };
}

/** States of so many bytes behind what is fixed. */
export function withStates(fixed: Fixed, sizes: readonly number[]): Fixed {
  let { end } = fixed;
  const states = sizes.map((bytes) => {
    const here = end;
    end += align(bytes);
    return here;
  });
  return { ...fixed, states, sizes, end };
}

/** What depends on N and B. `tableRows` is the length the tables are made for, at least N. */
export type Moving = {
  readonly tables: readonly number[];
  readonly inputs: readonly number[];
  readonly outputs: readonly number[];
  readonly slots: readonly number[];
  readonly end: number;
  readonly bytes: {
    readonly tables: number;
    readonly inputs: number;
    readonly outputs: number;
    readonly arena: number;
  };
};

export function movingLayout(
  plan: Plan,
  variant: PlanVariant,
  fixed: Fixed,
  tableRows: number,
  at: Extent,
): Moving {
  let end = fixed.end;
  const place = (elements: readonly number[]): { readonly at: readonly number[]; readonly bytes: number } => {
    const start = end;
    const places = elements.map((count) => {
      const here = end;
      end += align(4 * count);
      return here;
    });
    return { at: places, bytes: end - start };
  };
  const tables = place(plan.tables.map((t) => tableLength(t, tableRows)));
  const inputs = place(plan.inputs.map((t) => elementsAt(t.shape, at)));
  const outputs = place(plan.outputs.map((t) => elementsAt(t.shape, at)));
  const slots = place(variant.slots.map((size) => sizeOf(size, at)));
  return {
    tables: tables.at,
    inputs: inputs.at,
    outputs: outputs.at,
    slots: slots.at,
    end,
    bytes: { tables: tables.bytes, inputs: inputs.bytes, outputs: outputs.bytes, arena: slots.bytes },
  };
}

export function addressOf(ref: BufferRef, fixed: Fixed, moving: Moving): number {
  const list = {
    input: moving.inputs,
    output: moving.outputs,
    weight: fixed.weights,
    table: moving.tables,
    slot: moving.slots,
    state: fixed.states,
  }[ref.in];
  const address = list[ref.index];
  if (address === undefined) throw new Error(`heddle: internal: the plan has no ${ref.in} ${ref.index}`);
  return address;
}

/** 5905580032 → "5.50 GiB". */
export const inUnits = (bytes: number): string =>
  bytes >= 2 ** 30 ? `${(bytes / 2 ** 30).toFixed(2)} GiB` : `${(bytes / 2 ** 20).toFixed(1)} MiB`;
