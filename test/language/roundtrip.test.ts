import fc from "fast-check";
import { expect, test } from "vitest";
import { format, print, read } from "../../grammar/index.ts";
import { tokenize } from "../../grammar/tokens.ts";
import { bare, example, program } from "./programs.ts";

const formatted = (text: string): string => {
  const result = format(text, "test.heddle");
  if (!("text" in result)) throw new Error(result.diagnostics.map((d) => d.message).join("\n") + "\n" + text);
  return result.text;
};

/** The same tokens with other white space between them, and comments where a line ends. */
const messy = (text: string, choices: readonly number[]): string => {
  const { tokens } = tokenize(text);
  let out = "";
  tokens.forEach((token, i) => {
    const before = tokens[i - 1];
    const newline = before !== undefined && (token.startLine ?? 0) > (before.endLine ?? 0);
    const choice = choices[i % choices.length] ?? 0;
    // Line ends stay: two of the grammar's rules look at them.
    if (before !== undefined) {
      out += newline
        ? [`\n`, ` // c ${i}  \r\n`, `\n\n\n\t`, `\n// own line\n   `, `\r\n`][choice % 5]
        : [" ", "   ", "\t"][choice % 3];
    }
    out += token.image;
  });
  return out + ["", "\n", "  // end", "\n\n// end\n\n"][(choices[0] ?? 0) % 4];
};

const choices = fc.array(fc.nat({ max: 100 }), { minLength: 1, maxLength: 40 });

test("read(print(ast)) is the same AST", () => {
  fc.assert(
    fc.property(program, (ast) => {
      const text = print(ast);
      const back = read(text, "test.heddle");
      expect(back.diagnostics.filter((d) => d.severity === "error")).toEqual([]);
      expect(bare(back.ast.items)).toEqual(bare(ast.items));
    }),
    { numRuns: 1500 },
  );
});

test("what print writes is already formatted", () => {
  fc.assert(
    fc.property(program, (ast) => {
      const text = print(ast);
      expect(formatted(text)).toBe(text);
    }),
    { numRuns: 400 },
  );
});

test("the formatter is idempotent, keeps every comment and never changes the AST", () => {
  fc.assert(
    fc.property(program, choices, (ast, c) => {
      const text = messy(print(ast), c);
      const once = formatted(text);
      expect(formatted(once)).toBe(once);
      expect(bare(read(once).ast.items)).toEqual(bare(ast.items));
      const comments = (s: string) => tokenize(s).comments.map((t) => t.image.trimEnd());
      expect(comments(once)).toEqual(comments(text));
    }),
    { numRuns: 800 },
  );
});

test("the example of language.md is laid out as it stands there", () => {
  expect(formatted(example)).toBe(example);
  const squeezed = example.replaceAll(/ {2,}/g, " ");
  expect(squeezed).not.toBe(example);
  expect(formatted(squeezed)).toBe(example);
});

test("comments, blank lines and loops keep their places", () => {
  const text = `

// head
let   a=1+2   // one
let b = - a**2


attention   x
{ // open

heads 4 head_dim
  8
     // own line
branches segments [ 1,
 2 ] dilations [ 1 , 1 ]
  branch i in 0 .. 3 {
segment 4*max( i,1 )
   // inside
 dilation 1 }
offset floor( head/(heads) ) }
// tail`;
  expect(formatted(text)).toMatchInlineSnapshot(`
    "// head
    let a = 1 + 2  // one
    let b = -a ** 2

    attention x {  // open

      heads 4  head_dim
          8
      // own line
      branches segments [1,
          2]  dilations [1, 1]
      branch i in 0..3 {
        segment 4 * max(i, 1)
        // inside
        dilation 1
      }
      offset floor(head / (heads))
    }
    // tail
    "
  `);
});

test("a file with errors is not touched", () => {
  const result = format("attention a { heads ", "a.heddle");
  expect("diagnostics" in result && result.diagnostics.map((d) => d.code)).toEqual(["unexpected-end"]);
});

test("an empty file stays empty, a lone comment stays", () => {
  expect(formatted("")).toBe("");
  expect(formatted(" \n\t")).toBe("");
  expect(formatted("\ufeff  //  x ")).toBe("//  x\n");
});
