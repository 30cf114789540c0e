/** One context of a device with what this runtime must know of it: live bytes, and whether it is lost. */
import { setImmediate as nextTurn } from "node:timers/promises";
import { deviceError } from "../device-error.ts";
import type { DeviceError } from "../device-error.ts";
import type { RoomFor } from "../room.ts";
import type { CudaContext, DeviceMemory, PinnedMemory } from "./context.ts";
import { isCudaError } from "./errors.ts";
import type { CudaError } from "./errors.ts";
import { endsContext, refused } from "./refused.ts";

export type Session = {
  readonly context: CudaContext;
  readonly isLost: () => boolean;
  /**
   * What `work` gives. CUDA's errors come out as DeviceErrors. One that ends the context ends the session: everything in it is given
   * back, and all who work with it are told DEVICE_LOST.
   */
  readonly attempt: <T>(work: () => T | Promise<T>) => Promise<T>;
  /** Memory on the device, counted until `free`. @throws DeviceError OUT_OF_MEMORY */
  readonly allocate: (what: Pick<RoomFor, "label" | "bytes" | "formula">) => Promise<DeviceMemory>;
  /** Memory of the host, likewise. */
  readonly allocatePinned: (bytes: number) => Promise<PinnedMemory>;
  readonly free: (memory: DeviceMemory | PinnedMemory) => void;
  /** Bytes that are alive. */
  readonly bytes: () => { readonly device: number; readonly pinned: number };
  /** Ends the context and all that was made in it. */
  readonly close: () => void;
  /** After `close` or a loss: waits until nothing is under way in the context and the driver has it back. */
  readonly ended: () => Promise<void>;
};

export function sessionOf(context: CudaContext): Session {
  const live = new Map<
    DeviceMemory | PinnedMemory,
    { readonly kind: "device" | "pinned"; readonly n: number }
  >();
  const sums = { device: 0, pinned: 0 };
  let lost: DeviceError | null = null;
  let underWay = 0;
  let waiting: (() => void)[] = [];

  const close = () => {
    context.dispose();
    live.clear();
    sums.device = sums.pinned = 0;
  };
  const lose = (error: CudaError): DeviceError => {
    close();
    return deviceError(
      "DEVICE_LOST",
      `the CUDA context on ${context.device.name} was lost (${error.message}); what ran in it has no result. The next call makes a ` +
        "new one; where that fails too, start a new process: another user of CUDA in this one may hold the lost context",
      error,
    );
  };
  const attempt: Session["attempt"] = async (work) => {
    underWay++;
    try {
      const result = await work();
      // Others may have lost it meanwhile, and with it the memory that the result was to lie in.
      if (lost !== null) throw lost;
      return result;
    } catch (error) {
      if (lost !== null) throw lost;
      if (!isCudaError(error)) throw error;
      if (!endsContext(error)) throw refused(error);
      lost = lose(error);
      throw lost;
    } finally {
      underWay--;
      if (underWay === 0) waiting.forEach((resolve) => resolve());
      if (underWay === 0) waiting = [];
    }
  };
  const keep = <T extends DeviceMemory | PinnedMemory>(memory: T, kind: "device" | "pinned"): T => {
    live.set(memory, { kind, n: memory.bytes });
    sums[kind] += memory.bytes;
    return memory;
  };
  const noRoom = (
    error: CudaError,
    { label, bytes, formula }: Pick<RoomFor, "label" | "bytes" | "formula">,
  ) => {
    const { free, total } = memoryOf(context);
    return deviceError(
      "OUT_OF_MEMORY",
      `${context.device.name} has no ${bytes} bytes for ${label} (${formula}); ${sums.device} bytes are in use here` +
        `${total === 0 ? "" : `, ${free} of its ${total} are free`}. Shorter sequences, smaller batches or 16-bit storage (dtype f16 ` +
        `or bf16) need less. CUDA says: ${error.message}`,
      error,
    );
  };
  return {
    context,
    isLost: () => lost !== null,
    attempt,
    allocate: (what) =>
      attempt(async () => {
        try {
          return keep(await context.allocate(Math.max(4, what.bytes)), "device");
        } catch (error) {
          if (isCudaError(error) && error.code === "CUDA_ERROR_OUT_OF_MEMORY") throw noRoom(error, what);
          throw error;
        }
      }),
    allocatePinned: (bytes) => attempt(async () => keep(await context.allocatePinned(bytes), "pinned")),
    free: (memory) => {
      const known = live.get(memory);
      if (known === undefined) return;
      live.delete(memory);
      sums[known.kind] -= known.n;
      memory.dispose();
    },
    bytes: () => ({ ...sums }),
    close,
    ended: async () => {
      while (underWay > 0) await new Promise<void>((resolve) => waiting.push(resolve));
      for (let i = 0; i < TURNS; i++) await nextTurn();
    },
  };
}

/** Pinned memory goes some turns after its ArrayBuffer was detached, and a context after all that lies in it. */
const TURNS = 4;

/** Zeros where the driver does not say. */
function memoryOf(context: CudaContext): { readonly free: number; readonly total: number } {
  try {
    return context.memory();
  } catch {
    return { free: 0, total: 0 };
  }
}
