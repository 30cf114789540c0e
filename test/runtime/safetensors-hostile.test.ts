import fc from "fast-check";
import { afterEach, describe, expect, it, vi } from "vitest";
import { memorySource, readHeader, readTensor } from "../../runtime/safetensors.ts";
import type { ByteSource, SafetensorsError } from "../../runtime/safetensors.ts";
import { watchAllocations } from "./allocations.ts";
import { file, smallFile } from "./safetensors-files.ts";

/** Reads everything; resolves to undefined, or to the error. */
async function problem(source: ByteSource): Promise<SafetensorsError | undefined> {
  try {
    const header = await readHeader(source);
    for (const entry of header.tensors.values()) await readTensor(source, entry);
    return undefined;
  } catch (error) {
    return error as SafetensorsError;
  }
}

const given = (bytes: Uint8Array) => problem(memorySource(bytes, "w.safetensors"));

afterEach(() => vi.unstubAllGlobals());

const entry = (fields: string) => `{"x":{${fields}}}`;
const f32 = (shape: string, offsets: string) =>
  entry(`"dtype":"F32","shape":${shape},"data_offsets":${offsets}`);

describe("bad files", () => {
  const bad: readonly (readonly [string, Uint8Array, string, string])[] = [
    ["empty", new Uint8Array(0), "truncated", "0 bytes, fewer than the 8"],
    [
      "header beyond the file",
      file("{}", 0, 2n ** 60n),
      "header-size",
      "claims a header of 1152921504606846976 bytes",
    ],
    ["header of 2^64−1", file("{}", 0, 2n ** 64n - 1n), "header-size", "claims a header"],
    ["header one byte too long", file("{}", 0, 3n), "header-size", "only 2 follow"],
    ["no header", file("", 4), "header-size", "must have 2 to"],
    ["not JSON", file("PK\u0003\u0004abcd"), "header-json", "does not start with '{'"],
    ["cut JSON", file('{"x":{"dtype":"F32"'), "header-json", "found the end at character 19"],
    ["text after the object", file("{} {}"), "header-json", 'expected the end, found "{" at character 3'],
    ["trailing comma", file('{"x":{},}'), "header-json", "expected a string"],
    ["raw newline in a name", file('{"a\nb":{}}'), "header-json", "control character"],
    ["deep nesting", file(`{"x":${"[".repeat(5000)}`), "header-json", "levels of nesting"],
    ["a name twice", file('{"x":1,"x":2}'), "header-json", `the key "x" stands twice at character 7`],
    ["a field twice", file(entry('"dtype":"F32","dtype":"F16"')), "header-json", "stands twice"],
    ["tensor not an object", file('{"x":[1,2]}'), "header-entry", "'x' is not described by an object"],
    ["unknown field", file(entry('"dtype":"F32","stride":1')), "header-entry", "unknown field 'stride'"],
    ["metadata not strings", file('{"__metadata__":{"a":1}}'), "header-entry", "metadata 'a'"],
    ["metadata not an object", file('{"__metadata__":"a"}'), "header-entry", "'__metadata__'"],
    ["no dtype", file(entry('"shape":[1],"data_offsets":[0,4]'), 4), "dtype", "unknown dtype missing"],
    ["unknown dtype", file(entry('"dtype":"Q4","shape":[1],"data_offsets":[0,4]'), 4), "dtype", '"Q4"'],
    [
      "dtype of Object",
      file(entry('"dtype":"toString","shape":[],"data_offsets":[0,4]'), 4),
      "dtype",
      "toString",
    ],
    ["negative dimension", file(f32("[-1]", "[0,4]"), 4), "shape", "[-1]"],
    ["fractional dimension", file(f32("[0.5,2]", "[0,4]"), 4), "shape", "[0.5,2]"],
    ["dimension beyond 2^53", file(f32("[9007199254740993]", "[0,4]"), 4), "shape", "9007199254740992"],
    ["shape of text", file(f32('"1"', "[0,4]"), 4), "shape", '"1"'],
    ["shape of 2^60", file(f32("[1073741824,1073741824]", "[0,4]"), 4), "shape", "needs 4611686018427387904"],
    [
      "product wrapping to 4 bytes",
      file(f32("[4294967296,4294967296,1]", "[0,0]")),
      "shape",
      "needs 73786976294838206464",
    ],
    ["offsets reversed", file(f32("[1]", "[4,0]"), 4), "offsets", "[4,0]"],
    ["offsets of one", file(f32("[1]", "[4]"), 4), "offsets", "expected [begin, end]"],
    ["offsets of three", file(f32("[1]", "[0,4,8]"), 8), "offsets", "expected [begin, end]"],
    ["negative offset", file(f32("[1]", "[-4,0]"), 4), "offsets", "[-4,0]"],
    ["offsets of 2^60", file(f32("[268435456,1073741824]", "[0,1152921504606846976]"), 4), "offsets", ""],
    [
      "1 GiB honest to itself",
      file(f32("[268435456]", "[0,1073741824]"), 4),
      "offsets",
      "only 4; truncated?",
    ],
    ["wrong size", file(f32("[2]", "[0,4]"), 4), "shape", "has 4 bytes, but F32 [2] needs 8"],
    ["hole at the start", file(f32("[1]", "[4,8]"), 8), "offsets", "leaving a hole"],
    [
      "bytes after the last",
      file(f32("[1]", "[0,4]"), 8),
      "offsets",
      "8 bytes of data, but its tensors cover 4",
    ],
    [
      "overlap",
      file(
        '{"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"y":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}',
        12,
      ),
      "offsets",
      "'y' begins at data byte 4, inside another tensor",
    ],
    [
      "the same bytes twice",
      file(
        '{"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"y":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}',
        4,
      ),
      "offsets",
      "inside another tensor",
    ],
    ["not UTF-8", file("{}").map((byte, i) => (i === 9 ? 0xff : byte)), "header-json", "not UTF-8"],
  ];

  it.each(bad)("%s", async (_title, bytes, code, text) => {
    const source = memorySource(bytes, "w.safetensors");
    const seen = watchAllocations();
    const error = await problem(source);
    vi.unstubAllGlobals();
    expect(error?.name).toBe("SafetensorsError");
    expect(error?.code).toBe(code);
    expect(error?.message.startsWith("w.safetensors: ")).toBe(true);
    expect(error?.message).toContain(text);
    expect(error?.message.length).toBeLessThan(400);
    expect(seen.largest).toBeLessThan(1 << 20);
  });

  it("accepts an empty file of tensors, a scalar and trailing spaces", async () => {
    expect(await given(file("{}"))).toBeUndefined();
    expect(await given(file(`${f32("[]", "[0,4]")}   `, 4))).toBeUndefined();
    expect(await given(file(f32("[0,9007199254740991]", "[0,0]")))).toBeUndefined();
  });

  it("truncated at every byte", async () => {
    for (let length = 0; length < smallFile.length; length++) {
      const error = await given(smallFile.slice(0, length));
      if (error?.name !== "SafetensorsError") expect([length, error]).toEqual([length, "SafetensorsError"]);
    }
    expect(await given(smallFile)).toBeUndefined();
  });

  it("every bit of the header flipped: an error of its kind, or a file that still holds together", async () => {
    const headerEnd = (await readHeader(memorySource(smallFile))).dataStart;
    const seen = watchAllocations();
    let refused = 0;
    for (let bit = 0; bit < headerEnd * 8; bit++) {
      const bytes = smallFile.slice();
      bytes[bit >> 3] = (bytes[bit >> 3] ?? 0) ^ (1 << (bit & 7));
      const error = await given(bytes);
      if (error === undefined) continue;
      refused++;
      if (error.name !== "SafetensorsError") expect([bit, error.stack]).toEqual([bit, "SafetensorsError"]);
    }
    vi.unstubAllGlobals();
    expect(refused).toBeGreaterThan(headerEnd * 4);
    expect(seen.largest).toBeLessThan(1 << 20);
  });

  it("random bytes and random headers never give another error", async () => {
    const seen = watchAllocations();
    await fc.assert(
      fc.asyncProperty(
        fc.oneof(
          fc.uint8Array({ maxLength: 200 }),
          fc.json({ depthSize: "small" }).map((json) => file(`{"x":${json}}`, 16)),
          fc
            .record({
              dtype: fc.constantFrom("F32", "I64", "BOOL", "F8_E4M3", 3, null),
              shape: fc.array(fc.oneof(fc.nat(4), fc.maxSafeInteger())),
              data_offsets: fc.array(fc.oneof(fc.nat(20), fc.maxSafeInteger()), {
                minLength: 2,
                maxLength: 2,
              }),
            })
            .map((fields) => file(JSON.stringify({ x: fields }), 16)),
        ),
        async (bytes) => {
          const error = await given(bytes);
          expect([undefined, "SafetensorsError"]).toContain(error?.name);
        },
      ),
      { numRuns: 1000 },
    );
    vi.unstubAllGlobals();
    expect(seen.largest).toBeLessThan(1 << 20);
  });

  it("a source that gives fewer bytes than it promised", async () => {
    const short: ByteSource = {
      size: smallFile.length,
      read: (start, end) => Promise.resolve(smallFile.slice(start, Math.min(end, smallFile.length - 4))),
    };
    const error = await problem(short);
    expect(error?.code).toBe("truncated");
  });
});
