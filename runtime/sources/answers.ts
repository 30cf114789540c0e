/** What a server's answer to a request for a range says. */
import { passing } from "./attempts.ts";
import { sourceError } from "./source-error.ts";

/** Which version of a file an answer is of: what later ones are compared with. Empty texts where the server does not say. */
export type Version = { readonly etag: string; readonly modified: string };

export const versionOf = ({ headers }: Response): Version => ({
  etag: headers.get("etag") ?? "",
  modified: headers.get("last-modified") ?? "",
});

/** A text that differs between versions; undefined where the server says nothing of them. */
export const versionText = ({ etag, modified }: Version): string | undefined =>
  etag !== "" ? etag : modified !== "" ? modified : undefined;

/** Whether two answers may be of one version. Servers behind one address do not always send the same headers. */
export const sameVersion = (a: Version, b: Version): boolean =>
  a.etag !== "" && b.etag !== ""
    ? a.etag === b.etag
    : a.modified === "" || b.modified === "" || a.modified === b.modified;

/** For `If-Range`: weak tags do not promise the same bytes. */
export const conditionOf = ({ etag, modified }: Version): string | undefined =>
  etag !== "" && !etag.startsWith("W/") ? etag : modified !== "" ? modified : undefined;

/** Bytes [start, end) of `size` that a 206 brings; undefined where it does not say. */
export function contentRange(
  response: Response,
): { readonly start: number; readonly end: number; readonly size: number } | undefined {
  // Bytes of a compressed file are not those of the file.
  if ((response.headers.get("content-encoding") ?? "identity") !== "identity") return undefined;
  const found = /^bytes (\d{1,15})-(\d{1,15})\/(\d{1,15})$/.exec(response.headers.get("content-range") ?? "");
  if (found === null) return undefined;
  const [, from, last, size] = found.map(Number);
  if (from === undefined || last === undefined || size === undefined) return undefined;
  return last < from || last >= size ? undefined : { start: from, end: last + 1, size };
}

/** Statuses that pass: the server is busy or away. */
const BUSY = new Set([408, 425, 429, 500, 502, 503, 504]);

/** @throws what an answer that is neither 200, 206 nor 416 means. */
export function refuse(name: string, response: Response): void {
  const { status, statusText } = response;
  if (status === 200 || status === 206 || status === 416) return;
  drop(response);
  const said = `${status}${statusText === "" ? "" : ` ${statusText}`}`;
  if (BUSY.has(status)) {
    const seconds = Number(response.headers.get("retry-after") ?? 0);
    throw passing(`the server answered ${said}`, undefined, Number.isFinite(seconds) ? 1000 * seconds : 0);
  }
  const hint =
    status === 401 || status === 403
      ? "; it may want `headers`, such as Authorization, or `credentials`"
      : "";
  throw sourceError(name, "http", `the server answered ${said}${hint}`, { status });
}

/** Ends an answer whose body is not wanted. */
export const drop = (response: Response): void => void response.body?.cancel().catch(() => undefined);

/** Hands the pieces of a body to `take` until it wants no more. A cut connection is a failure that passes. */
export async function pour(response: Response, take: (bytes: Uint8Array) => boolean): Promise<void> {
  const reader = response.body?.getReader();
  if (reader === undefined) return;
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done || !take(value as Uint8Array)) return;
    }
  } catch (error) {
    throw passing(`the connection was cut: ${reasonOf(error)}`, error);
  } finally {
    // After an end this does nothing; before one it gives the connection back.
    reader.cancel().catch(() => undefined);
  }
}

/** The message of an error and of what caused it: Node hides the reason of a failed fetch there. */
export function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const { cause } = error;
  return cause instanceof Error && cause.message !== ""
    ? `${error.message} (${cause.message})`
    : error.message;
}
