/** Types of serve.mjs, for tests. */
export type ServeOptions = {
  /** The folder that is served, with what lies in it; this repository unless given. */
  readonly root?: string;
  /** 0 (default) takes a free one. */
  readonly port?: number;
  /** Whether pages are cross-origin isolated (default), so that they have threads. */
  readonly isolated?: boolean;
};
/** Path of the page, from the server's root. */
export const PAGE: string;
/** Starts a server on this machine's own address. `url` ends in a slash. Rejects where the port is taken. */
export function serve(
  options?: ServeOptions,
): Promise<{ readonly url: string; readonly close: () => Promise<void> }>;
