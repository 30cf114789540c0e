/** Writing safetensors files. */
import { widths } from "./elements.ts";
import { bf16Bits, f16Bits } from "./half.ts";
import { safetensorsError } from "./safetensors-error.ts";

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
    if (count !== data.length || !shape.every((dim) => Number.isSafeInteger(dim) && dim >= 0))
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
