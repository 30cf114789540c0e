/** What a model is run on, from a file of tensors or the bytes of a text. */
import type { ForwardInputs } from "../../runtime/forward.ts";
import { inputError } from "../../runtime/input-error.ts";
import type { SafetensorsDtype } from "../../runtime/safetensors.ts";
import type { ModelSpec } from "../spec.ts";
import { readBytes } from "./read-file.ts";
import { axes, floats, integers, withTensors } from "./tensors.ts";
import type { TensorFile } from "./tensors.ts";

export type InputFiles = { readonly inputs?: string; readonly text?: string };

/** One of the two must be given. @throws InputError where the file does not fit the model. */
export async function readInputs(spec: ModelSpec, { inputs, text }: InputFiles): Promise<ForwardInputs> {
  if (text !== undefined) {
    if (spec.input !== "tokens" || spec.vocab !== 256)
      throw inputError(
        `--text reads bytes, for a vocabulary of 256; model '${spec.name}' takes ${spec.input === "tokens" ? `a vocabulary of ${spec.vocab}` : "features"}`,
      );
    const bytes = await readBytes(text);
    if (bytes.length === 0) throw inputError(`'${text}' is empty`);
    return { input: Int32Array.from(bytes), length: bytes.length, batch: 1 };
  }
  const path = inputs ?? "";
  return withTensors(path, async (file) => {
    const tokens = spec.input === "tokens";
    const entry = file.entry(spec.input, tokens ? integers : floats);
    const width = spec.patchEmbed ?? spec.dim;
    const shape = tokens ? ["batch", "N"] : ["batch", "N", width];
    const { batch = 0, N = 0 } = axes(entry, path, shape);
    // torchscale's name for it is accepted too.
    const mask = ["padding_mask", "encoder_padding_mask"].find((name) => file.has(name) !== undefined);
    const paddingMask =
      mask === undefined
        ? undefined
        : await tensorOf(file, mask, [...integers, ...floats, "BOOL"], ["batch", "N"], { batch, N });
    const coords =
      spec.grid === null
        ? undefined
        : await tensorOf(file, "coords", [...floats, ...integers, "F64"], ["batch", "N", 2], { batch, N });
    return { input: await file.read(entry), batch, length: N, paddingMask, coords };
  });
}

async function tensorOf(
  file: TensorFile,
  name: string,
  dtypes: readonly SafetensorsDtype[],
  shape: readonly (string | number)[],
  known: Readonly<Record<string, number>>,
): Promise<Float32Array | Int32Array> {
  const entry = file.entry(name, dtypes);
  axes(entry, file.path, shape, known);
  return file.read(entry);
}
