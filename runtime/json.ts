/**
 * A strict JSON reader for untrusted headers. Unlike JSON.parse it reports a repeated key, keeps `__proto__` an ordinary
 * key (objects are Maps), and bounds the depth of nesting.
 */
export type Json = null | boolean | number | string | readonly Json[] | ReadonlyMap<string, Json>;

export type ParsedJson =
  | { readonly value: Json }
  /** `at`: the UTF-16 index in the text where reading stopped. */
  | { readonly problem: string; readonly at: number };

const depthLimit = 16;
const numberToken = /-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?/y;
const wordToken = /true|false|null/y;
const space = /[ \t\n\r]*/y;

export function parseJson(text: string): ParsedJson {
  let at = 0;
  let problem: string | undefined;

  const take = (token: RegExp): string | undefined => {
    token.lastIndex = at;
    const found = token.exec(text)?.[0];
    if (found !== undefined) at += found.length;
    return found;
  };
  const skip = (): string | undefined => {
    take(space);
    return text[at];
  };
  const fail = (why: string): undefined => {
    problem ??= why;
    return undefined;
  };
  const found = () => (at < text.length ? JSON.stringify(text[at]) : "the end");

  /** The items of an object or array after its opening bracket, up to and including `close`. */
  const items = (close: string, item: () => boolean): boolean => {
    at++;
    if (skip() === close) {
      at++;
      return true;
    }
    for (;;) {
      if (!item()) return false;
      const next = skip();
      at++;
      if (next === close) return true;
      if (next !== ",") {
        at--;
        fail(`expected ',' or '${close}', found ${found()}`);
        return false;
      }
    }
  };

  /** A string is cut out by hand, not by a pattern: one of megabytes must not exhaust a matcher's stack. */
  const readString = (): string | undefined => {
    if (text[at] !== '"') return fail(`expected a string, found ${found()}`);
    let end = at + 1;
    while (end < text.length && text[end] !== '"') end += text[end] === "\\" ? 2 : 1;
    try {
      const value = JSON.parse(text.slice(at, end + 1)) as string;
      at = end + 1;
      return value;
    } catch {
      return fail(
        end < text.length ? "a string with a bad escape or control character" : "an unfinished string",
      );
    }
  };

  const readValue = (depth: number): Json | undefined => {
    const start = skip();
    if (depth > depthLimit) return fail(`more than ${depthLimit} levels of nesting`);
    if (start === '"') return readString();
    if (start === "[") {
      const list: Json[] = [];
      return items("]", () => {
        const value = readValue(depth + 1);
        if (value !== undefined) list.push(value);
        return value !== undefined;
      })
        ? list
        : undefined;
    }
    if (start === "{") {
      const map = new Map<string, Json>();
      return items("}", () => {
        skip();
        const from = at;
        const key = readString();
        if (key === undefined) return false;
        if (map.has(key)) {
          at = from;
          fail(`the key ${JSON.stringify(key)} stands twice`);
          return false;
        }
        if (skip() !== ":") {
          fail(`expected ':', found ${found()}`);
          return false;
        }
        at++;
        const value = readValue(depth + 1);
        if (value !== undefined) map.set(key, value);
        return value !== undefined;
      })
        ? map
        : undefined;
    }
    const number = take(numberToken);
    if (number !== undefined) return Number(number);
    const word = take(wordToken);
    if (word !== undefined) return word === "null" ? null : word === "true";
    return fail(`expected a value, found ${found()}`);
  };

  const value = readValue(0);
  if (value !== undefined && skip() !== undefined) fail(`expected the end, found ${found()}`);
  if (problem !== undefined || value === undefined) return { problem: problem ?? "nothing to read", at };
  return { value };
}
