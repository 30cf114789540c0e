/** The static server of the example page: what it serves, and what it does not. */
import { mkdir, mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { serve } from "../../examples/browser/serve.mjs";

let folder: string;
let server: Awaited<ReturnType<typeof serve>>;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "heddle-serve-"));
  const root = join(folder, "root");
  await mkdir(join(root, "in"), { recursive: true });
  await mkdir(join(root, ".git"));
  await mkdir(join(folder, "root-of-others"));
  await writeFile(join(root, "a.txt"), "0123456789");
  await writeFile(join(root, "empty.txt"), "");
  await writeFile(join(root, "in/index.html"), "<p>in</p>");
  for (const secret of [".git/config", ".env"]) await writeFile(join(root, secret), "secret");
  await writeFile(join(folder, "root-of-others/a.txt"), "secret");
  await symlink(join(folder, "root-of-others/a.txt"), join(root, "link.txt"));
  server = await serve({ root });
});
afterAll(async () => {
  await server.close();
  await rm(folder, { recursive: true, force: true });
});

const get = (path: string, headers: Record<string, string> = {}, method = "GET") =>
  fetch(server.url + path, { headers, method, redirect: "manual" });
/** The status line of a request as it is written: `fetch` would tidy the path up. */
const raw = (path: string) =>
  new Promise<string>((resolve, reject) => {
    const socket = connect(Number(new URL(server.url).port), "127.0.0.1", () =>
      socket.write(`GET ${path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n`),
    );
    let text = "";
    socket.setEncoding("utf8").on("data", (part: string) => (text += part));
    socket.on("end", () => resolve(text)).on("error", reject);
  });

it("serves files with their types, to pages that are cross-origin isolated", async () => {
  const response = await get("a.txt");
  expect(response.status).toBe(200);
  expect(await response.text()).toBe("0123456789");
  expect(Object.fromEntries(response.headers)).toMatchObject({
    "content-type": "text/plain; charset=utf-8",
    "content-length": "10",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-embedder-policy": "require-corp",
  });
  expect(await (await get("in/")).text()).toBe("<p>in</p>");
  expect(await (await get("empty.txt")).text()).toBe("");
  const head = await get("a.txt", {}, "HEAD");
  expect([head.status, head.headers.get("content-length"), await head.text()]).toEqual([200, "10", ""]);
  expect((await get("a.txt", {}, "POST")).status).toBe(405);
  expect((await get("")).headers.get("location")).toBe("/examples/browser/");
});

it("serves ranges", async () => {
  const part = async (range: string) => {
    const response = await get("a.txt", { Range: range });
    return [response.status, response.headers.get("content-range"), await response.text()];
  };
  expect(await part("bytes=2-4")).toEqual([206, "bytes 2-4/10", "234"]);
  expect(await part("bytes=7-")).toEqual([206, "bytes 7-9/10", "789"]);
  expect(await part("bytes=-3")).toEqual([206, "bytes 7-9/10", "789"]);
  expect(await part("bytes=8-99")).toEqual([206, "bytes 8-9/10", "89"]);
  expect(await part("bytes=10-")).toEqual([416, "bytes */10", ""]);
  expect(await part("lines=1-2")).toEqual([200, null, "0123456789"]);
});

it("serves nothing outside its folder, nothing hidden, and outlives nonsense", async () => {
  for (const path of [
    "/../root-of-others/a.txt",
    "/%2e%2e/root-of-others/a.txt",
    "/..%2froot-of-others%2fa.txt",
    "/in/..%5c..%5croot-of-others/a.txt",
    "/link.txt",
    "/.env",
    "/.git/config",
    "/in/..%2f.env",
    "/in",
    "/nothing.txt",
    "/%",
    "/a.txt%00",
    "http://[",
    "//",
  ]) {
    const answer = await raw(path);
    expect(answer, path).toMatch(/^HTTP\/1.1 404 /);
    expect(answer, path).not.toContain("secret");
  }
  expect((await get("a.txt")).status).toBe(200);
});
