import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { afterAll, describe, expect, it } from "vitest";
import { main } from "../../src/cli/main.ts";
import { version } from "../../src/cli/version.ts";
import { folder, heddle, tiny, tinyModel } from "./session.ts";

const here = folder();
afterAll(here.remove);
const write = (name: string, text: string): string => {
  writeFileSync(here.at(name), text);
  return here.at(name);
};

const wrong = `attention a {
  heads 8
  head_dim 32
  branch segment 4 dilation 8
  paddin zero
}
`;

describe("heddle", () => {
  it("has the package's version", async () => {
    const { version: packaged } = JSON.parse(readFileSync("package.json", "utf8")) as { version: string };
    expect(await heddle(["--version"])).toEqual({ code: 0, out: `${packaged}\n`, err: "" });
    expect(version).toBe(packaged);
  });

  it("has help with examples for every command", async () => {
    const { code, out } = await heddle(["--help"]);
    expect(code).toBe(0);
    for (const command of ["check", "fmt", "compile", "exec", "run", "import", "explain", "devices"]) {
      expect(out).toContain(command);
      const help = await heddle([command, "--help"]);
      expect(help.code).toBe(0);
      expect(help.out).toMatch(new RegExp(`Examples:\\n {2}\\$ heddle ${command}`));
    }
  });

  it.each([
    [["chek"], /unknown command 'chek'[^]*Did you mean check/],
    [["check"], /missing required argument/],
    [["check", "--format", "xml", "a"], /Allowed choices are pretty, json, github/],
    [["exec", "a", "b"], /required option '--inputs/],
    [["explain", "a"], /required option '--length/],
    [["explain", "a", "--length", "0"], /whole number from 1/],
    [["explain", "a", "--length", "1.5e3"], /whole number from 1/],
    [["compile", "a", "--target", "metal"], /Allowed choices are ts, wgsl, cuda/],
    [["compile", "a", "--target", "cuda", "--sm", "9"], /numbers such as 80 or 90a/],
    [["compile", "a", "--target", "cuda", "--emit", "exe"], /Files are cu, ptx, cubin/],
    [["compile", "a", "--kernels", "metal"], /Targets are wasm, wgsl, cuda, native, several/],
    [["run", "a", "b", "--weights", "w", "--bits"], /either --inputs or --text/],
    [
      ["run", "a", "b", "--weights", "w", "--text", "t", "--inputs", "i", "--bits"],
      /either --inputs or --text/,
    ],
    [["run", "a", "b", "--weights", "w", "--text", "t"], /nothing to do/],
    [[], /Usage: heddle/],
  ])("%j is a usage error", async (argv, message) => {
    const { code, out, err } = await heddle(argv);
    expect(err).toMatch(message);
    expect({ code, out }).toEqual({ code: 2, out: "" });
  });

  it("names a file that is not there", async () => {
    const { code, err } = await heddle(["check", here.at("nowhere.heddle")]);
    expect(err).toBe(`error: there is no file '${here.at("nowhere.heddle")}'\n`);
    expect(code).toBe(1);
    expect((await heddle(["check", here.path])).code).toBe(1);
  });
});

describe("heddle check", () => {
  it("says ok", async () => {
    const path = write("ok.heddle", tinyModel);
    expect(await heddle(["check", path])).toMatchObject({
      code: 0,
      out: `${path}: ok, 1 attention, 1 model\n`,
    });
  });

  it("says everything that is wrong, with place and repair", async () => {
    const path = write("wrong.heddle", wrong);
    const { code, out, err } = await heddle(["check", path]);
    expect({ code, out }).toEqual({ code: 1, out: "" });
    expect(err).toContain(`${path}:4:`);
    expect(err).toContain(`${path}:5:3: error[`);
    expect(err).toContain("`padding`");
  });

  it("colours only what says how bad it is, and only where colours are wanted", async () => {
    const path = write("wrong.heddle", wrong);
    const plain = (await heddle(["check", path])).err;
    let err = "";
    const io = { out: () => undefined, env: {}, terminal: false, colour: true };
    expect(await main(["check", path], { ...io, err: (text) => void (err += text) })).toBe(1);
    expect(plain).not.toContain("\x1b");
    expect(err).toContain("\x1b[1m\x1b[31merror[");
    // oxlint-disable-next-line no-control-regex
    expect(err.replaceAll(/\x1b\[\d+m/g, "")).toBe(plain);
  });

  it("gives diagnostics as data and to GitHub", async () => {
    const path = write("wrong.heddle", wrong);
    const json = await heddle(["check", "--json", path]);
    const found = JSON.parse(json.out) as { line: number; severity: string; file: string }[];
    expect(json.code).toBe(1);
    expect(found.filter((d) => d.severity === "error").map((d) => [d.file, d.line])).toEqual([
      [path, 4],
      [path, 5],
    ]);
    const github = await heddle(["check", "--format", "github", path]);
    expect(github.out).toMatch(/^::error file=.*wrong\.heddle,line=4/m);
    expect(JSON.parse((await heddle(["check", "--json", write("ok.heddle", tiny)])).out)).toEqual([]);
  });
});

describe("heddle fmt", () => {
  const untidy =
    "attention  a{heads 2 head_dim 8 // two\n branch segment 8 dilation 2 branch segment 4 dilation 1}";

  it("lays out in place, once and for all", async () => {
    const path = write("untidy.heddle", untidy);
    expect(await heddle(["fmt", "--check", path])).toMatchObject({ code: 1 });
    expect(readFileSync(path, "utf8")).toBe(untidy);
    expect(await heddle(["fmt", path])).toMatchObject({ code: 0, out: `${path}\n` });
    const text = readFileSync(path, "utf8");
    expect(text).not.toBe(untidy);
    expect(text).toContain("// two");
    expect(await heddle(["fmt", "--check", path])).toEqual({ code: 0, out: "", err: "" });
    expect(readdirSync(here.path).filter((f) => f.endsWith(".tmp"))).toEqual([]);
  });

  it("leaves a file with syntax errors alone", async () => {
    const path = write("broken.heddle", "attention { heads");
    expect(await heddle(["fmt", path])).toMatchObject({ code: 1 });
    expect(readFileSync(path, "utf8")).toBe("attention { heads");
  });
});

describe("heddle compile", () => {
  it("writes beside the spec, and --check tells a stale module", async () => {
    const path = write("small.heddle", tiny);
    const target = here.at("small.generated.ts");
    expect(await heddle(["compile", "--check", path])).toMatchObject({ code: 1 });
    expect(existsSync(target)).toBe(false);
    const made = await heddle(["compile", path]);
    expect(made).toMatchObject({ code: 0 });
    expect(made.out).toMatch(/small\.generated\.ts: tiny; \d+ kernels?, [\d.]+ kB of WebAssembly/);
    const first = readFileSync(target, "utf8");
    expect(first).toMatch(/^\/\/ Generated by heddle \d+\.\d+\.\d+ from small\.heddle\./);
    expect(await heddle(["compile", "--check", path])).toMatchObject({ code: 0 });

    await heddle(["compile", path]);
    expect(readFileSync(target, "utf8")).toBe(first);

    // Even a comment counts: the module names the text it was made from.
    write("small.heddle", `// changed\n${tiny}`);
    const stale = await heddle(["compile", "--check", path]);
    expect(stale.code).toBe(1);
    expect(stale.err).toMatch(/small\.generated\.ts is stale/);
    expect(readFileSync(target, "utf8")).toBe(first);
  });

  it("does not depend on where it stands", async () => {
    mkdirSync(here.at("deep"), { recursive: true });
    write("same.heddle", tiny);
    write("deep/same.heddle", tiny);
    await heddle(["compile", here.at("same.heddle"), "--out", here.at("deep/other.ts")]);
    await heddle(["compile", here.at("deep/same.heddle"), "--out", `${here.at("deep")}/`]);
    expect(readFileSync(here.at("deep/other.ts"), "utf8")).toBe(
      readFileSync(here.at("deep/same.generated.ts"), "utf8"),
    );
  });

  it("writes nothing for a spec that is wrong", async () => {
    const path = write("bad.heddle", wrong);
    expect(await heddle(["compile", path])).toMatchObject({ code: 1, out: "" });
    expect(existsSync(here.at("bad.generated.ts"))).toBe(false);
  });

  it("says why a hinted schedule is not possible", async () => {
    const path = write("hint.heddle", `${tiny}\nschedule tiny on wasm { kind dense }\n`);
    const { code, err } = await heddle(["compile", path]);
    expect(code).toBe(1);
    expect(err).toContain("'dense' computes one branch");
  });

  it("traces at HEDDLE_DEBUG", async () => {
    const path = write("small.heddle", tiny);
    const level = async (n: string) => (await heddle(["compile", path], { HEDDLE_DEBUG: n })).err;
    expect(await level("1")).toContain("plan tiny");
    expect(await level("1")).not.toContain("schedule tiny");
    expect(await level("2")).toContain("schedule tiny on wasm any N");
    expect(await level("5")).toMatch(/module of \d+ kernels/);
  });
});
