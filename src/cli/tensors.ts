/** Tensors of a safetensors file by name, with the shapes a command needs. */
import { inputError } from "../../runtime/input-error.ts";
import { fileSource } from "../../runtime/node.ts";
import { readHeader, readTensor } from "../../runtime/safetensors.ts";
import type { SafetensorsDtype, TensorEntry } from "../../runtime/safetensors.ts";
import { nearest } from "../diagnostic.ts";

export type TensorFile = {
  readonly path: string;
  readonly has: (name: string) => TensorEntry | undefined;
  readonly entry: (name: string, dtypes: readonly SafetensorsDtype[]) => TensorEntry;
  readonly read: (entry: TensorEntry) => Promise<Float32Array | Int32Array>;
};

/** Opens a file for the time of `work`. Tensors that nothing asks for are left alone. */
export async function withTensors<T>(path: string, work: (file: TensorFile) => Promise<T>): Promise<T> {
  const source = await fileSource(path);
  try {
    const { tensors } = await readHeader(source);
    return await work({
      path,
      has: (name) => tensors.get(name),
      entry: (name, dtypes) => {
        const found = tensors.get(name);
        if (found === undefined) {
          const meant = nearest(name, tensors.keys());
          const hint = meant === null ? "" : ` Did you mean '${meant}'?`;
          const there = [...tensors.keys()].map((n) => `'${n}'`).join(", ");
          throw inputError(
            `${path} has no tensor '${name}'; it has ${there === "" ? "none" : there}.${hint}`,
          );
        }
        if (!dtypes.includes(found.dtype))
          throw inputError(`'${name}' of ${path} is ${found.dtype}; it must be ${listed(dtypes)}`);
        return found;
      },
      read: (entry) => readTensor(source, entry),
    });
  } finally {
    await source.close();
  }
}

export const floats: readonly SafetensorsDtype[] = ["F32", "F16", "BF16"];
export const integers: readonly SafetensorsDtype[] = ["I64", "I32", "U32", "I16", "U16", "I8", "U8", "U64"];

/** `[batch, N, 8, 32]`: a number where the size is given, a name where any positive one will do. */
export type Wanted = readonly (number | string)[];

/** Sizes of the named axes. Throws an InputError where the shape is another, or where one name gets two sizes. */
export function axes(
  entry: TensorEntry,
  file: string,
  wanted: Wanted,
  known: Readonly<Record<string, number>> = {},
): Readonly<Record<string, number>> {
  const sizes: Record<string, number> = { ...known };
  const fits =
    entry.shape.length === wanted.length &&
    wanted.every((want, i) => {
      const size = entry.shape[i] ?? 0;
      if (typeof want === "number") return size === want;
      return (sizes[want] ??= size) === size && size > 0;
    });
  if (fits) return sizes;
  const expected = wanted.map((w) =>
    typeof w === "string" && known[w] !== undefined ? `${w} = ${known[w]}` : w,
  );
  throw inputError(
    `'${entry.name}' of ${file} has the shape [${entry.shape.join(", ")}]; it must be [${expected.join(", ")}]`,
  );
}

const listed = (words: readonly string[]): string =>
  words.length < 2 ? words.join("") : `${words.slice(0, -1).join(", ")} or ${words.at(-1)}`;
