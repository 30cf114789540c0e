/** Building the shim: once, whole, by any number of processes; and one line where it cannot be built. */
import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import {
  existsSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { createRequire } from "node:module";
import { join, resolve } from "node:path";
import { promisify } from "node:util";
import { afterAll, afterEach, describe, expect, it } from "vitest";
import { buildShim } from "../../runtime/cuda/build.ts";
import { cacheFolder } from "../../runtime/cuda/folder.ts";
import { loadShim } from "../../runtime/cuda/load.ts";
import { folder, heddle } from "../cli/session.ts";
import { haveCompiler } from "./stub.ts";

const ok = await haveCompiler();
const here = folder();
const { PATH } = process.env;
afterEach(() => {
  process.env["PATH"] = PATH;
});
afterAll(here.remove);

/** Compiled in half the time, where the time of the real one is not the subject. */
const flags = ["-O0"];
let caches = 0;
const newCache = () => here.at(`cache${caches++}`);
const entries = (cache: string) => readdirSync(join(cache, "shim"));

describe.skipIf(!ok)("the shim", () => {
  it("is built once, without a warning, and found again", async () => {
    const cache = newCache();
    const built = await buildShim({ cache, flags: ["-Werror"] });
    expect(built).toMatchObject({ fresh: true, warnings: "" });
    expect(statSync(built.path).size).toBe(built.bytes);
    expect(built.bytes).toBeLessThan(200_000);
    // Two seconds are promised of a machine of its own; tests run beside others.
    expect(built.milliseconds).toBeLessThan(10_000);
    console.log(`shim: built in ${built.milliseconds.toFixed(0)} ms, ${built.bytes} bytes`);
    const again = await buildShim({ cache, flags: ["-Werror"] });
    expect(again).toMatchObject({ path: built.path, bytes: built.bytes, fresh: false, milliseconds: 0 });
    expect(entries(cache)).toHaveLength(1);
    expect(statSync(join(cache, "shim")).mode & 0o77).toBe(0);
  });

  it("needs nothing of CUDA: it links to the C library alone", async () => {
    const { path } = await buildShim({ cache: newCache(), flags });
    const text = readFileSync(path).toString("latin1");
    expect(text).not.toMatch(/libcuda\.so|libnvrtc\.so/);
  });

  it("is another for other flags, and built anew by force", async () => {
    const cache = newCache();
    const one = await buildShim({ cache, flags });
    const other = await buildShim({ cache, flags: ["-O0", "-g"] });
    expect(other.path).not.toBe(one.path);
    expect(await buildShim({ cache, flags, force: true })).toMatchObject({ path: one.path, fresh: true });
    expect(entries(cache)).toHaveLength(2);
  });

  it("is built anew where what the cache has is torn, altered or misnamed", async () => {
    const cache = newCache();
    const { path, bytes } = await buildShim({ cache, flags });
    const good = readFileSync(path);
    const harms = [
      () => truncateSync(path, 1000),
      () => writeFileSync(path, good.map((b, i) => (i === 2000 ? b ^ 1 : b))), // prettier-ignore
      () => writeFileSync(path, ""),
      () => renameSync(path, path.replace(/\w{40}\.node$/, `${"0".repeat(40)}.node`)),
      () => rmSync(path),
    ];
    for (const harm of harms) {
      harm();
      expect(await buildShim({ cache, flags })).toMatchObject({ path, bytes, fresh: true });
      expect(await buildShim({ cache, flags })).toMatchObject({ path, bytes, fresh: false });
    }
    expect(entries(cache)).toHaveLength(2);
  });

  it("is built anew where it does not load here", async () => {
    const cache = newCache();
    const { path } = await buildShim({ cache, flags });
    const foreign = "\x7fELF of another machine";
    const digest = createHash("sha256").update(foreign).digest("hex").slice(0, 40);
    rmSync(path);
    writeFileSync(path.replace(/\w{40}\.node$/, `${digest}.node`), foreign);
    expect((await buildShim({ cache, flags })).bytes).toBe(foreign.length);
    const { shim, built } = await loadShim({ cache, flags });
    expect(built).toMatchObject({ path, fresh: true });
    expect(entries(cache)).toHaveLength(1);
    expect(() => shim.deviceCount({} as never)).toThrow(
      /deviceCount: driver: expected a handle of kind driver/,
    );
  });

  it("serves without a compiler once it was built", async () => {
    const cache = newCache();
    const built = await buildShim({ cache, flags });
    process.env["PATH"] = here.at("nothing");
    expect(await buildShim({ cache, flags })).toMatchObject({
      path: built.path,
      fresh: false,
      compiler: null,
    });
    await expect(buildShim({ cache: newCache(), flags })).rejects.toMatchObject({
      code: "NO_COMPILER",
      message:
        "build: no C compiler was found (looked for cc, gcc, clang, c++): install one (Debian: apt install gcc libc6-dev)",
    });
  });

  it("says in one line why it cannot be built", async () => {
    await expect(buildShim({ cache: newCache(), compiler: "no-such-cc" })).rejects.toMatchObject({
      code: "NO_COMPILER",
      message: expect.stringMatching(/looked for no-such-cc/),
    });
    const cache = newCache();
    await expect(buildShim({ cache, flags: ["-include", "/nowhere.h"] })).rejects.toMatchObject({
      code: "BUILD_FAILED",
      message: expect.stringMatching(/^build: cc could not compile the shim: .*\/nowhere\.h: No such file/),
      log: expect.stringMatching(/nowhere/),
    });
    expect(entries(cache)).toEqual([]);
    writeFileSync(here.at("file"), "");
    await expect(buildShim({ cache: here.at("file") })).rejects.toMatchObject({
      code: "NO_CACHE",
      message: expect.stringMatching(/cannot be written \(ENOTDIR\): set HEDDLE_CACHE/),
    });
    const { platform } = process;
    Object.defineProperty(process, "platform", { value: "darwin" });
    await expect(buildShim({ cache, flags })).rejects.toMatchObject({
      code: "UNSUPPORTED_HOST",
      message: "build: CUDA is used on Linux only, and this is darwin",
    });
    Object.defineProperty(process, "platform", { value: platform });
  });

  it("is built by several at a time, and all get one that works", async () => {
    const cache = newCache();
    const all = await Promise.all([0, 1, 2, 3].map((i) => buildShim({ cache, flags, force: i === 3 })));
    expect(new Set(all.map((b) => b.path)).size).toBe(1);
    expect(entries(cache)).toHaveLength(1);
    await loadShim({ cache, flags });
  });

  it.skipIf(!existsSync(resolve("dist/src/cli/main.js")))(
    "is built by several processes at a time",
    async () => {
      const cache = newCache();
      const run = () =>
        promisify(execFile)(process.execPath, [resolve("dist/src/cli/main.js"), "cuda", "build", "--json"], {
          env: { ...process.env, HEDDLE_CACHE: cache },
        });
      const all = await Promise.all(Array.from({ length: 5 }, run));
      const paths = all.map((r) => (JSON.parse(r.stdout) as { readonly path: string }).path);
      expect(new Set(paths).size).toBe(1);
      expect(entries(cache)).toHaveLength(1);
      expect(createRequire(import.meta.url)(paths[0] ?? "")).toHaveProperty("openDriver");
    },
  );

  it("`heddle cuda build` says what it did", async () => {
    const cache = newCache();
    const first = await heddle(["cuda", "build"], { HEDDLE_CACHE: cache });
    expect(first).toMatchObject({ code: 0, err: "" });
    expect(first.out).toMatch(/\.node\n[\d.]+ kB, built in [\d.]+ s, \w+: .*\d\n$/);
    const second = await heddle(["cuda", "build"], { HEDDLE_CACHE: cache });
    expect(second.out).toMatch(/, in the cache already, /);
    const json = await heddle(["cuda", "build", "--force", "--json"], { HEDDLE_CACHE: cache });
    expect(JSON.parse(json.out)).toMatchObject({ fresh: true, bytes: expect.any(Number) });
    const failed = await heddle(["cuda", "build", "--compiler", "no-such-cc"], { HEDDLE_CACHE: cache });
    expect(failed).toMatchObject({ code: 1, out: "" });
    expect(failed.err).toBe(
      "error: no C compiler was found (looked for no-such-cc): install one (Debian: apt install gcc libc6-dev)\n",
    );
  });
});

describe("the cache's folder", () => {
  it("is $HEDDLE_CACHE, else $XDG_CACHE_HOME/heddle, else ~/.cache/heddle", () => {
    mkdirSync(here.at("home"), { recursive: true });
    expect(cacheFolder({ HEDDLE_CACHE: "/a", XDG_CACHE_HOME: "/b" })).toBe("/a");
    expect(cacheFolder({ HEDDLE_CACHE: "", XDG_CACHE_HOME: "/b" })).toBe("/b/heddle");
    expect(cacheFolder({ XDG_CACHE_HOME: "relative" })).toMatch(/\/\.cache\/heddle$/);
    expect(cacheFolder({})).toMatch(/\/\.cache\/heddle$/);
  });
});
