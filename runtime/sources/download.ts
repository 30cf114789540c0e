/** Ranges of a file that was opened: of the same version, however often the connection is cut. */
import { contentRange, drop, pour, sameVersion, versionOf, versionText } from "./answers.ts";
import type { Version } from "./answers.ts";
import { passing, persist } from "./attempts.ts";
import { ask, gaveUp } from "./link.ts";
import type { Link } from "./link.ts";
import { sourceError } from "./source-error.ts";

/** A file as it was when it was opened. */
export type Known = Link & { readonly size: number; readonly version: Version };

/** Exactly [start, end), into all of `bytes`. Rejects with a SourceError: "http", "network", "ranges" or "changed". */
export function download(
  known: Known,
  start: number,
  end: number,
  bytes: Uint8Array,
  signal: AbortSignal | undefined,
): Promise<void> {
  let got = 0;
  return persist(
    known.patience,
    signal,
    async (cut, alive) => {
      const response = await ask(known, start + got, end, cut, known.version);
      const problem = misfit(known, response, start + got);
      if (problem !== undefined) {
        drop(response);
        throw problem;
      }
      await pour(response, (piece) => {
        alive(true);
        const part = piece.subarray(0, bytes.length - got);
        bytes.set(part, got);
        got += part.length;
        return got < bytes.length;
      });
      if (got < bytes.length) throw passing(`the connection ended at byte ${start + got}, before ${end}`);
    },
    gaveUp(known, () => `reading byte ${start + got} of ${known.size}`),
  );
}

/** What is wrong with an answer to a request for bytes from `start` on. */
function misfit(known: Known, response: Response, start: number): Error | undefined {
  const { name, size, version } = known;
  const range = contentRange(response);
  const now = versionOf(response);
  const changed = (how: string) =>
    sourceError(name, "changed", `the file changed while it was read (${how}): open it anew`);
  if (!sameVersion(version, now))
    return changed(`${versionText(version) ?? "?"} is now ${versionText(now) ?? "?"}`);
  if (response.status === 416) return changed(`it had ${size} bytes, and has no byte ${start} now`);
  if (range !== undefined && range.size !== size) return changed(`it had ${size} bytes, now ${range.size}`);
  if (response.status === 200 || range === undefined)
    return sourceError(name, "ranges", "the server gave ranges when the file was opened, and gives none now");
  if (range.start !== start)
    return sourceError(name, "ranges", `the server gave bytes from ${range.start} on, not from ${start} on`);
  return undefined;
}
