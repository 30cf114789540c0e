/** Where the tables of several kernels come to lie in their one uniform buffer. */
import { expect, it } from "vitest";
import type { Shader, ShaderTable } from "../../runtime/plan.ts";
import type { Session } from "../../runtime/webgpu/session.ts";
import { uploadTables } from "../../runtime/webgpu/shader-tables.ts";

const shader = (...tables: readonly ShaderTable[]): Shader => ({
  buffers: [],
  code: "",
  ...(tables.length === 0 ? {} : { tables }),
});

/** A session that keeps what is written to its only buffer. */
function recorded() {
  const written = new Uint8Array(4096);
  const freed: unknown[] = [];
  const session = {
    device: {
      limits: { minUniformBufferOffsetAlignment: 256 },
      queue: {
        writeBuffer: (_buffer: unknown, offset: number, bytes: Uint8Array) => written.set(bytes, offset),
      },
    },
    buffer: () => Promise.resolve("the buffer"),
    free: (buffer: unknown) => freed.push(buffer),
  } as unknown as Session;
  return { session, written, freed };
}

it("each kernel is bound to its own, each table filled up to whole vectors", async () => {
  const { session, written, freed } = recorded();
  const offsets = { name: "offsets", type: "i32", values: [1, 2, 3, 4, 5] } as const;
  const scales = { name: "scales", type: "f32", values: [0.5, -2] } as const;
  const bound = await uploadTables(session, [shader(offsets, scales), shader(), shader(scales)]);
  expect(bound.of(0)).toEqual({ buffer: "the buffer", offset: 0, size: 48 });
  expect(bound.of(1)).toBeUndefined();
  expect(bound.of(2)).toEqual({ buffer: "the buffer", offset: 256, size: 16 });
  expect(bound.bytes).toBe(512);
  const words = new DataView(written.buffer);
  expect([0, 4, 8, 12, 16, 20].map((at) => words.getInt32(at, true))).toEqual([1, 2, 3, 4, 5, 0]);
  expect([32, 36, 256, 260].map((at) => words.getFloat32(at, true))).toEqual([0.5, -2, 0.5, -2]);
  bound.free();
  expect(freed).toEqual(["the buffer"]);
});

it("no kernel with tables, no buffer", async () => {
  const { session, freed } = recorded();
  const bound = await uploadTables(session, [shader(), shader()]);
  expect([bound.bytes, bound.of(0)]).toEqual([0, undefined]);
  bound.free();
  expect(freed).toEqual([]);
});
