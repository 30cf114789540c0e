/** The numbers that a program's kernels look up: one uniform buffer for all of them, bound as group 1. */
import type { Shader, ShaderTable } from "../plan.ts";
import { USAGE } from "./session.ts";
import type { Session } from "./session.ts";

/** Tables one after another, each filled up to whole vectors, as `struct Tables` has them. */
function packed(tables: readonly ShaderTable[]): Uint8Array<ArrayBuffer> {
  const lengths = tables.map((t) => Math.ceil(t.values.length / 4) * 4);
  const words = new Int32Array(lengths.reduce((sum, n) => sum + n, 0));
  const floats = new Float32Array(words.buffer);
  let at = 0;
  tables.forEach(({ type, values }, i) => {
    (type === "i32" ? words : floats).set(values, at);
    at += lengths[i] ?? 0;
  });
  return new Uint8Array(words.buffer);
}

export const tableBytes = ({ tables = [] }: Shader): number =>
  tables.reduce((sum, t) => sum + 16 * Math.ceil(t.values.length / 4), 0);

export type BoundTables = {
  readonly bytes: number;
  /** What a kernel's group 1 is bound to; undefined where it has no tables. */
  readonly of: (kernel: number) => GPUBufferBinding | undefined;
  readonly free: () => void;
};

/** @throws DeviceError OUT_OF_MEMORY */
export async function uploadTables(session: Session, shaders: readonly Shader[]): Promise<BoundTables> {
  const align = session.device.limits.minUniformBufferOffsetAlignment;
  let bytes = 0;
  const places = shaders.map((shader) => {
    const [offset, size] = [bytes, tableBytes(shader)];
    bytes += Math.ceil(size / align) * align;
    return { offset, size };
  });
  if (bytes === 0) return { bytes, of: () => undefined, free: () => undefined };
  const usage = USAGE.uniform | USAGE.copyDst;
  const buffer = await session.buffer({ label: "tables of the kernels", bytes }, usage);
  shaders.forEach(({ tables }, k) => {
    if (tables !== undefined)
      session.device.queue.writeBuffer(buffer, places[k]?.offset ?? 0, packed(tables));
  });
  return {
    bytes,
    of: (kernel) => {
      const place = places[kernel];
      return place === undefined || place.size === 0 ? undefined : { buffer, ...place };
    },
    free: () => session.free(buffer),
  };
}
