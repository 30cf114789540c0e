export type SafetensorsCode =
  | "truncated"
  | "header-size"
  | "header-json"
  | "header-entry"
  | "dtype"
  | "shape"
  | "offsets"
  | "range"
  | "argument"
  /** Another format: PyTorch's own, JSON, a web page. */
  | "format"
  /** An index of shards that does not hold together, or a shard that cannot be opened. */
  | "index"
  /** Two tensors that a rename gives one name. */
  | "rename"
  /** Bytes of a tensor that are not those that were asked for. */
  | "sha256";
/** name "SafetensorsError"; the message names the file and the tensor. */
export type SafetensorsError = Error & { readonly code: SafetensorsCode };

export function safetensorsError(
  where: { readonly name?: string },
  code: SafetensorsCode,
  problem: string,
  cause?: unknown,
): SafetensorsError {
  const error = new Error(`${where.name ?? "safetensors"}: ${problem}`, cause === undefined ? {} : { cause });
  return Object.assign(error, { name: "SafetensorsError", code });
}
