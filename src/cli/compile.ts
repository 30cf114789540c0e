/** `heddle compile`: a spec file to its generated TypeScript module. */
import { createHash } from "node:crypto";
import { readFile, stat } from "node:fs/promises";
import { basename, dirname, join, sep } from "node:path";
import { printModule } from "../../codegen/ts/module.ts";
import { writeWhole } from "../../runtime/node.ts";
import { compileSpec } from "../compile.ts";
import { exitCodes } from "./failure.ts";
import type { ExitCode } from "./failure.ts";
import { bytesText, progressOn, styled, traceTo } from "./io.ts";
import type { Io } from "./io.ts";
import { checkedSpec } from "./spec-file.ts";
import type { Format } from "./spec-file.ts";
import { version } from "./version.ts";

export type CompileCommand = {
  readonly target: "wasm";
  /** A file, or a folder (one that exists, or a path that ends in a separator). */
  readonly out?: string;
  readonly check: boolean;
  readonly format: Format;
};

export async function compile(path: string, options: CompileCommand, io: Io): Promise<ExitCode> {
  const file = await checkedSpec(path, options.format, io);
  if (file === null) return exitCodes.diagnostics;
  const trace = traceTo(io);
  const progress = progressOn(io);
  progress.say(`compiling ${path}`);
  const programs = compileSpec(file.spec, {
    target: options.target,
    ...(trace === undefined ? {} : { trace }),
  });
  progress.end();
  const [first] = programs;
  if (first === undefined) throw new Error("heddle: internal: a checked spec compiled to nothing");
  const provenance = {
    version,
    file: basename(path),
    sha256: createHash("sha256").update(file.source.text).digest("hex"),
  };
  const items = programs.map(({ item, program }) => ({ item, plan: program.plan }));
  const text = printModule(provenance, items, first.program.wasm);
  const target = await targetOf(path, options.out);

  if (options.check) {
    const there = await readFile(target, "utf8").catch(() => null);
    if (there === text) {
      io.out(`${target} is up to date\n`);
      return exitCodes.ok;
    }
    const why =
      there === null ? "is missing" : "is stale: it was made from another spec or by another heddle";
    io.err(
      `${styled(io, "red", "error")}: ${target} ${why}.\nRun \`heddle compile ${path}\` to make it anew.\n`,
    );
    return exitCodes.diagnostics;
  }
  await writeWhole(target, text);
  const { kernels, bytes, ms } = first.stats;
  const names = programs.map((p) => p.name).join(", ");
  io.out(
    `${target}: ${names}; ${kernels} kernel${kernels === 1 ? "" : "s"}, ${bytesText(bytes.base)} of WebAssembly ` +
      `(${bytesText(bytes.relaxed)} relaxed), compiled in ${Math.round(ms)} ms\n`,
  );
  return exitCodes.ok;
}

/** `dir/small.heddle` → `dir/small.generated.ts`, unless told otherwise. */
async function targetOf(path: string, out: string | undefined): Promise<string> {
  const name = `${basename(path).replace(/\.heddle$/, "")}.generated.ts`;
  if (out === undefined) return join(dirname(path), name);
  const folder =
    out.endsWith("/") ||
    out.endsWith(sep) ||
    (await stat(out).then(
      (s) => s.isDirectory(),
      () => false,
    ));
  return folder ? join(out, name) : out;
}
