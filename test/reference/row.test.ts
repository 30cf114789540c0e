import fc from "fast-check";
import { expect, it } from "vitest";
import { attention } from "../../src/reference.ts";
import { attentionRow } from "../../src/reference/row.ts";
import { randomInputs } from "../attention/run.ts";
import { randomSpec } from "../schedule/specs.ts";

it("every row alone is that row of the whole, for random specs", () => {
  let uncovered = 0;
  fc.assert(
    fc.property(
      randomSpec({ maxSegment: 40 }),
      fc.integer({ min: 1, max: 70 }),
      fc.nat(),
      (spec, N, seed) => {
        const [B, { heads, headDim }] = [2, spec];
        const { q, k, v } = randomInputs(spec, N, B, seed);
        const [wq, wk, wv] = [q, k, v].map((x) => Float64Array.from(x));
        if (wq === undefined || wk === undefined || wv === undefined) throw new Error("three inputs");
        const whole = attention(spec, { q: wq, k: wk, v: wv, N, B });
        for (let batch = 0; batch < B; batch++)
          for (let head = 0; head < heads; head++)
            for (let row = 0; row < N; row++) {
              const { out, lse } = attentionRow(spec, { q, k, v, N }, { batch, head, row });
              const meant = whole.lse[(batch * heads + head) * N + row] ?? NaN;
              if (meant === -Infinity) {
                uncovered += 1;
                expect(lse).toBe(-Infinity);
              } else expect(Math.abs(lse - meant)).toBeLessThan(1e-12 * Math.max(1, Math.abs(meant)));
              const from = ((batch * N + row) * heads + head) * headDim;
              out.forEach((x, d) => expect(Math.abs(x - (whole.out[from + d] ?? NaN))).toBeLessThan(1e-12));
            }
      },
    ),
    { numRuns: 40 },
  );
  expect(uncovered).toBeGreaterThan(0);
});
