/** What a command ends with, and how an error becomes that. */
import { debugLevel, styled } from "./io.ts";
import type { Io } from "./io.ts";
import type { WeightsError } from "../../runtime/weights.ts";
import { version } from "./version.ts";
import { weightHints } from "./weight-hints.ts";

export const exitCodes = { ok: 0, diagnostics: 1, usage: 2, internal: 70 } as const;
export type ExitCode = (typeof exitCodes)[keyof typeof exitCodes];

/** Errors that say what a user's file, wish or machine lacks. */
const ofUsers = new Set([
  "InputError",
  "WeightsError",
  "SafetensorsError",
  "SourceError",
  "ScheduleError",
  "DeviceError",
]);

/** name "UsageError": the command line itself makes no sense. */
export const usageError = (message: string): Error =>
  Object.assign(new Error(message), { name: "UsageError" });

/** Says what went wrong and gives the exit code. Only an internal error asks to be reported; its stack needs HEDDLE_DEBUG. */
export function failed(error: unknown, io: Io): ExitCode {
  const say = (text: string) => io.err(`${styled(io, "red", "error")}: ${text}\n`);
  const known = error instanceof Error ? error : new Error(String(error));
  if (known.name === "UsageError") {
    say(`${known.message}\nSee \`heddle --help\`.`);
    return exitCodes.usage;
  }
  const system = systemSentence(known);
  if (system !== null) {
    say(system);
    return exitCodes.diagnostics;
  }
  const own = known.message.startsWith("heddle: ") && !known.message.startsWith("heddle: internal");
  if (ofUsers.has(known.name) || own) {
    say(known.message.replace(/^heddle: /, ""));
    const { problems } = known as Partial<WeightsError>;
    for (const hint of problems === undefined ? [] : weightHints(problems)) io.err(`  Hint: ${hint}.\n`);
    return exitCodes.diagnostics;
  }
  say(
    `${known.message}\nThis is a fault of heddle ${version}, not of your files. Please report it with the spec and the command` +
      (debugLevel(io) > 0 ? `:\n${known.stack ?? ""}` : "; HEDDLE_DEBUG=1 shows where it happened."),
  );
  return exitCodes.internal;
}

const sentences: Readonly<Record<string, (path: string) => string>> = {
  ENOENT: (path) => `there is no file '${path}'`,
  EACCES: (path) => `no permission for '${path}'`,
  EPERM: (path) => `no permission for '${path}'`,
  EISDIR: (path) => `'${path}' is a folder, not a file`,
  ENOTDIR: (path) => `'${path}' leads through a file that is not a folder`,
  ENOSPC: (path) => `no space is left for '${path}'`,
  EROFS: (path) => `'${path}' lies on a read-only file system`,
};

/** A sentence for an error of the file system; null for any other. */
function systemSentence(error: Error): string | null {
  const { code, path } = error as Error & { readonly code?: unknown; readonly path?: unknown };
  if (typeof code !== "string" || typeof path !== "string") return null;
  return sentences[code]?.(path) ?? `${error.message}`;
}
