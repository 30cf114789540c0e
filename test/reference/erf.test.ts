import { describe, expect, it } from "vitest";
import { erf } from "../../src/reference.ts";
import { activate } from "../../src/reference/pointwise.ts";

// By mpmath, rounded to f64.
const known: readonly (readonly [number, number])[] = [
  [0, 0.0],
  [1e-10, 1.1283791670955126e-10],
  [0.001, 0.0011283787909692365],
  [0.125, 0.14031620480133383],
  [0.5, 0.5204998778130465],
  [0.75, 0.7111556336535151],
  [1, 0.8427007929497149],
  [1.25, 0.9229001282564583],
  [1.5, 0.9661051464753108],
  [2, 0.9953222650189527],
  [2.25, 0.9985372834133188],
  [2.49609375, 0.999584455465114],
  [2.5, 0.999593047982555],
  [2.50390625, 0.999601474306083],
  [2.75, 0.9998993780778803],
  [3, 0.9999779095030014],
  [3.5, 0.9999992569016276],
  [4, 0.9999999845827421],
  [5, 0.9999999999984626],
  [5.75, 0.9999999999999996],
  [6, 1.0],
  [7.5, 1.0],
];

describe("erf", () => {
  it("is within 1e-15 of mpmath, odd, and 1 at infinity", () => {
    for (const [x, value] of known) {
      expect(Math.abs(erf(x) - value)).toBeLessThanOrEqual(1e-15);
      expect(Math.abs(erf(-x) + erf(x))).toBe(0);
    }
    expect(erf(Infinity)).toBe(1);
    expect(erf(-Infinity)).toBe(-1);
    expect(erf(NaN)).toBeNaN();
  });

  it("is monotone across the seam between series and continued fraction", () => {
    let before = -1;
    for (let x = 2.49; x < 2.51; x += 1e-5) {
      expect(erf(x)).toBeGreaterThanOrEqual(before);
      before = erf(x);
    }
  });

  it("makes gelu exact, also far out", () => {
    const [a, b, c, d] = activate(Float64Array.from([1, -1, 40, -40]), "gelu");
    expect(a).toBeCloseTo(0.8413447460685429, 15);
    expect(b).toBeCloseTo(-0.15865525393145705, 15);
    expect([c, Math.abs(d ?? NaN)]).toEqual([40, 0]);
  });
});
