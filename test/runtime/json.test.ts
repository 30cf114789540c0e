import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { parseJson } from "../../runtime/json.ts";

describe("strict JSON", () => {
  const plain = (value: unknown): unknown =>
    value instanceof Map
      ? Object.fromEntries([...(value as Map<string, unknown>)].map(([key, item]) => [key, plain(item)]))
      : Array.isArray(value)
        ? value.map(plain)
        : value;

  it("reads what JSON.parse reads", () => {
    fc.assert(
      fc.property(fc.json({ maxDepth: 4 }), (text) => {
        const parsed = parseJson(text);
        expect("value" in parsed && JSON.stringify(plain(parsed.value))).toBe(
          JSON.stringify(JSON.parse(text)),
        );
      }),
    );
  });

  it("refuses what JSON.parse refuses", () => {
    fc.assert(
      fc.property(fc.json({ maxDepth: 2 }), fc.nat(), fc.string({ maxLength: 2 }), (text, at, junk) => {
        const place = at % (text.length + 1);
        const mutated = text.slice(0, place) + junk + text.slice(place + 1);
        let valid = true;
        try {
          JSON.parse(mutated);
        } catch {
          valid = false;
        }
        const parsed = parseJson(mutated);
        // Only a repeated key may be refused beyond what JSON.parse refuses.
        const ours = "value" in parsed || parsed.problem.includes("stands twice");
        if (!valid && ours && !("problem" in parsed)) expect(mutated).toBe("refused");
        if (valid && !ours) expect(mutated).toBe("accepted");
      }),
      { numRuns: 1000 },
    );
  });

  it("reads a string of megabytes without exhausting a stack", () => {
    const long = `"${"ab\\n".repeat(1 << 20)}"`;
    const parsed = parseJson(long);
    expect("value" in parsed && String(parsed.value).length).toBe(3 << 20);
  });
});
