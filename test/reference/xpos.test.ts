import { describe, expect, it } from "vitest";
import { decayTable, xposTable, xposZeta } from "../../runtime/tables.ts";
import { attention } from "../../src/reference.ts";
import { rotate, xposScale } from "../../src/reference/xpos.ts";
import { goldenTensors, tensor } from "../golden.ts";

const x1 = await goldenTensors("models/x1_xpos.safetensors");
const tags = [
  { tag: "D16_N33_b512", headDim: 16, N: 33, base: 512 },
  { tag: "D64_N40_b512", headDim: 64, N: 40, base: 512 },
  { tag: "D32_N17_b64", headDim: 32, N: 17, base: 64 },
];

describe.each(tags)("golden x1 $tag", ({ tag, headDim, N, base }) => {
  const q = Float64Array.from(tensor(x1, `${tag}.q`));
  const k = Float64Array.from(tensor(x1, `${tag}.k`));
  const B = q.length / (N * headDim);
  const turn = (x: Float64Array, sign: 1 | -1) =>
    rotate(x, { B, N, heads: 1, headDim, base, block: 4096, sign });

  it("rotates and scales as torchscale, whose positions are centred", () => {
    // torchscale's exponent is (n − ⌈N/2⌉)/base, ours n/base: the constant ζ^(⌈N/2⌉/base) cancels in q·k.
    const zeta = xposScale(headDim);
    const centred = (x: Float64Array, sign: 1 | -1) =>
      turn(x, sign).map(
        (y, i) => y * (zeta[(i % headDim) >> 1] ?? NaN) ** ((-sign * Math.ceil(N / 2)) / base),
      );
    const close = (actual: Float64Array, expected: Float32Array) =>
      expected.forEach((e, i) => expect(Math.abs((actual[i] ?? NaN) - e)).toBeLessThan(1e-6));
    close(centred(q, 1), tensor(x1, `${tag}.q_out`));
    close(centred(k, -1), tensor(x1, `${tag}.k_out`));
  });

  it("has the checkpoint's ζ bit for bit", () => {
    expect(Float32Array.from(xposScale(headDim))).toEqual(tensor(x1, `${tag}.scale`));
    expect(xposZeta(headDim)).toEqual(tensor(x1, `${tag}.scale`));
  });
});

describe("block form", () => {
  const headDim = 8;
  const base = 4;
  const N = 50;
  const numbers = (seed: number) =>
    Float64Array.from({ length: N * headDim }, (_x, i) => Math.sin(seed + i * 1.7) + 0.1 * Math.cos(i * i));
  const [q, k, v] = [numbers(1), numbers(2), numbers(3)];
  const spec = {
    heads: 1,
    headDim,
    kvHeads: 1,
    branches: [{ segment: Infinity, dilation: 1 }],
    offsets: [[0]],
    padding: "masked",
    align: "segment",
    combine: "softmax",
    scale: 1,
  } as const;

  it.each([true, false])(
    "any block gives the same attention, also over many blocks (causal %s)",
    (causal) => {
      const run = (block: number) => {
        const shape = { B: 1, N, heads: 1, headDim, base, block };
        return attention(
          { ...spec, causal },
          {
            q: rotate(q, { ...shape, sign: 1 }),
            k: rotate(k, { ...shape, sign: -1 }),
            v,
            B: 1,
            N,
            decay: { base, block },
          },
        );
      };
      const whole = run(4096);
      for (const block of [1, 4, 16]) {
        const blocked = run(block);
        whole.out.forEach((e, i) => expect(blocked.out[i]).toBeCloseTo(e, 9));
        whole.lse.forEach((e, i) => expect(blocked.lse[i]).toBeCloseTo(e, 7));
      }
    },
  );

  it.each([1, -1] as const)("agrees with the device's table (sign %i)", (sign) => {
    const table = { headDim: 16, base: 512, block: 64, sign };
    const rows = 200;
    // Rotating (1, 0) in every pair gives (cos·f, sin·f).
    const unit = Float64Array.from({ length: rows * 16 }, (_x, i) => 1 - (i % 2));
    const expected = rotate(unit, { B: 1, N: rows, heads: 1, ...table });
    const actual = xposTable(table, rows);
    expect(actual).toHaveLength(rows * 16);
    actual.forEach((a, i) => expect(Math.abs(a - (expected[i] ?? NaN))).toBeLessThan(1.5e-7));
  });

  it("decays by powers of two: exp2(blocks · block / base · log₂ ζ)", () => {
    const zeta = xposScale(16);
    decayTable(16).forEach((log, i) =>
      expect(2 ** (((3 * 4096) / 512) * log) / (zeta[i] ?? NaN) ** ((3 * 4096) / 512)).toBeCloseTo(1, 5),
    );
  });
});
