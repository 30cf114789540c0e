import { describe, expect, it } from "vitest";
import { bytes, cl100k, textStream } from "../../runtime/tokenizer.ts";
import type { Tokenizer } from "../../runtime/tokenizer.ts";

const TEXT = "naïve 日本 🧵 e\u0301 …\nend";

function streamed(tokenizer: Tokenizer, tokens: readonly number[]): { pieces: string[]; text: string } {
  const stream = textStream(tokenizer);
  const pieces = tokens.map((t) => stream.push(t));
  return { pieces, text: pieces.join("") + stream.end() };
}

describe("bytes", () => {
  it("are the UTF-8 of a text, and come back", () => {
    expect(bytes.encode("é")).toEqual([0xc3, 0xa9]);
    expect(bytes.decode(bytes.encode(TEXT))).toBe(TEXT);
  });

  it("stream without ever giving part of a character", () => {
    const { pieces, text } = streamed(bytes, bytes.encode(TEXT));
    expect(text).toBe(TEXT);
    expect(pieces.join("")).not.toContain("\uFFFD");
    expect(pieces.slice(0, 3)).toEqual(["n", "a", ""]);
  });

  it("that are no UTF-8 are given as U+FFFD once that is certain", () => {
    expect(streamed(bytes, [0xff, 0x61]).pieces).toEqual(["", "\uFFFDa"]);
    // The end of an answer may cut a character.
    expect(streamed(bytes, [0x61, 0xe6, 0x97])).toEqual({ pieces: ["a", "", ""], text: "a\uFFFD" });
    const stuck = streamed(
      bytes,
      Array.from({ length: 40 }, () => 0xff),
    );
    expect(stuck.pieces.join("").length).toBeGreaterThan(20);
    expect(stuck.text).toBe("\uFFFD".repeat(40));
  });
});

describe("other tokenizers", () => {
  it("that drop a leading space at the beginning of a text keep it in a stream", () => {
    const words = ["", " so", " it", " goes"];
    const sentences: Tokenizer = {
      encode: () => [],
      decode: (tokens) =>
        tokens
          .map((t) => words[t] ?? "")
          .join("")
          .replace(/^ /, ""),
    };
    expect(streamed(sentences, [1, 2, 0, 3])).toEqual({
      pieces: ["so", " it", "", " goes"],
      text: "so it goes",
    });
  });

  it("cl100k_base says how to install what it needs", async () => {
    const absent = () => Promise.reject(new Error("Cannot find package"));
    await expect(cl100k(absent)).rejects.toMatchObject({
      name: "InputError",
      message: expect.stringContaining("npm install gpt-tokenizer") as string,
    });
  });

  it("cl100k_base reads special tokens as text", async () => {
    const asked: unknown[] = [];
    const fake = {
      encode: (text: string, options: unknown) => (
        asked.push(options),
        [...text].map((c) => c.charCodeAt(0))
      ),
      decode: (tokens: readonly number[]) => String.fromCharCode(...tokens),
    };
    const tokenizer = await cl100k(() => Promise.resolve(fake));
    expect(tokenizer.decode(tokenizer.encode("<|endoftext|>"))).toBe("<|endoftext|>");
    expect(asked).toEqual([{ disallowedSpecial: new Set() }]);
  });
});
