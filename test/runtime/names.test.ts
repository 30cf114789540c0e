/** Checkpoints under other names, and with checked hashes. */
import { createHash } from "node:crypto";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { memorySource, readHeader, writeSafetensors } from "../../runtime/safetensors.ts";
import type { TensorToWrite } from "../../runtime/safetensors.ts";
import { checkpoint, renamed, tensorHashes } from "../../runtime/sources.ts";
import type { Rename } from "../../runtime/sources.ts";
import { hex, sha256 } from "../../runtime/sources/sha256.ts";
import { loadWeights } from "../../runtime/weights.ts";
import { contents, f32, failure } from "./checkpoints.ts";

describe("names", () => {
  const source = memorySource(
    writeSafetensors([
      f32("module.encoder.a.w", [1]),
      f32("module.encoder.b", [2]),
      f32("module.head", [3]),
      f32("other", [4]),
    ]),
    "w.safetensors",
  );
  const under = async (rename: Rename) =>
    Object.keys(await contents(await checkpoint(source, { rename }))).sort();

  it("by leading paths, whole names, the longest that fits, and functions", async () => {
    expect(await under({ "module.encoder.": "encoder.", "module.": "m.", other: "o" })).toEqual(["encoder.a.w", "encoder.b", "m.head", "o"]); // prettier-ignore
    expect(await under({ "": "x.", "module.": "" })).toEqual(["encoder.a.w", "encoder.b", "head", "x.other"]);
    // Once: what a rename gives is not renamed again. A path without its dot is a whole name.
    expect(await under({ "module.": "other.", other: "x", module: "y" })).toEqual(["other.encoder.a.w", "other.encoder.b", "other.head", "x"]); // prettier-ignore
    expect(await under({ "module.encoder.": null, other: null })).toEqual(["module.head"]);
    expect(await under((name) => (name === "other" ? null : name.replace("module", "n")))).toEqual(["n.encoder.a.w", "n.encoder.b", "n.head"]); // prettier-ignore
    expect(await under({})).toEqual(["module.encoder.a.w", "module.encoder.b", "module.head", "other"]);
  });

  it("that collide are both told", async () => {
    expect(await failure(() => under({ "module.head": "other" }))).toBe(
      "rename: w.safetensors: by the rename 'module.head' and 'other' would both be 'other'",
    );
    const all = await failure(() => under(() => "x"));
    expect(all).toContain(
      "'module.encoder.a.w' and 'module.encoder.b' would both be 'x'; 'module.encoder.a.w' and 'module.head'",
    );
  });

  it("of Object's own are names like others", async () => {
    const odd = memorySource(
      writeSafetensors([f32("__proto__", [1]), f32("constructor", [2]), f32("toString.x", [3])]),
    );
    const opened = renamed(await checkpoint(odd), { "toString.": "hasOwnProperty." });
    expect([...opened.tensors.keys()].sort()).toEqual(["__proto__", "constructor", "hasOwnProperty.x"]);
    expect(Object.keys(await tensorHashes(opened)).sort()).toEqual([
      "__proto__",
      "constructor",
      "hasOwnProperty.x",
    ]);
  });

  it("of the file stay in messages about its bytes", async () => {
    const bytes = writeSafetensors([f32("module.x", [1])]);
    const short = {
      ...memorySource(bytes, "w"),
      read: async (s: number, e: number) => bytes.subarray(s, Math.min(e, bytes.length - 1)),
    };
    const opened = await checkpoint(short, { rename: { "module.": "" } });
    const plan = { weights: [{ name: "x", shape: [1], layout: "rows" as const }], accepts: [] };
    expect(await failure(() => loadWeights(plan, opened, () => undefined))).toMatch(
      /^truncated: w: reading bytes/,
    );
  });
});

describe("SHA-256", () => {
  it("is that of node:crypto, in any pieces", () => {
    fc.assert(
      fc.property(fc.array(fc.uint8Array({ maxLength: 300 }), { maxLength: 6 }), (pieces) => {
        const [mine, theirs] = [sha256(), createHash("sha256")];
        for (const piece of pieces) {
          mine.add(piece);
          theirs.update(piece);
        }
        expect(hex(mine.digest())).toBe(theirs.digest("hex"));
      }),
      { numRuns: 500, seed: 1 },
    );
    for (const length of [0, 1, 55, 56, 63, 64, 65, 119, 120, 1 << 20]) {
      const bytes = Uint8Array.from({ length }, (_x, i) => i * 7);
      const hash = sha256();
      // At an odd place of its buffer, as a piece of a file may lie.
      const shifted = new Uint8Array(length + 3);
      shifted.set(bytes, 3);
      hash.add(shifted.subarray(3));
      expect(hex(hash.digest()), String(length)).toBe(createHash("sha256").update(bytes).digest("hex"));
    }
  });

  const data = Float32Array.from({ length: 300_000 }, (_x, i) => i);
  const tensors: readonly TensorToWrite[] = [
    { name: "m.big", dtype: "F32", shape: [300, 1000], data },
    f32("m.small", [1, 2]),
  ];
  const bytes = writeSafetensors(tensors);
  const plan = {
    weights: [
      { name: "small", shape: [2], layout: "rows" as const },
      { name: "big", shape: [300, 1000], layout: "panels" as const },
    ],
    accepts: [],
  };
  const expected = createHash("sha256").update(new Uint8Array(data.buffer)).digest("hex");
  const rename = { "m.": "" };

  it("of every tensor can be told, and is checked as it is read", async () => {
    const hashes = await tensorHashes(memorySource(bytes));
    expect(hashes["m.big"]).toBe(expected);
    const given: number[] = [];
    const upper = { "m.big": expected.toUpperCase() };
    const opened = await checkpoint(memorySource(bytes), { rename, sha256: { ...hashes, ...upper } });
    await loadWeights(plan, opened, (index) => void given.push(index));
    expect(given).toEqual([1, 0]);
  });

  it("that differs is told with both, and the device never sees the tensor", async () => {
    const header = await readHeader(memorySource(bytes));
    const at = (header.tensors.get("m.big")?.end ?? 0) - 1;
    const damaged = bytes.map((byte, i) => (i === at ? byte ^ 1 : byte));
    const found = createHash("sha256")
      .update(damaged.subarray(header.tensors.get("m.big")?.start ?? 0, at + 1))
      .digest("hex");
    const opened = await checkpoint(memorySource(damaged, "w"), { rename, sha256: { "m.big": expected } });
    const given: number[] = [];
    expect(await failure(() => loadWeights(plan, opened, (index) => void given.push(index)))).toBe(
      `sha256: w: tensor 'm.big' has the SHA-256 ${found}, expected ${expected}: the file is damaged, or another one`,
    );
    expect(given).not.toContain(1);
  });

  it("of a tensor that is not there, or what is no hash", async () => {
    const wrong = (hashes: Record<string, string>) =>
      failure(() => checkpoint(memorySource(bytes, "w"), { rename, sha256: hashes }));
    expect(await wrong({ big: expected })).toBe(
      "sha256: w: has no tensor 'big', for which a SHA-256 is given",
    );
    expect(await wrong({ "m.big": "abc" })).toBe(
      "InputError: 'abc', for tensor 'm.big', is no SHA-256: it takes 64 hexadecimal digits",
    );
  });
});
