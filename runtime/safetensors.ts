/**
 * The safetensors format: an 8-byte little-endian header length, a JSON header, then the bytes of all tensors without
 * holes. https://huggingface.co/docs/safetensors. Reads by ranges from any source, trusts nothing the file says: what
 * is allocated is bounded by the file's true size.
 */
import { converter, isDtype, isFloat, widths } from "./elements.ts";
import type { SafetensorsDtype } from "./elements.ts";
import { parseJson } from "./json.ts";
import type { Json } from "./json.ts";
import { safetensorsError } from "./safetensors-error.ts";
import type { SafetensorsCode } from "./safetensors-error.ts";

export type { SafetensorsDtype } from "./elements.ts";
export { safetensorsError } from "./safetensors-error.ts";
export type { SafetensorsCode, SafetensorsError } from "./safetensors-error.ts";
export { writeSafetensors } from "./safetensors-writer.ts";
export type { TensorToWrite } from "./safetensors-writer.ts";

/** Bytes by range: a file, a Blob, an HTTP resource, memory. */
export type ByteSource = {
  /** For messages. */
  readonly name?: string;
  readonly size: number;
  /** Bytes [start, end); fewer only where the source ends early. */
  readonly read: (start: number, end: number, options?: ReadOptions) => Promise<Uint8Array>;
  /** What a file is that is no safetensors file, by its first 8 bytes: for messages of sources that a user may have mistaken. */
  readonly foreign?: (prefix: Uint8Array) => string | undefined;
};
export type ReadOptions = {
  /** Bytes up to here will be asked for next, in order, so that a source far away may fetch them along. Default: `end`. */
  readonly until?: number | undefined;
  /** Ends the read, which rejects with the signal's reason. */
  readonly signal?: AbortSignal | undefined;
  /** Memory of the caller, at least `end - start` bytes, that the bytes may be put into. What is returned may be a part of it. */
  readonly into?: Uint8Array | undefined;
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

/** The format's own limit; a header of a million tensors is about 100 MB. */
const headerLimit = 100_000_000;

/** What a header is likely to fit into: the first read asks for so much at once. */
const headerGuess = 1 << 16;
/** As many as PyTorch and NumPy have. */
const mostDimensions = 64;

/** Reads exactly [start, end), or says that the source ends early. */
async function readRange(
  source: ByteSource,
  start: number,
  end: number,
  options: ReadOptions,
): Promise<Uint8Array> {
  options.signal?.throwIfAborted();
  const bytes = await source.read(start, end, options);
  if (bytes.length !== end - start)
    throw safetensorsError(
      source,
      "truncated",
      `reading bytes ${start} to ${end} gave ${bytes.length} bytes, not ${end - start}`,
    );
  return bytes;
}

/** Reads and checks the header; on return every entry lies in the file and its size matches its shape. */
export async function readHeader(
  source: ByteSource,
  { signal }: Pick<ReadOptions, "signal"> = {},
): Promise<SafetensorsHeader> {
  const fail = (code: SafetensorsCode, problem: string) => safetensorsError(source, code, problem);
  if (source.size < 8)
    throw fail(
      "truncated",
      `is not a safetensors file: ${source.size} bytes, fewer than the 8 of a header length`,
    );
  const prefix = await readRange(source, 0, 8, { signal, until: Math.min(source.size, headerGuess) });
  const other = source.foreign?.(prefix);
  const claimed = new DataView(prefix.buffer, prefix.byteOffset, 8).getBigUint64(0, true);
  if (claimed > BigInt(source.size - 8))
    throw fail(
      other === undefined ? "header-size" : "format",
      other ??
        `claims a header of ${claimed} bytes, but only ${source.size - 8} follow; truncated, or not a safetensors file`,
    );
  if (claimed > BigInt(headerLimit) || claimed < 2n)
    throw fail("header-size", `claims a header of ${claimed} bytes; it must have 2 to ${headerLimit}`);
  const dataStart = 8 + Number(claimed);
  const [first] = await readRange(source, 8, 9, { signal });
  if (first !== 0x7b)
    throw other === undefined
      ? fail("header-json", "is not a safetensors file: its header does not start with '{'")
      : fail("format", other);

  const bytes = await readRange(source, 8, dataStart, { signal });
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
  if (shape.length > mostDimensions)
    throw fail("shape", `has ${shape.length} dimensions; at most ${mostDimensions} are read`);
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
export const chunkBytes = 1 << 20;

/**
 * The elements of one tensor, reading its range only. Float types give f32 (F64 is rounded), integer and boolean types
 * i32; a value that does not fit is an error, not a wrap or an infinity.
 */
export async function readTensor(
  source: ByteSource,
  entry: TensorEntry,
  options: ReadOptions = {},
): Promise<Float32Array | Int32Array> {
  const count = (entry.end - entry.start) / widths[entry.dtype];
  const result = isFloat(entry.dtype) ? new Float32Array(count) : new Int32Array(count);
  await readInto(source, entry, result, options);
  return result;
}

/** Like `readTensor`, into the first elements of `to`. `into` has `chunkBytes`, if it is given. `seen` is shown every piece of the tensor's own bytes, in order. */
export async function readInto(
  source: ByteSource,
  entry: TensorEntry,
  to: Float32Array | Int32Array,
  { signal, until = entry.end, into }: ReadOptions = {},
  seen?: (bytes: Uint8Array) => void,
): Promise<void> {
  const { dtype, start, end } = entry;
  const convert = converter(dtype);
  if (convert === undefined)
    throw safetensorsError(source, "dtype", `tensor '${entry.name}' is ${dtype}, which heddle does not read`);
  for (let from = start; from < end; from += chunkBytes) {
    const bytes = await readRange(source, from, Math.min(from + chunkBytes, end), { signal, until, into });
    const misfit = convert(bytes, to, (from - start) / widths[dtype]);
    if (misfit !== undefined)
      throw safetensorsError(
        source,
        "range",
        `tensor '${entry.name}' holds ${misfit.value} at index ${misfit.index}, outside ${isFloat(dtype) ? "f32" : "i32"}`,
      );
    seen?.(bytes);
  }
}
