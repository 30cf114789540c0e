import fc from "fast-check";
import { expect, test } from "vitest";
import { format, read } from "../../grammar/index.ts";
import { vocabulary } from "../../grammar/tokens.ts";
import { check } from "../../src/check.ts";
import { isError, render, toGithub, toJson } from "../../src/diagnostic.ts";

/** Everything a compiler does with a text before it knows what it means; true when something was wrong with it. */
const chew = (text: string): boolean => {
  const source = { file: "f.heddle", text };
  const { ast, diagnostics } = read(text, source.file);
  const checked = check(ast);
  const all = [...diagnostics, ...checked.diagnostics];
  const failed = all.some(isError);
  // Never a silent refusal, never a Spec beside an error of the checker, never one from half a file.
  if (!failed && checked.spec === null) throw new Error("refused without a reason");
  if (checked.spec !== null && checked.diagnostics.some(isError)) throw new Error("a Spec beside an error");
  if (render(all.slice(0, 20), source).includes("undefined")) throw new Error("a gap in a message");
  toJson(all.slice(0, 20), source);
  toGithub(all.slice(0, 20), source);
  for (const { span } of all) {
    const sound = !("path" in span) && 0 <= span.start && span.start <= span.end && span.end <= text.length;
    if (!sound) throw new Error(`a span outside the text: ${JSON.stringify(span)}`);
  }
  // The layout only runs on a file that reads well; the others were read above already.
  if (!diagnostics.some(isError) && !("text" in format(text)))
    throw new Error("a whole file was not formatted");
  return failed;
};

test("10,000 random byte strings", () => {
  let failed = 0;
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
      if (chew(Buffer.from(bytes).toString(bytes.length % 2 === 0 ? "utf8" : "latin1"))) failed++;
    }),
    { numRuns: 10_000 },
  );
  expect(failed).toBeGreaterThan(8000);
});

const words = vocabulary.flatMap((t) => (typeof t.PATTERN === "string" ? [t.PATTERN] : (t.LABEL ?? t.name)));
const pieces = [
  ...words,
  "{",
  "}",
  "(",
  ")",
  "[",
  "]",
  "0",
  "1",
  "7",
  "1e309",
  "2147483648",
  "-",
  "all",
  "\n",
  "//",
];

const short = `let base = 256
attention small {
  heads 8  head_dim 32  causal true
  branch i in 0..3 { segment base * 2 ** i  dilation 2 ** i }
  branches segments [4, all] dilations [1, 2]  offset head % dilation
  compat torchscale
}
model jargon {
  kind decoder  vocab 256  dim 256  layers 4  ffn 1024 gelu
  attention small  position xpos base 512  norm sub_ln
}
schedule small on wgsl { rows 64  keys 32 }
`;

test("10,000 mutated specs", () => {
  const edit = fc.record({
    at: fc.double({ min: 0, max: 1, noNaN: true }),
    length: fc.nat({ max: 30 }),
    what: fc.constantFrom("delete", "insert", "repeat", "swap"),
    piece: fc.constantFrom(...pieces),
  });
  let [failed, passed] = [0, 0];
  fc.assert(
    fc.property(fc.array(edit, { minLength: 1, maxLength: 4 }), (edits) => {
      let text = short;
      for (const { at, length, what, piece } of edits) {
        const i = Math.floor(at * text.length);
        const [before, cut, after] = [text.slice(0, i), text.slice(i, i + length), text.slice(i + length)];
        if (what === "delete") text = before + after;
        else if (what === "insert") text = `${before} ${piece} ${cut}${after}`;
        else if (what === "repeat") text = before + cut + cut + after;
        else text = after + before + cut;
      }
      if (chew(text)) failed++;
      else passed++;
    }),
    { numRuns: 10_000 },
  );
  expect(failed).toBeGreaterThan(1000);
  expect(passed).toBeGreaterThan(100);
});

/** Programs that are large, deep or costly on purpose; each must be answered within a second or two. */
const hostile: Readonly<Record<string, string>> = {
  "brackets to the bottom": "let a = " + "(".repeat(20_000),
  "closing brackets": ")".repeat(40_000),
  "open blocks": "attention a {".repeat(20_000),
  "loops in loops": "attention a { branch i in 0..2 ".repeat(10_000),
  "a sum without end": "let a = " + Array(20_000).fill("1").join("+"),
  "a tower of powers": "let a = " + Array(20_000).fill("2").join("**"),
  "a row of signs": "let a = " + "-".repeat(20_000) + "1",
  "a chain of lets, backwards": Array.from({ length: 8_000 }, (_, i) => `let a${i} = a${i + 1}`).join("\n"),
  "one great cycle": Array.from({ length: 8_000 }, (_, i) => `let a${i} = a${(i + 1) % 8_000}`).join("\n"),
  "unknown words": "foo bar\n".repeat(20_000),
  "one long line": "foo ) ".repeat(20_000),
  "control characters": "\u0000\u001b[31m".repeat(20_000),
  "the widest tables": Array.from(
    { length: 20 },
    (_, i) =>
      `attention a${i} { heads 65536 head_dim 1 branch i in 0..16 { segment 2 ** 20 dilation 2 ** (i + 1) } offset (${Array(30).fill("head").join("+")}) % dilation }`,
  ).join("\n"),
  "coverage without end": Array.from(
    { length: 30 },
    (_, i) =>
      `attention a${i} { heads 4096 head_dim 1 branches segments [${Array(200).fill(65521).join()}] dilations [${Array.from({ length: 200 }, (_, j) => 2 + j).join()}] }`,
  ).join("\n"),
  "ranges past everything":
    "attention a { heads 1 head_dim 1 branch i in 0..2147483647 { segment i dilation 1 } }",
  "a long list": `attention a { heads 1 head_dim 1 branches segments [${Array(20_000).fill("1").join()}] dilations [1] }`,
  "four megabytes of nothing": " ".repeat(4 * 2 ** 20 + 1),
  "one item, no end": "attention a { " + "heads 1 ".repeat(20_000),
};

test.each(Object.entries(hostile))("hostile: %s", (_, text) => {
  const start = performance.now();
  chew(text);
  const took = performance.now() - start;
  expect(took).toBeLessThan(15_000);
});
