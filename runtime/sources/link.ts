/** A file on a server: what every request for it says, and what is waited for. */
import { inputError } from "../input-error.ts";
import { conditionOf, reasonOf, refuse } from "./answers.ts";
import type { Version } from "./answers.ts";
import { passing } from "./attempts.ts";
import type { Patience } from "./attempts.ts";
import type { RangeCache } from "./cache.ts";
import { sourceError } from "./source-error.ts";

export type UrlOptions = Partial<Patience> & {
  /** Sent with every request, e.g. `{ Authorization: "Bearer …" }`. */
  readonly headers?: Readonly<Record<string, string>>;
  /** As for `fetch`: whether cookies go along. */
  readonly credentials?: "omit" | "same-origin" | "include";
  /**
   * Bytes that may be downloaded as a whole, and stay in memory, from a server that gives no ranges. 0 (default): such a server is an error.
   */
  readonly wholeUpTo?: number;
  /** Where ranges are kept, so that a reload does not fetch them again. Used where the server tells versions of the file apart. */
  readonly cache?: RangeCache;
  /** Ends the opening. A read has a signal of its own. */
  readonly signal?: AbortSignal;
  /** Instead of the host's `fetch`. */
  readonly fetch?: (url: string, init: RequestInit) => Promise<Response>;
};

export type Link = {
  readonly url: string;
  /** The address without what may be secret in it. */
  readonly name: string;
  readonly options: UrlOptions;
  readonly patience: Patience;
};

/** An address as a whole; relative ones are of this page. @throws InputError. */
export function absolute(address: string | URL): URL {
  let url: URL | undefined;
  try {
    url = new URL(address, page()?.href);
  } catch {
    // Said below.
  }
  if (url?.protocol !== "http:" && url?.protocol !== "https:")
    throw inputError(`'${address}' is no address that begins with http:// or https://`);
  return url;
}

const page = () =>
  (globalThis as { readonly location?: { readonly href: string; readonly origin: string } }).location;

/** Whether the address is of this page's own server: others must allow each header by name. Node and Deno may ask any server. */
const isOwn = (url: string): boolean => {
  const here = page();
  return here === undefined || new URL(url).origin === here.origin;
};

/** Sends a request for [start, end). Resolves to an answer of status 200, 206 or 416. */
export async function ask(
  link: Link,
  start: number,
  end: number,
  signal: AbortSignal,
  version?: Version,
): Promise<Response> {
  const { url, options } = link;
  const condition = version === undefined || !isOwn(url) ? undefined : conditionOf(version);
  const headers = {
    ...options.headers,
    Range: `bytes=${start}-${end - 1}`,
    ...(condition === undefined ? {} : { "If-Range": condition }),
  };
  const { credentials, cache, fetch: fetched = fetch } = options;
  let response: Response;
  try {
    response = await fetched(url, {
      headers,
      signal,
      ...(credentials === undefined ? {} : { credentials }),
      // Kept once is enough.
      ...(cache === undefined ? {} : { cache: "no-store" as const }),
    });
  } catch (error) {
    const foreign = isOwn(url) ? "" : "; a page reads other servers only where they allow it (CORS)";
    throw passing(`${reasonOf(error)}${foreign}`, error);
  }
  refuse(link.name, response);
  return response;
}

export const gaveUp =
  ({ name }: Link, what: () => string) =>
  (attempts: number, last: Error) =>
    sourceError(
      name,
      "network",
      `${what()} failed ${attempts} time${attempts === 1 ? "" : "s"} in a row: ${last.message}`,
      { cause: last.cause ?? last },
    );
