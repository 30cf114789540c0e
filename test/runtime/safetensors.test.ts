import fc from "fast-check";
import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { memorySource, readHeader, readTensor, writeSafetensors } from "../../runtime/safetensors.ts";
import type { ByteSource, TensorToWrite } from "../../runtime/safetensors.ts";
import { goldenPath } from "../golden.ts";
import { file, small, smallFile } from "./safetensors-files.ts";

describe("reading and writing", () => {
  it("gives back what was written", async () => {
    const source = memorySource(smallFile);
    const { tensors, metadata, dataStart } = await readHeader(source);
    expect([...tensors.keys()].sort()).toEqual(["a", "b", "c", "d", "e"]);
    expect([...metadata]).toEqual([
      ["a key", 'with "quotes"'],
      ["format", "pt"],
    ]);
    expect(dataStart % 8).toBe(0);
    for (const { name, shape, dtype, data } of small) {
      const entry = tensors.get(name);
      if (entry === undefined) throw new Error(name);
      expect([entry.shape, entry.dtype]).toEqual([shape, dtype]);
      // bf16 has 8 significant bits: 1 + 2⁻⁸ is a tie and goes to even.
      const expected = name === "e" ? Float32Array.from([1, 1, -3]) : data;
      expect(await readTensor(source, entry)).toEqual(expected);
    }
  });

  it("writes the same bytes whatever the order", () => {
    expect(writeSafetensors([...small].reverse(), { "a key": 'with "quotes"', format: "pt" })).toEqual(
      smallFile,
    );
  });

  it("is the identity for any tensors and names", async () => {
    const tensor = fc.oneof(
      fc
        .float32Array({ maxLength: 20 })
        .map((data) => ({ dtype: "F32" as const, data, shape: [data.length] })),
      fc
        .int32Array({ maxLength: 20 })
        .map((data) => ({ dtype: "I64" as const, data, shape: [1, data.length] })),
      fc
        .int32Array({ maxLength: 20 })
        .map((data) => ({ dtype: "I32" as const, data, shape: [data.length, 1] })),
    );
    const name = fc.oneof(fc.string({ unit: "binary" }), fc.constantFrom("__proto__", "constructor", ""));
    await fc.assert(
      fc.asyncProperty(
        fc.uniqueArray(fc.tuple(name, tensor), { selector: ([n]) => n, maxLength: 6 }),
        async (list) => {
          const tensors = list.filter(([n]) => n !== "__metadata__").map(([n, t]) => ({ name: n, ...t }));
          const source = memorySource(writeSafetensors(tensors));
          const header = await readHeader(source);
          expect(header.tensors.size).toBe(tensors.length);
          for (const { name: n, data, shape } of tensors) {
            const entry = header.tensors.get(n);
            if (entry === undefined) throw new Error(`lost ${n}`);
            expect(entry.shape).toEqual(shape);
            expect(await readTensor(source, entry)).toEqual(data);
          }
        },
      ),
      { numRuns: 200 },
    );
  });

  it("reads a file of the reference implementation", async () => {
    const bytes = readFileSync(goldenPath("models/d1_decoder_xpos_subln.weights.safetensors"));
    const header = await readHeader(memorySource(bytes));
    expect(header.tensors.get("embed_tokens.weight")?.shape).toEqual([101, 64]);
  });

  it("refuses to write a repeated name, a reserved one, or a shape that does not fit", () => {
    const one = (name: string, shape: number[]): TensorToWrite => ({
      name,
      shape,
      dtype: "F32",
      data: new Float32Array(2),
    });
    expect(() => writeSafetensors([one("x", [2]), one("x", [2])])).toThrow("'x' is used twice");
    expect(() => writeSafetensors([one("__metadata__", [2])])).toThrow("reserved");
    expect(() => writeSafetensors([one("x", [3])])).toThrow("'x' [3] has 2 elements");
    expect(() => writeSafetensors([one("x", [-1, -2])])).toThrow("has 2 elements");
  });

  it("converts every type, and refuses what does not fit", async () => {
    const read = async (dtype: string, data: ArrayBufferLike, count: number) => {
      const bytes = new Uint8Array(data);
      const header = `{"x":{"dtype":"${dtype}","shape":[${count}],"data_offsets":[0,${bytes.length}]}}`;
      // An odd header length leaves the data unaligned.
      const source = memorySource(file(header.length % 2 === 0 ? `${header} ` : header, bytes));
      const entry = (await readHeader(source)).tensors.get("x");
      if (entry === undefined) throw new Error("no x");
      return readTensor(source, entry);
    };
    expect(await read("F64", new Float64Array([1.1, -Infinity]).buffer, 2)).toEqual(
      Float32Array.from([1.1, -Infinity]),
    );
    await expect(read("F64", new Float64Array([0, 1e39]).buffer, 2)).rejects.toThrow(
      "tensor 'x' holds 1e+39 at index 1, outside f32",
    );
    expect(await read("F16", new Uint16Array([0x3c00, 0xfbff, 1]).buffer, 3)).toEqual(
      Float32Array.from([1, -65504, 2 ** -24]),
    );
    expect(await read("BF16", new Uint16Array([0x3f80, 0xc040]).buffer, 2)).toEqual(
      Float32Array.from([1, -3]),
    );
    expect(await read("U8", new Uint8Array([0, 255]).buffer, 2)).toEqual(Int32Array.from([0, 255]));
    expect(await read("I8", new Int8Array([-128, 5]).buffer, 2)).toEqual(Int32Array.from([-128, 5]));
    expect(await read("BOOL", new Uint8Array([0, 1]).buffer, 2)).toEqual(Int32Array.from([0, 1]));
    expect(await read("I16", new Int16Array([-300]).buffer, 1)).toEqual(Int32Array.from([-300]));
    expect(await read("U16", new Uint16Array([65535]).buffer, 1)).toEqual(Int32Array.from([65535]));
    expect(await read("U32", new Uint32Array([2 ** 31 - 1]).buffer, 1)).toEqual(
      Int32Array.from([2 ** 31 - 1]),
    );
    await expect(read("U32", new Uint32Array([2 ** 31]).buffer, 1)).rejects.toThrow("outside i32");
    expect(await read("I64", new BigInt64Array([-5n]).buffer, 1)).toEqual(Int32Array.from([-5]));
    await expect(read("I64", new BigInt64Array([2n ** 31n]).buffer, 1)).rejects.toThrow("outside i32");
    await expect(read("U64", new BigUint64Array([2n ** 64n - 1n]).buffer, 1)).rejects.toThrow(
      "holds 18446744073709551615 at index 0, outside i32",
    );
    await expect(read("F8_E4M3", new Uint8Array(1).buffer, 1)).rejects.toThrow("which heddle does not read");
  });

  it("reads only the ranges it needs, big tensors in pieces", async () => {
    const count = 700_001;
    const bytes = writeSafetensors([
      { name: "big", dtype: "F32", shape: [count], data: Float32Array.from({ length: count }, (_x, i) => i) },
      {
        name: "half",
        dtype: "F16",
        shape: [count],
        data: Float32Array.from({ length: count }, (_x, i) => i % 99),
      },
    ]);
    const reads: (readonly [number, number])[] = [];
    const source: ByteSource = {
      size: bytes.length,
      read: (start, end) => {
        reads.push([start, end]);
        return Promise.resolve(bytes.slice(start, end));
      },
    };
    const { tensors, dataStart } = await readHeader(source);
    expect(Math.max(...reads.map(([, end]) => end))).toBe(dataStart);
    const half = tensors.get("half");
    if (half === undefined) throw new Error("no half");
    reads.length = 0;
    const values = await readTensor(source, half);
    expect(values[count - 1]).toBe((count - 1) % 99);
    expect(values.every((value, i) => value === i % 99)).toBe(true);
    expect(Math.min(...reads.map(([start]) => start))).toBe(half.start);
    expect(Math.max(...reads.map(([, end]) => end))).toBe(half.end);
    expect(Math.max(...reads.map(([start, end]) => end - start))).toBeLessThanOrEqual(1 << 20);
    expect(reads.reduce((sum, [start, end]) => sum + end - start, 0)).toBe(2 * count);
  });
});
