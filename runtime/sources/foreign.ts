/** Files that are given for safetensors and are something else. */

const convert =
  'python -c "import torch, safetensors.torch as s; s.save_file({k: v.contiguous().clone() for k, v in ' +
  "torch.load('model.bin', map_location='cpu', weights_only=True).items()}, 'model.safetensors')\"";

/**
 * What a file is, by its first 8 bytes; undefined where they say nothing. The length of a header may begin with the same bytes: only a file
 * that is no safetensors file is to be judged by them. A pickle is never read: unpickling runs what the file says.
 */
export function foreign(prefix: Uint8Array): string | undefined {
  const [a = 0, b = 0, c, d] = prefix;
  // A zip archive, or opcode PROTO with one of the protocols that PyTorch has written.
  if ((a === 0x50 && b === 0x4b && c === 3 && d === 4) || (a === 0x80 && b >= 2 && b <= 5))
    return `is a PyTorch file (pickle), which may run code when it is read. Convert it once, where you trust it:\n  ${convert}`;
  if (a === 0x7b)
    return "is JSON, not a safetensors file; the name of an index of shards ends in .index.json";
  if (a === 0x3c) return "is a web page (HTML), not a safetensors file";
  if (String.fromCharCode(...prefix) === "version ")
    return "is a pointer of git LFS, not the file itself: run `git lfs pull`";
  return undefined;
}
