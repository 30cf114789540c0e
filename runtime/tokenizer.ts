/** Text to tokens and back: bytes, cl100k_base by the package gpt-tokenizer, or whatever has these two functions. */
import { inputError } from "./input-error.ts";

export type Tokenizer = {
  readonly encode: (text: string) => readonly number[];
  /** Bytes that are no UTF-8, at the end too, become U+FFFD. */
  readonly decode: (tokens: readonly number[]) => string;
};

/** Each byte of the UTF-8 text is a token: for models with a vocabulary of 256. */
export const bytes: Tokenizer = {
  encode: (text) => [...new TextEncoder().encode(text)],
  decode: (tokens) => new TextDecoder("utf-8", { ignoreBOM: true }).decode(Uint8Array.from(tokens)),
};

/** What is used of gpt-tokenizer. */
type Cl100k = {
  readonly encode: (text: string, options: { readonly disallowedSpecial: Set<string> }) => number[];
  readonly decode: (tokens: readonly number[]) => string;
};
// By a name that compilers do not follow: the package is optional.
const PEER = "gpt-tokenizer/encoding/cl100k_base";

/**
 * cl100k_base, the vocabulary of the LongNet paper, by the optional package gpt-tokenizer. A bundler that should take it along needs
 * `cl100k(() => import('gpt-tokenizer/encoding/cl100k_base'))`. Text that looks like a special token is read as text.
 * @throws InputError where the package is not installed.
 */
export async function cl100k(load: () => Promise<unknown> = () => import(PEER)): Promise<Tokenizer> {
  let found: Cl100k;
  try {
    found = (await load()) as Cl100k;
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw inputError(`cl100k_base needs the package gpt-tokenizer: \`npm install gpt-tokenizer\` (${why})`);
  }
  return {
    encode: (text) => found.encode(text, { disallowedSpecial: new Set() }),
    decode: (tokens) => found.decode(tokens),
  };
}

/** Text from tokens that come one by one. */
export type TextStream = {
  /** The text that is certain with this token: nothing while a character is incomplete. */
  readonly push: (token: number) => string;
  /** What was held back. */
  readonly end: () => string;
};

/** A character takes at most this many tokens; what is longer is no character. */
const LONGEST = 8;

/**
 * Decodes the last tokens together with those before, since a tokenizer may write a token differently at the beginning of a text, and
 * holds back what ends in U+FFFD: the bytes of a character that is not complete.
 */
export function textStream({ decode }: Pick<Tokenizer, "decode">): TextStream {
  const tokens: number[] = [];
  /** Text up to `told` was given away; `from` is where what it is decoded with begins. */
  let [from, told] = [0, 0];
  const rest = (whole: boolean): string => {
    const before = decode(tokens.slice(from, told));
    const text = decode(tokens.slice(from));
    const open = text.endsWith("\uFFFD") && tokens.length - told < LONGEST;
    if (text.length <= before.length || (open && !whole)) return "";
    [from, told] = [told, tokens.length];
    return text.slice(before.length);
  };
  return {
    push: (token) => {
      tokens.push(token);
      return rest(false);
    },
    end: () => rest(true),
  };
}
