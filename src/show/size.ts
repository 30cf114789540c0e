/** Sizes as formulas: `ceil(N / 64) * 8`. */
import type { Size } from "../kernel.ts";

const levels = { add: 1, sub: 1, mul: 2 } as const;
const signs = { add: "+", sub: "-", mul: "*" } as const;

/** `least` is the weakest operator that may stand without parentheses. */
export function showSize(size: Size, least = 0): string {
  if (typeof size !== "object") return String(size);
  const [a, b] = size.args;
  switch (size.op) {
    case "add":
    case "sub":
    case "mul": {
      const level = levels[size.op];
      const text = `${showSize(a, level)} ${signs[size.op]} ${showSize(b, level + 1)}`;
      return level < least ? `(${text})` : text;
    }
    case "ceilDiv":
      return `ceil(${showSize(a, 2)} / ${showSize(b, 3)})`;
    case "floorDiv":
      return `floor(${showSize(a, 2)} / ${showSize(b, 3)})`;
    case "min":
    case "max":
      return `${size.op}(${showSize(a)}, ${showSize(b)})`;
  }
}

/** `f32[B, N, 64]` */
export const showShape = (dtype: string, shape: readonly Size[]): string =>
  `${dtype}[${shape.map((s) => showSize(s)).join(", ")}]`;

/** The shortest decimal that is this f32; always with a point, an exponent or a name. */
export function showFloat(x: number): string {
  if (!Number.isFinite(x)) return x > 0 ? "inf" : x < 0 ? "-inf" : "nan";
  if (Object.is(x, -0)) return "-0.0";
  for (let digits = 1; digits < 10; digits++) {
    const text = String(Number(x.toPrecision(digits)));
    if (Math.fround(Number(text)) === Math.fround(x)) return decimal(text);
  }
  return decimal(String(x));
}
const decimal = (text: string) => (/[.e]/.test(text) ? text.replace("e+", "e") : `${text}.0`);
