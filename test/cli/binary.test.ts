/** The command as it is installed, where the project has been built: by file, through a link, into a closed pipe. */
import { execFile, spawnSync } from "node:child_process";
import { existsSync, symlinkSync, writeFileSync } from "node:fs";
import { resolve } from "node:path";
import { promisify } from "node:util";
import { afterAll, describe, expect, it } from "vitest";
import { version } from "../../src/cli/version.ts";
import { folder, tiny } from "./session.ts";

const built = resolve("dist/src/cli/main.js");
const here = folder();
afterAll(here.remove);

describe.skipIf(!existsSync(built))("the built command", () => {
  it("runs by its file and through a link, as npm installs it", async () => {
    symlinkSync(built, here.at("heddle"));
    for (const script of [built, here.at("heddle")])
      expect((await promisify(execFile)(process.execPath, [script, "--version"])).stdout).toBe(
        `${version}\n`,
      );
  });

  it("ends with the codes of the help", () => {
    writeFileSync(here.at("ok.heddle"), tiny);
    writeFileSync(here.at("bad.heddle"), "attention a { heads 0 }");
    const code = (...args: string[]) => spawnSync(process.execPath, [built, ...args]).status;
    expect(code("check", here.at("ok.heddle"))).toBe(0);
    expect(code("check", here.at("bad.heddle"))).toBe(1);
    expect(code("check", "--nonsense")).toBe(2);
  });
});
