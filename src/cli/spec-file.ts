/** Spec files: reading them, saying what is wrong with them, finding what a command names. */
import { inputError } from "../../runtime/input-error.ts";
import type * as Ast from "../ast.ts";
import { readSpec } from "../compile.ts";
import type { CompiledProgram } from "../compile.ts";
import { isError, nearest, render, toGithub, toJson } from "../diagnostic.ts";
import type { Diagnostic, Source } from "../diagnostic.ts";
import type { AttentionSpec, ModelSpec, Spec } from "../spec.ts";
import { styled } from "./io.ts";
import { readText } from "./read-file.ts";
import type { Io } from "./io.ts";

export const formats = ["pretty", "json", "github"] as const;
export type Format = (typeof formats)[number];

/** Pretty diagnostics are for people, on the error stream; the others are results. */
export function report(
  found: readonly { readonly diagnostics: readonly Diagnostic[]; readonly source: Source | null }[],
  format: Format,
  io: Io,
): void {
  if (format === "json") {
    const all = found.flatMap(({ diagnostics, source }) => toJson(diagnostics, source));
    io.out(`${JSON.stringify(all, null, 2)}\n`);
    return;
  }
  for (const { diagnostics, source } of found)
    if (format === "github") io.out(toGithub(diagnostics, source));
    else if (diagnostics.length > 0) io.err(`${coloured(render(diagnostics, source), io)}\n`);
}

const coloured = (text: string, io: Io): string =>
  text
    .replace(
      /^(.*?)\berror(\[[\w-]+\])?:/gm,
      (_, before: string, code: string | undefined) =>
        before + styled(io, ["bold", "red"], `error${code ?? ""}`) + ":",
    )
    .replace(
      /^(.*?)\bwarning(\[[\w-]+\])?:/gm,
      (_, before: string, code: string | undefined) =>
        before + styled(io, ["bold", "yellow"], `warning${code ?? ""}`) + ":",
    );

export type SpecFile = {
  readonly source: Source;
  readonly ast: Ast.Program;
  readonly spec: Spec | null;
  readonly diagnostics: readonly Diagnostic[];
};

export async function readSpecFile(path: string): Promise<SpecFile> {
  const text = await readText(path);
  return { source: { file: path, text }, ...readSpec(text, path) };
}

/** The spec of a file, its diagnostics reported; null when they hold an error. */
export async function checkedSpec(
  path: string,
  format: Format,
  io: Io,
): Promise<(SpecFile & { readonly spec: Spec }) | null> {
  const file = await readSpecFile(path);
  const { spec, diagnostics } = file;
  // Where results go to the output too, a file without problems must not add to them.
  if (spec === null || format !== "json") report([file], format, io);
  if (spec === null || diagnostics.some(isError)) return null;
  return { ...file, spec };
}

/** An attention or a model. */
export type Item = CompiledProgram["item"];

/** The item of a name, or all of them. Throws an InputError that says what names there are. */
export function itemsNamed(spec: Spec, name: string | undefined, file: string): readonly Item[] {
  const all: readonly Item[] = [
    ...spec.attentions.map((a) => ({ kind: "attention", spec: a }) as const),
    ...spec.models.map((m) => ({ kind: "model", spec: m }) as const),
  ];
  const found = name === undefined ? all : all.filter((i) => i.spec.name === name);
  if (found.length > 0) return found;
  if (name === undefined || all.length === 0)
    throw inputError(`${file} declares neither an attention nor a model`);
  const names = all.map((i) => i.spec.name);
  const meant = nearest(name, names);
  const hint = meant === null ? "" : ` Did you mean '${meant}'?`;
  throw inputError(`${file} has no '${name}'; it has ${names.map((n) => `'${n}'`).join(", ")}.${hint}`);
}

/** The attention of a name. Throws an InputError that says what names there are. */
export const attentionNamed = (spec: Spec, name: string, file: string): AttentionSpec =>
  named(spec.attentions, name, file, "attention", () =>
    spec.models.some((m) => m.name === name) ? `'${name}' is a model; \`heddle run\` runs models` : null,
  );

export const modelNamed = (spec: Spec, name: string, file: string): ModelSpec =>
  named(spec.models, name, file, "model", () =>
    spec.attentions.some((a) => a.name === name)
      ? `'${name}' is an attention; \`heddle exec\` runs attentions`
      : null,
  );

function named<T extends { readonly name: string }>(
  items: readonly T[],
  name: string,
  file: string,
  kind: string,
  other: () => string | null,
): T {
  const found = items.find((i) => i.name === name);
  if (found !== undefined) return found;
  const names = items.map((i) => i.name);
  const meant = nearest(name, names);
  const hint = meant === null ? "" : ` Did you mean '${meant}'?`;
  const there = names.length === 0 ? `it has no ${kind}s` : `it has ${names.map((n) => `'${n}'`).join(", ")}`;
  throw inputError(`${other() ?? `${file} has no ${kind} '${name}'`}; ${there}.${hint}`);
}
