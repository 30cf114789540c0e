/** The C compiler of this machine. */
import { execa } from "execa";

export type Compiler = {
  /** As it is called. */
  readonly command: string;
  /** The first line of `--version`. */
  readonly version: string;
};

/** In the order in which they are tried. */
export const compilers = ["cc", "gcc", "clang", "c++"] as const;

/** Null where there is none. */
export async function findCompiler(command?: string): Promise<Compiler | null> {
  for (const name of command === undefined ? compilers : [command]) {
    const { failed, stdout } = await execa(name, ["--version"], {
      reject: false,
      timeout: 10_000,
      env: { LC_ALL: "C" },
    });
    const [version = ""] = stdout.split("\n");
    if (!failed && version !== "") return { command: name, version };
  }
  return null;
}
