import { expect, test } from "vitest";
import { read } from "../../grammar/index.ts";
import { diagnostic, nearest, render, toGithub, toJson } from "../../src/diagnostic.ts";

const at = (text: string, needle: string) => {
  const start = text.indexOf(needle);
  return diagnostic("unknown-name", { start, end: start + needle.length }, { name: needle });
};
const shown = (text: string, needle: string) => {
  const lines = render([at(text, needle)], { file: "f.heddle", text }).split("\n");
  return [lines[2], lines[3]];
};

test("carets stand under the text: tabs, wide and combining characters, control characters, long lines", () => {
  expect(shown("\tlet\tabc", "abc")).toEqual(["1 |     let abc", "  |         ^^^"]);
  expect(shown("// 漢字 abc", "abc")).toEqual(["1 | // 漢字 abc", "  |         ^^^"]);
  expect(shown("// e\u0301 abc", "abc")).toEqual(["1 | // e\u0301 abc", "  |      ^^^"]);
  expect(shown("// \u001b[31m abc", "abc")).toEqual(["1 | // \ufffd[31m abc", "  |          ^^^"]);
  expect(shown("// 🙂 abc", "abc")).toEqual(["1 | // 🙂 abc", "  |       ^^^"]);
  const [line, marks] = shown(`${"x".repeat(500)} abc ${"y".repeat(500)}`, "abc");
  expect(line?.length).toBeLessThan(140);
  expect(line?.slice(marks?.indexOf("^"), (marks?.lastIndexOf("^") ?? 0) + 1)).toBe("abc");
});

test("columns count code points, lines any line end", () => {
  const text = "// 🙂🙂\r\nlet a = 1\rlet 🙂 = bcd";
  const [json] = toJson([at(text, "bcd")], { file: "f", text });
  expect(json).toMatchObject({ line: 3, column: 9, endLine: 3, endColumn: 12 });
});

test("the end of a file points behind its last token", () => {
  for (const text of ["attention a {", "attention a {\n\n\n  // nothing more\n"]) {
    const { diagnostics } = read(text);
    expect(toJson(diagnostics, { file: "f", text })).toMatchObject([
      { code: "unexpected-end", line: 1, column: 14 },
    ]);
  }
  expect(render([diagnostic("empty-program", { start: 0, end: 0 }, {})], { file: "f", text: "" })).toBe(
    "f:1:1: warning[empty-program]: Nothing is declared here.\n  |\n1 |\n  | ^\n",
  );
});

test("a span over several lines is marked to the end of its first", () => {
  const text = "offsets [\n  1\n]";
  const d = diagnostic("offsets-shape", { start: 0, end: text.length }, { found: "1", expected: "2" });
  expect(render([d], { file: "f", text })).toContain("1 | offsets [\n  | ^^^^^^^^^\n");
  expect(toJson([d], { file: "f", text })).toMatchObject([{ endLine: 3, endColumn: 2 }]);
});

test("as data", () => {
  const text = "let a = b";
  const d = diagnostic(
    "unknown-name",
    { start: 8, end: 9 },
    { name: "`b`" },
    { hint: "h", found: "f", expected: "e" },
  );
  expect(toJson([d], { file: "x.heddle", text })).toEqual([
    {
      code: "unknown-name",
      severity: "error",
      message: "Nothing is called `b` here.",
      file: "x.heddle",
      path: null,
      line: 1,
      column: 9,
      endLine: 1,
      endColumn: 10,
      found: "f",
      expected: "e",
      hint: "h",
    },
  ]);
  const built = diagnostic("unknown-name", { path: 'attention("a").offset' }, { name: "`b`" });
  expect(toJson([built], null)).toMatchObject([
    { file: null, path: 'attention("a").offset', line: null, hint: null },
  ]);
});

test("for GitHub, with its own characters escaped", () => {
  const text = "let a = b";
  const d = diagnostic(
    "unknown-name",
    { start: 8, end: 9 },
    { name: "50%\r\n::error::" },
    { hint: "a, b: c" },
  );
  expect(toGithub([d], { file: "dir,a:b%.heddle", text })).toBe(
    "::error file=dir%2Ca%3Ab%25.heddle,line=1,endLine=1,col=9,endColumn=10,title=unknown-name::" +
      "Nothing is called 50%25%0D%0A::error:: here.%0AHint: a, b: c\n",
  );
  const warning = diagnostic("vocab-unused", { path: 'model("m")' }, { model: "`m`" });
  expect(toGithub([warning], null)).toBe(
    '::warning title=vocab-unused::model("m"): `m` has neither an embedding nor a head; its vocab is not used.\n',
  );
});

test("did you mean", () => {
  const fields = ["heads", "head_dim", "causal", "padding"];
  expect(nearest("haeds", fields)).toBe("heads");
  expect(nearest("headDim", fields)).toBe("head_dim");
  expect(nearest("head-dim", fields)).toBe("head_dim");
  expect(nearest("CAUSAL", fields)).toBe("causal");
  expect(nearest("width", fields)).toBeNull();
  expect(nearest("x", ["a", "b"])).toBeNull();
  expect(nearest("", fields)).toBeNull();
});

test("the table asks for its arguments", () => {
  const refused = [
    // @ts-expect-error the sentence needs a name
    () => diagnostic("unknown-name", { start: 0, end: 0 }, {}),
    // @ts-expect-error there is no such code
    () => diagnostic("unknown-nonsense", { start: 0, end: 0 }, {}),
  ];
  expect(refused).toHaveLength(2);
});
