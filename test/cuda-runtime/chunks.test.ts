/** Sequences in chunks of rows on CUDA, step by step and as graphs. On the executing stub. */
import { describe, expect, it } from "vitest";
import { cudaDevice } from "../../runtime/cuda.ts";
import { chunksOf, compiledIn, DECODER, ran } from "../models/chunked.ts";
import { sameBits } from "../webgpu/programs.ts";
import { executing } from "./stub.ts";

const parts = await executing();
const at = { N: 300, B: 2 };

describe.skipIf(parts === null)("a model in chunks of rows", () => {
  it("gives the bits of the whole, in less memory", { timeout: 120_000 }, async () => {
    const [whole, chunked] = [null, 128].map((chunk) => compiledIn(DECODER, "cuda", chunk).program);
    if (whole === undefined || chunked === undefined) throw new Error("nothing was compiled");
    expect(chunksOf(chunked, at).bytes).toBeLessThan(chunksOf(whole, at).bytes);
    const outputs = [];
    for (const [program, graph] of [
      [whole, false],
      [chunked, false],
      [chunked, true],
    ] as const) {
      const device = await cudaDevice({ ...parts?.options, poison: true, graph });
      outputs.push(await ran(device, program, at));
      await device.dispose();
    }
    const [meant = {}, ...others] = outputs;
    for (const got of others) expect(sameBits(got, meant)).toBe(true);
  });
});
