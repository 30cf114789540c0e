/** Bytes by HTTP ranges of files that change, and from servers that know no ranges or give wrong ones. */
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { urlSource } from "../../runtime/sources.ts";
import { fetchFrom, inMemory, rangeServer } from "./range-server.ts";
import type { RangeServer } from "./range-server.ts";
import { big, equal, failure, fast, fresh, MiB, readAll, small } from "./urls.ts";

let server: RangeServer;
beforeAll(async () => {
  server = await rangeServer(fresh);
});
afterEach(() => {
  server.behave({});
  server.serve(fresh);
  server.asked.length = 0;
});
afterAll(() => server.close());

describe("a file that changes", () => {
  const changes = [
    ["its tag", { etag: '"one"' }, big, { etag: '"two"' }, '"one" is now "two"'],
    [
      "its date",
      { modified: "Mon, 01 Jan 2024 00:00:00 GMT" },
      big,
      { modified: "Tue, 02 Jan 2024 00:00:00 GMT" },
      "Mon, 01 Jan 2024 00:00:00 GMT is now Tue",
    ],
    ["its size alone", {}, big.subarray(0, 19 * MiB), {}, `it had ${big.length} bytes, now ${19 * MiB}`],
    [
      "its size to less than was asked for",
      {},
      small,
      {},
      `it had ${big.length} bytes, and has no byte ${MiB} now`,
    ],
  ] as const;
  it.each(changes)("%s", async (_what, first, bytes, then, text) => {
    server.serve({ "big.bin": inMemory(big, first) });
    const source = await urlSource(`${server.url}big.bin`, fast);
    server.serve({ "big.bin": inMemory(bytes, then) });
    const error = await failure(source.read(MiB, 2 * MiB));
    expect(error).toMatchObject({ name: "SourceError", code: "changed" });
    expect(error.message).toContain(`the file changed while it was read (${text}`);
  });

  it("while a cut connection is taken up again", async () => {
    server.serve({ "big.bin": inMemory(big, { etag: '"one"' }) });
    const source = await urlSource(`${server.url}big.bin`, fast);
    server.behave({
      cut: () => {
        server.serve({ "big.bin": inMemory(big, { etag: '"two"' }) });
        return 1000;
      },
    });
    expect(await failure(source.read(MiB, 2 * MiB))).toMatchObject({ code: "changed" });
  });
});

describe("servers without ranges, and with wrong ones", () => {
  it("is an error that says what to do, or a whole download within the caller's limit", async () => {
    server.behave({ ranges: false });
    const error = await failure(urlSource(`${server.url}big.bin`, fast));
    expect(error).toMatchObject({ name: "SourceError", code: "ranges" });
    expect(error.message).toMatch(
      new RegExp(`gives no ranges of files, and this one has ${big.length} bytes: .*wholeUpTo`),
    );
    const less = await failure(urlSource(`${server.url}big.bin`, { ...fast, wholeUpTo: MiB }));
    expect(less.message).toContain(`this one has ${big.length} bytes, more than the ${MiB} that may be`);
    const source = await urlSource(`${server.url}big.bin`, { ...fast, wholeUpTo: big.length });
    expect(equal(await readAll(source), big)).toBe(true);
    expect(server.asked).toHaveLength(3);
  });

  it("a whole download that is cut begins anew, so many times", async () => {
    server.behave({ ranges: false, cut: (n) => (n < 2 ? 100_000 : undefined) });
    const source = await urlSource(`${server.url}big.bin`, { ...fast, wholeUpTo: big.length });
    expect(equal(await readAll(source), big)).toBe(true);
    expect(server.asked).toHaveLength(3);
    server.behave({ ranges: false, cut: () => 100_000 });
    const error = await failure(
      urlSource(`${server.url}big.bin`, { ...fast, retries: 2, wholeUpTo: big.length }),
    );
    expect(error.message).toContain("opening it failed 3 times in a row");
  });

  it("without a length: at most the limit is taken", async () => {
    server.behave({ ranges: false, headers: () => ({ "content-length": "" }) });
    expect((await failure(urlSource(`${server.url}big.bin`, fast))).message).toContain(
      "does not tell its size",
    );
    const error = await failure(urlSource(`${server.url}big.bin`, { ...fast, wholeUpTo: MiB }));
    expect(error.message).toContain("this one does not end in time");
    const source = await urlSource(`${server.url}big.bin`, { ...fast, wholeUpTo: big.length });
    expect(equal(await readAll(source), big)).toBe(true);
  });

  const lies: readonly (readonly [string, Record<string, string>, string])[] = [
    ["no Content-Range", { "content-range": "" }, "Access-Control-Expose-Headers: Content-Range"],
    ["a range of no known size", { "content-range": "bytes 0-65535/*" }, "'bytes 0-65535/*'"],
    ["a range from elsewhere", { "content-range": `bytes 7-65542/${big.length}` }, "with 'bytes 7-65542/"],
    ["a range that is too short", { "content-range": `bytes 0-9/${big.length}` }, "with 'bytes 0-9/"],
    ["a size of 1e300", { "content-range": `bytes 0-65535/1${"0".repeat(300)}` }, "with 'bytes 0-65535/1000"],
    ["a compressed range", { "content-encoding": "br" }, "with 'bytes 0-65535/"],
  ];
  it.each(lies)("%s", async (_what, headers, text) => {
    const { fetch } = fetchFrom({ x: inMemory(big) }, { headers: () => headers });
    const error = await failure(urlSource("https://a/x", { ...fast, fetch }));
    expect(error.code).toBe("ranges");
    expect(error.message).toContain(text);
  });

  it("a range from elsewhere, or none, when it reads on", async () => {
    const later = (headers: Record<string, string>) => ({ start }: { readonly start?: number }) => start === 0 ? {} : headers; // prettier-ignore
    for (const [headers, text] of [
      [{ "content-range": `bytes 9-99/${big.length}` }, `gave bytes from 9 on, not from ${MiB} on`],
      [{ "content-range": "" }, "gave ranges when the file was opened, and gives none now"],
    ] as const) {
      const { fetch } = fetchFrom({ x: inMemory(big) }, { headers: later(headers) });
      const source = await urlSource("https://a/x", { ...fast, fetch });
      const error = await failure(source.read(MiB, 2 * MiB));
      expect(error.code).toBe("ranges");
      expect(error.message).toContain(text);
    }
  });

  it("a body longer than was asked for is left where it stops", async () => {
    const { fetch } = fetchFrom({ x: inMemory(big) });
    const generous = async (url: string, init: RequestInit) => {
      const { start = 0 } = {
        start: Number(/=(\d+)/.exec(new Headers(init.headers).get("range") ?? "")?.[1]),
      };
      const { headers } = await fetch(url, init);
      return new Response(big.slice(start), { status: 206, headers });
    };
    const source = await urlSource("https://a/x", { ...fast, fetch: generous });
    expect(equal(await readAll(source), big)).toBe(true);
  });
});
