/** A server of byte ranges on this machine that misbehaves as it is told, and a `fetch` that does the same without a network. */
import { open } from "node:fs/promises";
import { createServer } from "node:http";
import type { ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";

export type Served = {
  readonly size: number;
  readonly read: (start: number, end: number) => Uint8Array | Promise<Uint8Array>;
  readonly etag?: string;
  readonly modified?: string;
};
export const inMemory = (bytes: Uint8Array, more: Omit<Served, "size" | "read"> = {}): Served => ({
  size: bytes.length,
  read: (start, end) => bytes.subarray(start, end),
  ...more,
});

/** One request as it came, [start, end) where it asked for a range. */
export type Asked = {
  readonly path: string;
  readonly start?: number;
  readonly end?: number;
  readonly headers: Readonly<Record<string, string>>;
};
export type Manners = {
  /** Instead of the file. */
  readonly status?: (
    n: number,
  ) => { readonly status: number; readonly headers?: Record<string, string> } | undefined;
  /** Bytes of the body after which the connection is cut, or falls silent. */
  readonly cut?: (n: number, asked: Asked) => number | undefined;
  readonly silent?: boolean;
  readonly ranges?: boolean;
  /** Headers instead of the right ones; an empty text leaves one out. */
  readonly headers?: (asked: Asked) => Record<string, string>;
};

type Answer = {
  readonly status: number;
  readonly headers: Record<string, string>;
  readonly start: number;
  readonly end: number;
  readonly file?: Served;
};

function answerTo(file: Served | undefined, asked: Asked, n: number, manners: Manners): Answer {
  const nothing = { start: 0, end: 0 };
  const told = manners.status?.(n);
  if (told !== undefined) return { status: told.status, headers: told.headers ?? {}, ...nothing };
  if (file === undefined) return { status: 404, headers: {}, ...nothing };
  const version = {
    ...(file.etag === undefined ? {} : { etag: file.etag }),
    ...(file.modified === undefined ? {} : { "last-modified": file.modified }),
  };
  const condition = asked.headers["if-range"];
  const stale = condition !== undefined && condition !== file.etag && condition !== file.modified;
  const { start = 0, end = file.size } = asked;
  if (manners.ranges === false || asked.start === undefined || stale)
    return {
      status: 200,
      headers: { ...version, "content-length": String(file.size) },
      start: 0,
      end: file.size,
      file,
    };
  if (start >= file.size)
    return { status: 416, headers: { ...version, "content-range": `bytes */${file.size}` }, ...nothing };
  const stop = Math.min(end, file.size);
  const headers = {
    ...version,
    "content-range": `bytes ${start}-${stop - 1}/${file.size}`,
    "content-length": String(stop - start),
  };
  return { status: 206, headers, start, end: stop, file };
}

function askedBy(path: string, headers: Readonly<Record<string, string>>): Asked {
  const range = /^bytes=(\d+)-(\d+)$/.exec(headers["range"] ?? "");
  return range === null
    ? { path, headers }
    : { path, headers, start: Number(range[1]), end: Number(range[2]) + 1 };
}

function withHeaders(answer: Answer, asked: Asked, manners: Manners): Record<string, string> {
  const all = { ...answer.headers, ...manners.headers?.(asked) };
  return Object.fromEntries(Object.entries(all).filter(([, text]) => text !== ""));
}

/** Until a response takes more, or nobody listens any more. */
const drained = (response: ServerResponse): Promise<void> =>
  new Promise((resolve) => {
    const done = () => {
      response.off("drain", done).off("close", done);
      resolve();
    };
    response.on("drain", done).on("close", done);
  });

export type Files = Readonly<Record<string, Served>>;
export type RangeServer = {
  /** Ends in a slash. */
  readonly url: string;
  readonly asked: Asked[];
  /** Bytes of bodies that were sent. */
  readonly sent: () => number;
  behave(manners: Manners): void;
  serve(files: Files): void;
  readonly close: () => Promise<void>;
};

export async function rangeServer(first: Files, politely: Manners = {}): Promise<RangeServer> {
  let [files, manners, bytes] = [first, politely, 0];
  const asked: Asked[] = [];
  const server = createServer(async (request, response) => {
    const path = decodeURIComponent((request.url ?? "/").slice(1));
    const one = askedBy(path, request.headers as Record<string, string>);
    const n = asked.push(one) - 1;
    const answer = answerTo(files[path.replace(/\?.*$/, "")], one, n, manners);
    response.writeHead(answer.status, withHeaders(answer, one, manners));
    const cut = manners.cut?.(n, one);
    const end = Math.min(answer.end, answer.start + (cut ?? Infinity));
    // Headers that wait for a body would never come before a silence.
    response.flushHeaders();
    for (let at = answer.start; at < end; at += 1 << 16) {
      const piece = await answer.file?.read(at, Math.min(end, at + (1 << 16)));
      if (piece === undefined || response.destroyed) break;
      bytes += piece.length;
      if (!response.write(piece)) await drained(response);
    }
    if (cut === undefined) response.end();
    // What was written is to arrive before the connection ends.
    else if (manners.silent !== true) setTimeout(() => response.socket?.resetAndDestroy(), 5);
  });
  await new Promise<void>((ready) => server.listen(0, "127.0.0.1", ready));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/`,
    asked,
    sent: () => bytes,
    behave: (next) => (manners = next),
    serve: (next) => (files = next),
    close: async () => {
      const closed = new Promise((done) => server.close(done));
      server.closeAllConnections();
      await closed;
    },
  };
}

/** A `fetch` for any address of `files`, without a network. */
export function fetchFrom(files: Files, manners: Manners = {}) {
  const asked: Asked[] = [];
  const fetch = async (url: string, init: RequestInit): Promise<Response> => {
    init.signal?.throwIfAborted();
    const headers = Object.fromEntries(new Headers(init.headers).entries());
    const path = decodeURIComponent(new URL(url).pathname.slice(1));
    const one = askedBy(path, headers);
    const n = asked.push(one) - 1;
    const answer = answerTo(files[path], one, n, manners);
    const cut = manners.cut?.(n, one) ?? Infinity;
    const piece = await answer.file?.read(answer.start, Math.min(answer.end, answer.start + cut));
    return new Response((piece ?? new Uint8Array(0)).slice(), {
      status: answer.status,
      headers: withHeaders(answer, one, manners),
    });
  };
  return { fetch, asked };
}

/** A file of the disk, for as long as the process lives. */
export async function onDisk(path: string, more: Omit<Served, "size" | "read"> = {}): Promise<Served> {
  const handle = await open(path, "r");
  const { size } = await handle.stat();
  return {
    size,
    read: async (start, end) => {
      const bytes = new Uint8Array(end - start);
      await handle.read(bytes, 0, bytes.length, start);
      return bytes;
    },
    ...more,
  };
}

/** mulberry32: numbers in [0, 1), the same for the same seed. */
export function numbers(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}
