/** Whatever JavaScript hands to the shim, the process lives: hostile calls run in a child, which must end by itself with 0. */
import { execFile } from "node:child_process";
import { beforeAll, describe, expect, it } from "vitest";
import { haveCompiler, stub, stubLibraries, testShim } from "./stub.ts";

const ok = await haveCompiler();
const driver = stub();

type Ended = {
  readonly code: number | null;
  readonly signal: string | null;
  readonly out: string;
  readonly err: string;
};

describe.skipIf(!ok)("hostile calls", () => {
  let paths: readonly string[] = [];
  beforeAll(async () => {
    const { built } = await testShim();
    const libraries = stubLibraries();
    paths = [built.path, libraries.driver, libraries.nvrtc[13], libraries.cublasLt];
  });

  const child = (mode: string): Promise<Ended> =>
    new Promise((resolve) => {
      const args = ["--expose-gc", "test/native/hostile.mjs", mode, ...paths];
      const ran = execFile(
        process.execPath,
        args,
        { env: { ...process.env, ...driver.env } },
        (_, out, err) => resolve({ code: ran.exitCode, signal: ran.signalCode, out, err }),
      );
    });

  it.each([
    ["arguments", "every argument of every function, of every type and at every edge", 15_000],
    ["handles", "handles that end in the middle of a call, a work, a capture", 300],
    ["workers", "threads that end while works are under way", 100],
    ["exit", "the process ends while works are under way", 1],
  ] as const)("%s: %s", async (mode, _, least) => {
    driver.order("slow cuStreamSynchronize 3", "slow cuMemAlloc_v2 1", "slow nvrtcCompileProgram 3");
    if (mode === "arguments") driver.order();
    const ended = await child(mode);
    expect(ended).toMatchObject({ code: 0, signal: null, err: "" });
    const { threw, passed } = JSON.parse(ended.out) as { readonly threw: number; readonly passed: number };
    expect(threw + passed).toBeGreaterThan(least);
    console.log(`hostile ${mode}: ${threw} calls refused, ${passed} passed`);
    // What was refused reached no driver, and what passed was fit for one.
    expect(driver.wrongs()).toEqual([]);
    // Works that a process does not wait for end with it, and so does what they hold.
    if (mode !== "exit") expect(driver.alive()).toEqual({});
  });
});
