/**
 * Bytes by HTTP ranges: a file on a server, of which only what is needed is fetched. A connection that is cut is taken up again where it
 * stopped; a file that changes meanwhile is an error.
 */
import { memorySource } from "../safetensors.ts";
import type { ByteSource } from "../safetensors.ts";
import { foreign } from "./foreign.ts";
import { contentRange, drop, pour, versionOf, versionText } from "./answers.ts";
import type { Version } from "./answers.ts";
import { isPassing, passing, persist } from "./attempts.ts";
import type { Alive } from "./attempts.ts";
import { kept } from "./cache.ts";
import { download } from "./download.ts";
import type { Known } from "./download.ts";
import { absolute, ask, gaveUp } from "./link.ts";
import type { Link, UrlOptions } from "./link.ts";
import { sourceError } from "./source-error.ts";
import { windowed } from "./windows.ts";
import type { FetchRange } from "./windows.ts";

export type { UrlOptions } from "./link.ts";

/** The first request: a header is likely to fit into it. */
const FIRST = 2 ** 16;

/**
 * Opens a file on a server with one request for its first bytes. Rejects with a SourceError: "http" (a status), "network" (no answer, after
 * retries), "ranges" (the server gives none, and `wholeUpTo` is less than the file); reads reject with these, or with "changed".
 */
export async function urlSource(address: string | URL, options: UrlOptions = {}): Promise<ByteSource> {
  const { retries = 5, backoffMs = 250, stallMs = 30_000, signal, cache } = options;
  const { href: url, origin, pathname } = absolute(address);
  const name = origin + pathname;
  const link: Link = { url, name, options, patience: { retries, backoffMs, stallMs } };
  const { bytes, got, size, version } = await open(link);
  const known: Known = { ...link, size, version };
  if (got < bytes.length) await download(known, got, bytes.length, bytes.subarray(got), signal);
  if (size === bytes.length) return { ...memorySource(bytes, name), foreign };
  const text = versionText(version);
  const store = text === undefined ? undefined : await cache?.open(url, text).catch(() => undefined);
  const fetchRange: FetchRange = (start, end, to, signal) =>
    kept(store, start, end, to, () => download(known, start, end, to, signal));
  return { name, size, foreign, read: windowed(size, bytes, fetchRange) };
}

type Opened = {
  readonly size: number;
  readonly version: Version;
  /** Of the first bytes, or of all, `got` are there. */
  readonly bytes: Uint8Array;
  readonly got: number;
};

/** Size and version of the file, and its first bytes; all of them from a server without ranges. */
function open(link: Link): Promise<Opened> {
  const { name, options, patience } = link;
  return persist(
    patience,
    options.signal,
    async (signal, alive) => {
      const response = await ask(link, 0, FIRST, signal);
      const version = versionOf(response);
      // A file of no bytes has no first one.
      if (response.status === 416) drop(response);
      if (response.status === 416) return { size: 0, version, bytes: new Uint8Array(0), got: 0 };
      if (response.status === 200) return { version, ...(await whole(link, response, alive)) };
      const range = contentRange(response);
      if (range?.start !== 0 || range.end < Math.min(FIRST, range.size)) {
        drop(response);
        throw sourceError(name, "ranges", unlike(response));
      }
      const { size } = range;
      const bytes = new Uint8Array(Math.min(size, FIRST));
      // A cut here is taken up like any other, now that size and version are known.
      const got = await fill(bytes, 0, response, alive).catch((error: unknown) => {
        if (isPassing(error)) return 0;
        throw error;
      });
      return { size, version, bytes, got };
    },
    gaveUp(link, () => "opening it"),
  );
}

/** What is wrong with a range that is not the first one. */
function unlike({ headers }: Response): string {
  const found = headers.get("content-range");
  return found === null
    ? "the server sends ranges without Content-Range, or a page may not see it (Access-Control-Expose-Headers: Content-Range, ETag)"
    : `the server answered a request for the first ${FIRST} bytes with '${found.slice(0, 80)}'`;
}

/** Puts a body into `bytes` from `at` on; returns where it ended. What is too much is left. */
async function fill(bytes: Uint8Array, at: number, response: Response, alive: Alive): Promise<number> {
  let end = at;
  await pour(response, (piece) => {
    alive(false);
    const part = piece.subarray(0, bytes.length - end);
    bytes.set(part, end);
    end += part.length;
    return end < bytes.length;
  });
  return end;
}

/** The whole file from an answer without a range. */
async function whole({ name, options }: Link, response: Response, alive: Alive) {
  const { wholeUpTo = 0 } = options;
  const encoded = response.headers.get("content-encoding") !== null;
  const length = response.headers.get("content-length");
  const told = length === null || encoded ? undefined : Number(length);
  const tooMuch = (what: string) =>
    sourceError(
      name,
      "ranges",
      `the server gives no ranges of files, and ${what}${wholeUpTo === 0 ? "" : `, more than the ${wholeUpTo} that may be downloaded as a whole`}: ` +
        "use a server with ranges, download the file first, or allow a whole download by `wholeUpTo`",
    );
  if (told === undefined ? wholeUpTo === 0 : told > wholeUpTo) {
    drop(response);
    throw tooMuch(told === undefined ? "does not tell its size" : `this one has ${told} bytes`);
  }
  if (told !== undefined) {
    const bytes = new Uint8Array(told);
    const got = await fill(bytes, 0, response, alive);
    if (got < told) throw passing(`the connection ended after ${got} of ${told} bytes`);
    return { size: told, bytes, got };
  }
  const pieces: Uint8Array[] = [];
  let size = 0;
  await pour(response, (piece) => {
    alive(false);
    pieces.push(piece);
    size += piece.length;
    return size <= wholeUpTo;
  });
  if (size > wholeUpTo) throw tooMuch("this one does not end in time");
  const bytes = new Uint8Array(size);
  let at = 0;
  for (const piece of pieces) {
    bytes.set(piece, at);
    at += piece.length;
  }
  return { size, bytes, got: size };
}
