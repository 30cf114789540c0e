/**
 * The safetensors format: an 8-byte little-endian header length, a JSON header, then the bytes of all tensors without
 * holes. https://huggingface.co/docs/safetensors. Reads by ranges from any source, trusts nothing the file says: what
 * is allocated is bounded by the file's true size.
 */
import { converter, isDtype, isFloat, widths } from "./elements.ts";
import type { SafetensorsDtype } from "./elements.ts";
import { bf16Bits, f16Bits } from "./half.ts";
import { parseJson } from "./json.ts";
import type { Json } from "./json.ts";

export type { SafetensorsDtype } from "./elements.ts";

/** Bytes by range: a file, a Blob, an HTTP resource, memory. `read` gives bytes [start, end). */
export type ByteSource = {
  /** For messages. */
  readonly name?: string;
  readonly size: number;
  readonly read: (start: number, end: number) => Promise<Uint8Array>;
};

export const memorySource = (bytes: Uint8Array, name?: string): ByteSource => ({
  ...(name === undefined ? {} : { name }),
  size: bytes.length,
  read: (start, end) => Promise.resolve(bytes.subarray(start, end)),
});

export type TensorEntry = {
  readonly name: string;
  readonly dtype: SafetensorsDtype;
  readonly shape: readonly number[];
  /** Byte range in the file. */
  readonly start: number;
  readonly end: number;
};

export type SafetensorsHeader = {
  readonly tensors: ReadonlyMap<string, TensorEntry>;
  readonly metadata: ReadonlyMap<string, string>;
  /** Offset in the file at which tensor bytes begin. */
  readonly dataStart: number;
};

export type SafetensorsCode =
  | "truncated"
  | "header-size"
  | "header-json"
  | "header-entry"
  | "dtype"
  | "shape"
  | "offsets"
  | "range"
  | "argument";
/** name "SafetensorsError"; the message names the file and the tensor. */
export type SafetensorsError = Error & { readonly code: SafetensorsCode };

export function safetensorsError(
  where: { readonly name?: string },
  code: SafetensorsCode,
  problem: string,
): SafetensorsError {
  const error = new Error(`${where.name ?? "safetensors"}: ${problem}`);
  return Object.assign(error, { name: "SafetensorsError", code });
}

/** The format's own limit; a header of a million tensors is about 100 MB. */
const headerLimit = 100_000_000;

/** Reads exactly [start, end), or says that the source ends early. */
async function readRange(source: ByteSource, start: number, end: number): Promise<Uint8Array> {
  const bytes = await source.read(start, end);
  if (bytes.length !== end - start)
    throw safetensorsError(
      source,
      "truncated",
      `reading bytes ${start} to ${end} gave ${bytes.length} bytes, not ${end - start}`,
    );
  return bytes;
}

/** Reads and checks the header; on return every entry lies in the file and its size matches its shape. */
export async function readHeader(source: ByteSource): Promise<SafetensorsHeader> {
  const fail = (code: SafetensorsCode, problem: string) => safetensorsError(source, code, problem);
  if (source.size < 8)
    throw fail(
      "truncated",
      `is not a safetensors file: ${source.size} bytes, fewer than the 8 of a header length`,
    );
  const prefix = await readRange(source, 0, 8);
  const claimed = new DataView(prefix.buffer, prefix.byteOffset, 8).getBigUint64(0, true);
  if (claimed > BigInt(source.size - 8))
    throw fail(
      "header-size",
      `claims a header of ${claimed} bytes, but only ${source.size - 8} follow; truncated, or not a safetensors file`,
    );
  if (claimed > BigInt(headerLimit) || claimed < 2n)
    throw fail("header-size", `claims a header of ${claimed} bytes; it must have 2 to ${headerLimit}`);
  const dataStart = 8 + Number(claimed);
  const [first] = await readRange(source, 8, 9);
  if (first !== 0x7b)
    throw fail("header-json", "is not a safetensors file: its header does not start with '{'");

  const bytes = await readRange(source, 8, dataStart);
  const json = parseHeader(source, bytes);
  const metadata = new Map<string, string>();
  const tensors: TensorEntry[] = [];
  for (const [name, value] of json)
    if (name === "__metadata__") readMetadata(source, value, metadata);
    else tensors.push(readEntry(source, name, value, dataStart));

  // Without holes: sorted by start, each begins where the last one ended, and the last ends with the file.
  tensors.sort((a, b) => a.start - b.start || a.end - b.end);
  let at = dataStart;
  for (const { name, start, end } of tensors) {
    if (start !== at)
      throw fail(
        "offsets",
        `tensor '${name}' begins at data byte ${start - dataStart}, ${
          start < at ? "inside another tensor, which ends" : "leaving a hole after the one that ends"
        } at ${at - dataStart}`,
      );
    at = end;
  }
  if (at !== source.size)
    throw fail(
      "offsets",
      `has ${source.size - dataStart} bytes of data, but its tensors cover ${at - dataStart}`,
    );
  return { tensors: new Map(tensors.map((entry) => [entry.name, entry])), metadata, dataStart };
}

function parseHeader(source: ByteSource, bytes: Uint8Array): ReadonlyMap<string, Json> {
  let text: string;
  try {
    // A copy, because browsers decode no shared memory.
    text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes.slice());
  } catch {
    throw safetensorsError(source, "header-json", "has a header that is not UTF-8");
  }
  const parsed = parseJson(text);
  if ("problem" in parsed)
    throw safetensorsError(
      source,
      "header-json",
      `has a malformed header: ${parsed.problem} at character ${parsed.at}`,
    );
  if (!(parsed.value instanceof Map))
    throw safetensorsError(source, "header-json", "has a header that is not an object");
  return parsed.value;
}

function readMetadata(source: ByteSource, value: Json, into: Map<string, string>): void {
  if (!(value instanceof Map))
    throw safetensorsError(source, "header-entry", "has a '__metadata__' that is not an object of strings");
  for (const [key, text] of value) {
    if (typeof text !== "string")
      throw safetensorsError(source, "header-entry", `has metadata '${key}' that is not a string`);
    into.set(key, text);
  }
}

const isCount = (value: Json | undefined): value is number =>
  Number.isSafeInteger(value) && Number(value) >= 0;

function readEntry(source: ByteSource, name: string, value: Json, dataStart: number): TensorEntry {
  const fail = (code: SafetensorsCode, problem: string) =>
    safetensorsError(source, code, `tensor '${name}' ${problem}`);
  if (!(value instanceof Map)) throw fail("header-entry", "is not described by an object");
  const other = [...value.keys()].find((key) => !["dtype", "shape", "data_offsets"].includes(key));
  if (other !== undefined) throw fail("header-entry", `has an unknown field '${other}'`);

  const dtype = value.get("dtype");
  if (typeof dtype !== "string" || !isDtype(dtype))
    throw fail("dtype", `has the unknown dtype ${shown(dtype)}; known are ${Object.keys(widths).join(", ")}`);
  const shape = value.get("shape");
  if (!Array.isArray(shape) || !shape.every(isCount))
    throw fail("shape", `has the shape ${shown(shape)}; expected a list of non-negative integers`);
  const offsets = value.get("data_offsets");
  const [from, to] = Array.isArray(offsets) ? offsets : [];
  if (!Array.isArray(offsets) || offsets.length !== 2 || !isCount(from) || !isCount(to) || from > to)
    throw fail("offsets", `has the data offsets ${shown(offsets)}; expected [begin, end]`);
  const available = source.size - dataStart;
  if (to > available)
    throw fail("offsets", `ends at data byte ${to}, but the file has only ${available}; truncated?`);

  const needed = shape.reduce((size, dim) => size * BigInt(dim), BigInt(widths[dtype]));
  if (needed !== BigInt(to - from))
    throw fail("shape", `has ${to - from} bytes, but ${dtype} [${shape.join(", ")}] needs ${needed}`);
  return { name, dtype, shape, start: dataStart + from, end: dataStart + to };
}

/** A value of the header as a short text for a message. */
function shown(value: Json | undefined): string {
  if (value === undefined) return "missing";
  const text = value instanceof Map ? "{…}" : (JSON.stringify(value) ?? "missing");
  return text.length > 60 ? `${text.slice(0, 57)}…` : text;
}

/** Bytes converted at a time: peak memory is the result plus this. */
const chunkBytes = 1 << 20;

/**
 * The elements of one tensor, reading its range only. Float types give f32 (F64 is rounded), integer and boolean types
 * i32; a value that does not fit is an error, not a wrap or an infinity.
 */
export async function readTensor(source: ByteSource, entry: TensorEntry): Promise<Float32Array | Int32Array> {
  const { dtype, start, end } = entry;
  const width = widths[dtype];
  const count = (end - start) / width;
  const convert = converter(dtype);
  if (convert === undefined)
    throw safetensorsError(source, "dtype", `tensor '${entry.name}' is ${dtype}, which heddle does not read`);
  const result = isFloat(dtype) ? new Float32Array(count) : new Int32Array(count);
  for (let from = start; from < end; from += chunkBytes) {
    const bytes = await readRange(source, from, Math.min(from + chunkBytes, end));
    const at = (from - start) / width;
    const misfit = convert(bytes, result, at);
    if (misfit !== undefined)
      throw safetensorsError(
        source,
        "range",
        `tensor '${entry.name}' holds ${misfit.value} at index ${misfit.index}, outside ${isFloat(dtype) ? "f32" : "i32"}`,
      );
  }
  return result;
}

export type TensorToWrite = {
  readonly name: string;
  readonly shape: readonly number[];
} & (
  | { readonly dtype: "F32" | "F16" | "BF16"; readonly data: Float32Array }
  | { readonly dtype: "I32" | "I64"; readonly data: Int32Array }
);

/**
 * A safetensors file. The same tensors give the same bytes in any order: sorted by descending element width, then name,
 * and the header padded so that data starts aligned to 8. Throws on a repeated name or a shape that does not fit.
 */
export function writeSafetensors(
  tensors: readonly TensorToWrite[],
  metadata: Readonly<Record<string, string>> = {},
): Uint8Array {
  const byName = (a: string, b: string) => (a < b ? -1 : a > b ? 1 : 0);
  const sorted = [...tensors].sort((a, b) => widths[b.dtype] - widths[a.dtype] || byName(a.name, b.name));
  const names = new Set<string>();
  let at = 0;
  const entries = sorted.map(({ name, dtype, shape, data }) => {
    const count = shape.reduce((product, dim) => product * dim, 1);
    if (count !== data.length || !shape.every(isCount))
      throw safetensorsError(
        {},
        "argument",
        `tensor '${name}' [${shape.join(", ")}] has ${data.length} elements`,
      );
    if (names.has(name) || name === "__metadata__")
      throw safetensorsError({}, "argument", `the tensor name '${name}' is used twice or reserved`);
    names.add(name);
    const begin = at;
    at += count * widths[dtype];
    const description = JSON.stringify({ dtype, shape, data_offsets: [begin, at] });
    return { begin, dtype, data, text: `${JSON.stringify(name)}:${description}` };
  });
  const keys = Object.keys(metadata).sort(byName);
  const pairs = keys.map((key) => `${JSON.stringify(key)}:${JSON.stringify(metadata[key])}`);
  const meta = keys.length === 0 ? [] : [`"__metadata__":{${pairs.join(",")}}`];
  const header = new TextEncoder().encode(`{${[...meta, ...entries.map(({ text }) => text)].join(",")}}`);
  const dataStart = 8 + Math.ceil(header.length / 8) * 8;

  const file = new Uint8Array(dataStart + at);
  const view = new DataView(file.buffer);
  view.setBigUint64(0, BigInt(dataStart - 8), true);
  file.set(header, 8);
  file.fill(0x20, 8 + header.length, dataStart);
  for (const { begin, dtype, data } of entries)
    data.forEach((value, i) => {
      const offset = dataStart + begin + i * widths[dtype];
      if (dtype === "F32") view.setFloat32(offset, value, true);
      else if (dtype === "I32") view.setInt32(offset, value, true);
      else if (dtype === "I64") view.setBigInt64(offset, BigInt(value), true);
      else view.setUint16(offset, dtype === "F16" ? f16Bits(value) : bf16Bits(value), true);
    });
  return file;
}
