import { readdirSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { read } from "../../grammar/index.ts";
import { check } from "../../src/check.ts";
import { shaderDiagnostics } from "../../src/cli/validate.ts";
import { codes, inOrder, render } from "../../src/diagnostic.ts";
import type { Diagnostic } from "../../src/diagnostic.ts";
import { importConfig } from "../../src/import.ts";
import { importWeights } from "../../src/import/weights.ts";
import { cases } from "./cases.ts";
import type { Case } from "./cases.ts";

const folder = fileURLToPath(new URL("../fixtures/language/", import.meta.url));
// Read before any test writes: a code without its fixture fails even where vitest would make one.
const before = readdirSync(folder).sort();

const problems = (
  c: Case,
): { readonly source: string; readonly all: readonly Diagnostic[]; readonly shown: string } => {
  if ("refused" in c) {
    const { ast } = read(c.text, "spec.heddle");
    const source = { file: "spec.heddle", text: c.text };
    const { shader: text, line, message } = c.refused;
    const problem = { shader: { name: "attention_a_first", text, programs: ["a"] }, line, message };
    const all = shaderDiagnostics([problem], ast, source);
    return { source: c.text, all, shown: render(all, source) };
  }
  if ("text" in c) {
    const { ast, diagnostics } = read(c.text, "spec.heddle");
    const all = inOrder([...diagnostics, ...check(ast).diagnostics]);
    return {
      source: c.shown ?? c.text,
      all,
      shown: render(all.length > 12 ? all.slice(-3) : all, { file: "spec.heddle", text: c.text }),
    };
  }
  if ("config" in c) {
    const { ast, diagnostics } = importConfig(c.config);
    expect(ast === null).toBe(diagnostics.some((d) => d.severity === "error"));
    return { source: JSON.stringify(c.config, null, 2), all: diagnostics, shown: render(diagnostics, null) };
  }
  if ("weights" in c) {
    const { ast, diagnostics } = importWeights(new Map(Object.entries(c.weights)));
    expect(ast === null).toBe(diagnostics.some((d) => d.severity === "error"));
    return { source: JSON.stringify(c.weights, null, 2), all: diagnostics, shown: render(diagnostics, null) };
  }
  const { diagnostics } = check(c.built);
  return { source: c.shown, all: diagnostics, shown: render(diagnostics, null) };
};

test.each(codes)("%s", async (code) => {
  const { source, all, shown } = problems(cases[code]);
  expect(all.map((d) => d.code)).toContain(code);
  const text = `----- SOURCE\n${source.trimEnd()}\n\n----- DIAGNOSTICS\n${shown}`;
  await expect(text).toMatchFileSnapshot(`${folder}${code}.txt`);
});

test("every code has its fixture, and no fixture is left over", () => {
  expect(before).toEqual(codes.map((code) => `${code}.txt`).sort());
});

const five = `let base = 256
attention small {
  haeds     8
  head_dim  32
  causal    yes
  branch    segment base  dilation 512
  offset    head % % dilation
}
model jargon {
  kind decoder  vocab 256  dim 256  layers 4  ffn 1024
  attention smal
}
`;

test("a file with five mistakes gets five diagnostics", () => {
  const { ast, diagnostics } = read(five, "five.heddle");
  const checked = check(ast);
  expect(checked.spec).toBeNull();
  const all = inOrder([...diagnostics, ...checked.diagnostics]);
  expect(all.map((d) => d.code)).toEqual([
    "unknown-field",
    "unknown-word",
    "dilation-exceeds-segment",
    "syntax",
    "unknown-attention",
  ]);
  expect(render(all, { file: "five.heddle", text: five })).toMatchInlineSnapshot(`
    "five.heddle:3:3: error[unknown-field]: An attention has no field \`haeds\`.
      |
    3 |   haeds     8
      |   ^^^^^
      Hint: Did you mean \`heads\`?

    five.heddle:5:13: error[unknown-word]: \`causal\` cannot be \`yes\`.
      |
    5 |   causal    yes
      |             ^^^
      expected: \`true\` or \`false\`

    five.heddle:6:36: error[dilation-exceeds-segment]: A dilation of 512 does not fit into a segment of 256.
      |
    6 |   branch    segment base  dilation 512
      |                                    ^^^
      expected: at most 256
      Hint: Each segment must hold at least one row of every head.

    five.heddle:7:20: error[syntax]: Expected a number, a name or \`(\` after \`%\`, found \`%\`.
      |
    7 |   offset    head % % dilation
      |                    ^

    five.heddle:11:13: error[unknown-attention]: No attention is called \`smal\`.
       |
    11 |   attention smal
       |             ^^^^
      Hint: Did you mean \`small\`?
    "
  `);
});

test("syntax errors in one item do not hide what is wrong in the others, and drag nothing after them", () => {
  const text = `attention a { heads (4 head_dim 8 branch segment 4 dilation 1 }
attention b heads 4 head_dim 8 branch segment 4 dilation 8 }
model { dim 3 }
schedule a on wgpu { rows 64 }
attention c { heads 0 head_dim 8 branch segment 4 dilation 1 `;
  const { ast, diagnostics } = read(text);
  const all = inOrder([...diagnostics, ...check(ast).diagnostics]);
  expect(
    all.map((d) => `${d.code} ${"start" in d.span ? text.slice(d.span.start, d.span.end) : ""}`),
  ).toEqual([
    "syntax head_dim",
    "syntax heads",
    "dilation-exceeds-segment 8",
    "syntax {",
    "unknown-word wgpu",
    "out-of-range 0",
    "unexpected-end ",
  ]);
});
