import { diagnostic } from "../diagnostic.ts";
import type { Diagnostic } from "../diagnostic.ts";
import type { Config } from "./keys.ts";

const longest = 4096;

const described = (value: unknown): string => {
  const text = JSON.stringify(value) ?? String(value);
  return text.length > 40 ? `${text.slice(0, 39)}…` : text;
};

/** Values of a configuration by key and type; a wrong one is reported and comes back as null (a flag as its default). */
export const reading = (config: Config, report: (d: Diagnostic) => void) => {
  const wrong = (key: string, expected: string, hint?: string): null => {
    const args = { key: `\`${key}\``, found: described(config[key]) };
    report(diagnostic("import-value", { path: `config.${key}` }, args, { expected, hint }));
    return null;
  };
  const absent = (key: string) => config[key] === undefined || config[key] === null;

  const flag = (key: string, otherwise: boolean): boolean => {
    if (absent(key)) return otherwise;
    const value = config[key];
    if (typeof value === "boolean") return value;
    wrong(key, "true or false");
    return otherwise;
  };

  const count = (key: string, otherwise: number): number | null => {
    if (absent(key)) return otherwise;
    const value = config[key];
    if (typeof value === "number" && Number.isSafeInteger(value) && value > 0) return value;
    return wrong(key, "an integer of at least 1");
  };

  const positive = (key: string, otherwise: number): number | null => {
    if (absent(key)) return otherwise;
    const value = config[key];
    if (typeof value === "number" && Number.isFinite(value) && value > 0) return value;
    return wrong(key, "a number above 0");
  };

  const word = <const W extends string>(key: string, known: readonly W[], otherwise: W): W | null => {
    if (absent(key)) return otherwise;
    const found = known.find((w) => w === config[key]);
    return found ?? wrong(key, known.join(", "));
  };

  /** A list of integers, or Python's text of one. */
  const list = (key: string): readonly number[] | null => {
    if (absent(key)) {
      const hint = `Add it, e.g. "${key}": ${key === "segment_length" ? "[2048, 4096]" : "[1, 2]"}.`;
      report(diagnostic("import-missing", { path: "config" }, { key: `\`${key}\`` }, { hint }));
      return null;
    }
    const expected = 'a list of integers, e.g. [1, 2] or "[1, 2]"';
    let value = config[key];
    if (typeof value === "string") {
      const inner = /^\s*[[(]\s*((?:\d+\s*,\s*)*\d+)\s*,?\s*[\])]\s*$/.exec(value)?.[1];
      if (inner === undefined) return wrong(key, expected, "Expressions are not evaluated.");
      value = inner.split(",").map(Number);
    }
    if (!Array.isArray(value) || value.length === 0 || value.length > longest) return wrong(key, expected);
    const numbers = value.filter(
      (x): x is number => typeof x === "number" && Number.isSafeInteger(x) && x > 0,
    );
    return numbers.length === value.length ? numbers : wrong(key, expected);
  };

  return { flag, count, positive, word, list };
};
