// @ts-check
/**
 * A static server for the example page: `npm run browser`, or `node examples/browser/serve.mjs [port]`.
 *
 * It serves the files of this repository to this machine, nothing outside it and nothing hidden. Threads of WebAssembly need shared
 * memory, which browsers give only to pages that are cross-origin isolated: that takes the two headers COOP and COEP.
 */
import { createReadStream } from "node:fs";
import { realpath, stat } from "node:fs/promises";
import { createServer } from "node:http";
import { extname, join, sep } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

const repository = fileURLToPath(new URL("../../", import.meta.url));
export const PAGE = "/examples/browser/";

/** @type {Readonly<Record<string, string>>} */
const types = {
  ".html": "text/html; charset=utf-8",
  ".css": "text/css; charset=utf-8",
  ".js": "text/javascript; charset=utf-8",
  ".mjs": "text/javascript; charset=utf-8",
  ".json": "application/json; charset=utf-8",
  ".map": "application/json; charset=utf-8",
  ".ts": "text/plain; charset=utf-8",
  ".txt": "text/plain; charset=utf-8",
  ".svg": "image/svg+xml",
};

/**
 * The file that a URL path names, or null where there is none to serve: outside the root (by `..` or by a link), hidden, no file.
 * @param {string} root
 * @param {string} path percent-encoded
 */
async function fileOf(root, path) {
  let name;
  try {
    name = decodeURIComponent(path);
  } catch {
    return null;
  }
  if (name.includes("\0") || name.includes("\\") || name.split("/").some((part) => part.startsWith(".")))
    return null;
  try {
    const file = await realpath(join(root, name.endsWith("/") ? `${name}index.html` : name));
    const inside = await realpath(root);
    const { size, isFile } = await stat(file).then((s) => ({ size: s.size, isFile: s.isFile() }));
    return isFile && file.startsWith(inside + sep) ? { file, size } : null;
  } catch {
    return null;
  }
}

/**
 * The one range of a `Range` header as [start, end), the whole file where there is none, null where it lies outside.
 * @param {string | undefined} header
 * @param {number} size
 * @returns {{ start: number, end: number, partial: boolean } | null}
 */
function rangeOf(header, size) {
  const found = /^bytes=(\d*)-(\d*)$/.exec(header ?? "");
  const [, from = "", to = ""] = found ?? [];
  if (found === null || (from === "" && to === "")) return { start: 0, end: size, partial: false };
  const start = from === "" ? Math.max(0, size - Number(to)) : Number(from);
  const end = from === "" || to === "" ? size : Math.min(size, Number(to) + 1);
  return start < end ? { start, end, partial: true } : null;
}

/**
 * Starts a server on this machine's own address.
 * @param {{ root?: string, port?: number, isolated?: boolean }} [options] `port` 0 takes a free one. `isolated`: whether pages are
 * cross-origin isolated (default), so that they have threads.
 * @returns {Promise<{ url: string, close: () => Promise<void> }>} `url` ends in a slash. Rejects where the port is taken.
 */
export async function serve({ root = repository, port = 0, isolated = true } = {}) {
  const server = createServer(async (request, response) => {
    const { method = "", headers } = request;
    if (method !== "GET" && method !== "HEAD") {
      response.writeHead(405, { Allow: "GET, HEAD" }).end();
      return;
    }
    const path = request.url ?? "/";
    const { pathname } = new URL(path.startsWith("/") ? `http://localhost${path}` : "http://localhost/404");
    if (pathname === "/") {
      response.writeHead(302, { Location: PAGE }).end();
      return;
    }
    const found = await fileOf(root, pathname);
    /** @type {Record<string, string | number>} */
    const head = {
      "Cache-Control": "no-cache",
      "X-Content-Type-Options": "nosniff",
      ...(isolated
        ? {
            "Cross-Origin-Opener-Policy": "same-origin",
            "Cross-Origin-Embedder-Policy": "require-corp",
          }
        : {}),
    };
    if (found === null) {
      response.writeHead(404, { ...head, "Content-Type": "text/plain; charset=utf-8" });
      response.end(method === "HEAD" ? undefined : `There is no file ${pathname} to serve.\n`);
      return;
    }
    const range = rangeOf(headers.range, found.size);
    if (range === null) {
      response.writeHead(416, { ...head, "Content-Range": `bytes */${found.size}` }).end();
      return;
    }
    const { start, end, partial } = range;
    response.writeHead(partial ? 206 : 200, {
      ...head,
      "Content-Type": types[extname(found.file)] ?? "application/octet-stream",
      "Content-Length": end - start,
      "Accept-Ranges": "bytes",
      ...(partial ? { "Content-Range": `bytes ${start}-${end - 1}/${found.size}` } : {}),
    });
    if (method === "HEAD" || start === end) {
      response.end();
      return;
    }
    createReadStream(found.file, { start, end: end - 1 })
      .on("error", (error) => response.destroy(error))
      .pipe(response);
  });
  await new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(port, "127.0.0.1", () => resolve(undefined));
  });
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("the server has no port");
  return {
    url: `http://localhost:${address.port}/`,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve(undefined));
        server.closeAllConnections();
      }),
  };
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) {
  const port = Number(process.argv[2] ?? 8080);
  try {
    const { url } = await serve({ port });
    console.log(`${url.slice(0, -1)}${PAGE}   (Ctrl-C ends it)`);
  } catch (error) {
    const taken = /** @type {{ code?: string }} */ (error).code === "EADDRINUSE";
    console.error(
      taken
        ? `Port ${port} is taken. Give another: node examples/browser/serve.mjs 8081`
        : `The server did not start: ${error instanceof Error ? error.message : String(error)}`,
    );
    process.exitCode = 1;
  }
}
