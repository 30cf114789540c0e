/** Options that several commands take, and how their values are read. */
import { InvalidArgumentError, Option } from "commander";
import { formats } from "./spec-file.ts";
import type { Format } from "./spec-file.ts";

export const count = (text: string): number => {
  const value = Number(text);
  if (!/^\d+(e\d+)?$/i.test(text) || !Number.isSafeInteger(value) || value < 1)
    throw new InvalidArgumentError("It must be a whole number from 1 on.");
  return value;
};
/** Lengths are i32 in kernels, with room for sums. */
export const length = (text: string): number => {
  const value = count(text);
  if (value >= 2 ** 30) throw new InvalidArgumentError("It must be below 2^30.");
  return value;
};
export const lengths = (text: string): readonly number[] => text.split(",").map((t) => length(t.trim()));
export const seed = (text: string): number => {
  const value = Number(text);
  if (!/^\d+$/.test(text) || value >= 2 ** 32)
    throw new InvalidArgumentError("It must be a whole number below 2^32.");
  return value;
};

export const index = (text: string): number => {
  const value = Number(text);
  if (!/^\d+$/.test(text) || value >= 2 ** 30)
    throw new InvalidArgumentError("It must be a whole number from 0 on.");
  return value;
};
export const place = (text: string): number | "class" => {
  if (text === "class") return text;
  if (!/^\d+$/.test(text)) throw new InvalidArgumentError("It must be `class` or a whole number from 0 on.");
  return index(text);
};

/** `FROM=TO`, added to those before it. TO may be empty, and so may FROM: "" stands before every name. */
const renames = (
  text: string,
  before: Readonly<Record<string, string>> = {},
): Readonly<Record<string, string>> => {
  const at = text.indexOf("=");
  const [from, to] = [text.slice(0, at), text.slice(at + 1)];
  if (at < 0 || from === to) throw new InvalidArgumentError("It must be FROM=TO.");
  if (Object.hasOwn(before, from)) throw new InvalidArgumentError(`'${from}' is renamed twice.`);
  return { ...before, [from]: to };
};
export const renameOption = () =>
  new Option(
    "--rename <FROM=TO>",
    "other names for tensors: FROM is a leading path with its dot, nothing (a prefix for all), or a whole name; may be given again",
  ).argParser(renames);

export const formatOption = () =>
  new Option("--format <form>", "how diagnostics are written").choices(formats).default("pretty");
export const jsonOption = (what: string) => new Option("--json", what).default(false);
/** Who multiplies on CUDA; see `CudaDeviceOptions`. */
export const linearOption = () =>
  new Option("--linear <whose>", "linear layers on cuda: heddle's kernels or NVIDIA's cuBLASLt")
    .choices(["own", "cublaslt"] as const)
    .default("own");
export const threadsOption = () =>
  new Option("--threads <n>", "threads of wasm (default: one for each processor)").argParser(count);
export const formOf = (o: { readonly format: Format; readonly json?: boolean }): Format =>
  o.json === true ? "json" : o.format;
export const examples = (...lines: readonly string[]): string =>
  `\nExamples:\n${lines.map((l) => `  $ heddle ${l}\n`).join("")}`;
