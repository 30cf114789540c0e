/** Data as TypeScript source: JSON that a person can read, the same text for the same value. */

const width = 110;

const source: unique symbol = Symbol("source");
/** A value that is printed as this expression, e.g. the name of a constant. */
export type Verbatim = { readonly [source]: string };
export const verbatim = (expression: string): Verbatim => ({ [source]: expression });

/** A value as an expression: on one line where it fits behind `indent`, otherwise one entry per line, or lines of numbers. */
export function printData(value: unknown, indent = ""): string {
  const flat = printFlat(value);
  if (indent.length + flat.length <= width || typeof value !== "object" || value === null || source in value)
    return flat;
  const inner = `${indent}  `;
  if (Array.isArray(value) && value.every((v) => typeof v === "number"))
    return `[\n${filled(value.map(printFlat), inner)}${indent}]`;
  const entries = Array.isArray(value)
    ? value.map((v: unknown) => printData(v, inner))
    : entriesOf(value).map(([key, v]) => `${printKey(key)}: ${printData(v, inner)}`);
  const [open, close] = Array.isArray(value) ? ["[", "]"] : ["{", "}"];
  return `${open}\n${entries.map((e) => `${inner}${e},\n`).join("")}${indent}${close}`;
}

/** As many numbers on a line as fit. */
function filled(entries: readonly string[], indent: string): string {
  const lines: string[] = [];
  for (const entry of entries) {
    const longer = `${lines.at(-1)} ${entry},`;
    if (lines.length > 0 && longer.length <= width) lines[lines.length - 1] = longer;
    else lines.push(`${indent}${entry},`);
  }
  return lines.map((line) => `${line}\n`).join("");
}

function printFlat(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(printFlat).join(", ")}]`;
  if (typeof value === "object" && value !== null) {
    if (source in value) return String(value[source]);
    const entries = entriesOf(value).map(([key, v]) => `${printKey(key)}: ${printFlat(v)}`);
    return entries.length === 0 ? "{}" : `{ ${entries.join(", ")} }`;
  }
  if (typeof value === "number" && !Number.isFinite(value))
    throw new Error(`heddle: internal: ${value} cannot be written into a generated module`);
  return JSON.stringify(value);
}

const entriesOf = (value: object): [string, unknown][] =>
  Object.entries(value).filter(([, v]) => v !== undefined);
const printKey = (key: string): string => (/^[A-Za-z_$][\w$]*$/.test(key) ? key : JSON.stringify(key));

/** Words that may be exported under their name but not declared. */
const reserved = new Set(
  (
    "abstract any arguments as async await boolean break case catch class const continue debugger declare default delete do " +
    "else enum eval export extends false finally for from function get if implements import in infer instanceof interface " +
    "is keyof let module namespace never new null number object of package private protected public readonly require " +
    "return set static string super switch symbol this throw true try type typeof undefined unique unknown var void " +
    "while with yield globalThis Infinity NaN"
  ).split(" "),
);

/** How an item of a spec is declared in a module: its own name unless TypeScript keeps that for itself. */
export const declared = (name: string): string => (reserved.has(name) ? `${name}_` : name);

/** Lines of text as a template literal, which shows them as they are. */
export const template = (text: string): string => `\`${text.replaceAll(/[\\`]|\$(?=\{)/g, "\\$&")}\``;

/** Bytes as base64, 57 KiB at a time so that no call takes too many arguments. */
export function base64(bytes: Uint8Array): string {
  const step = 0x8000 - (0x8000 % 3);
  let text = "";
  for (let at = 0; at < bytes.length; at += step)
    text += btoa(String.fromCharCode(...bytes.subarray(at, at + step)));
  return text;
}
