/** What keeps bytes from coming. */
export type SourceCode =
  /** The server answered with a status that is an error: `status`. */
  | "http"
  /** No answer, or answers cut off again and again. */
  | "network"
  /** The server gives no ranges, or others than were asked for. */
  | "ranges"
  /** The file is another one than when it was opened. */
  | "changed";
/** name "SourceError"; the message names the address. */
export type SourceError = Error & { readonly code: SourceCode; readonly status?: number };

export function sourceError(
  name: string,
  code: SourceCode,
  problem: string,
  more: { readonly status?: number; readonly cause?: unknown } = {},
): SourceError {
  const { status, cause } = more;
  const error = new Error(`${name}: ${problem}`, cause === undefined ? {} : { cause });
  return Object.assign(error, { name: "SourceError", code, ...(status === undefined ? {} : { status }) });
}
