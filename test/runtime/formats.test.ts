/** Files that are given for safetensors and are something else. */
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { fileCheckpoint } from "../../runtime/node.ts";
import { memorySource } from "../../runtime/safetensors.ts";
import { checkpoint } from "../../runtime/sources.ts";
import { contents, failure } from "./checkpoints.ts";

const encoder = new TextEncoder();

describe("files of other formats", () => {
  let folder: string;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), "heddle-formats-"));
  });
  afterAll(() => rm(folder, { recursive: true, force: true }));
  const padded = (...start: readonly number[]) => Uint8Array.from({ length: 4000 }, (_x, i) => start[i] ?? 0);
  const text = (s: string) => padded(...encoder.encode(s));

  it.each([
    ["a zip archive of torch.save", padded(0x50, 0x4b, 3, 4, 0, 0, 8, 8), true],
    // Bytes 4 to 7 are zero: as a length of a header this is 67 MB.
    ["a zip archive that could be a length", padded(0x50, 0x4b, 3, 4), true],
    ["a pickle of protocol 2", padded(0x80, 2, 0x8a, 10, 0x6c, 0xfc, 0x9c, 0x46), true],
    ["a pickle of protocol 5", padded(0x80, 5, 0x95, 1, 2, 3, 4, 5), true],
    ["a web page", text("<!DOCTYPE html><html>"), false],
    ["a pointer of git LFS", text("version https://git-lfs.github.com/spec/v1\n"), false],
  ])("%s", async (_what, bytes, pytorch) => {
    const path = join(folder, "model.bin");
    await writeFile(path, bytes);
    const message = await failure(() => fileCheckpoint(path));
    expect(message).toMatch(/^format: .*model\.bin: is a/);
    if (pytorch) {
      expect(message).toMatch(/PyTorch file.*may run code when it is read/);
      // The repair is one line for a shell, and reads without running what the file says.
      expect(message.split("\n").at(-1)).toMatch(
        /^ {2}python -c ".*save_file.*weights_only=True.*'model\.safetensors'\)"$/,
      );
    }
  });

  it("a length that begins like a pickle is a length", async () => {
    for (const length of [0x0280, 0x0380, 0x0580]) {
      const header = `{"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}`.padEnd(length);
      const bytes = new Uint8Array(8 + length + 4);
      new DataView(bytes.buffer).setBigUint64(0, BigInt(length), true);
      bytes.set(encoder.encode(header), 8);
      expect([bytes[0], bytes[1]]).toEqual([0x80, length >> 8]);
      expect(Object.keys(await contents(await checkpoint(memorySource(bytes))))).toEqual(["x"]);
    }
  });
});
