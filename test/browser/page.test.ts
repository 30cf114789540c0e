/** The example page in Chromium: what it shows on each device, how it looks, and what it says where something is missing. */
import { mkdtemp, readFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Page } from "playwright-core";
import { jargon } from "../../examples/jargon.generated.ts";
import { memorySource } from "../../runtime/safetensors.ts";
import { missing } from "../webgpu/require.ts";
import { chromiumMissing, openChromium, root, type Chromium, type PageOptions } from "./chromium.ts";

const absent = chromiumMissing();
if (absent !== null) missing("chromium", absent);

const PATH = "examples/browser/";
const WINDOW = 256;
/** Two windows: SwiftShader reads about a hundred bytes a second. */
const READ = 2 * WINDOW + 1;

const data = (name: string) => readFile(join(root, "examples/jargon", name));

/** Chooses a device and presses the button; resolves when something came of it. */
async function read(page: Page, device: string, text?: string): Promise<void> {
  await page.getByLabel(device, { exact: true }).check();
  if (text !== undefined) await page.getByLabel("Text", { exact: true }).fill(text);
  await page.getByRole("button", { name: "Read the text" }).click();
  await page.waitForFunction(
    `!document.querySelector("#run").disabled && /^(Done|Stopped|That did not work)/.test(document.querySelector("#status").textContent)`,
    undefined,
    { timeout: 250_000 },
  );
}
const text = (page: Page, id: string) => page.locator(`#${id}`).innerText();
/** Rows of the table of bytes: planned and in use, NaN where there is no number. */
async function bytesOf(page: Page): Promise<readonly (readonly [string, number, number])[]> {
  const rows = await page.locator("#bytes tr").all();
  return Promise.all(
    rows.map(async (row) => {
      const [name = "", planned = "", used = ""] = await row.locator("th, td").allInnerTexts();
      const number = (s: string) => Number.parseInt(s.replaceAll(",", ""));
      return [name, number(planned), number(used)] as const;
    }),
  );
}

describe.skipIf(absent !== null)("the page", { timeout: 300_000 }, () => {
  let browser: Chromium;
  let shots: string;
  let sample: string;
  let meant: number;
  beforeAll(async () => {
    browser = await openChromium();
    shots = await mkdtemp(join(tmpdir(), "heddle-page-"));
    console.log(`screenshots: ${shots}`);
    const from = (JSON.parse(String(await data("manifest.json"))) as { held_out_from_byte: number })
      .held_out_from_byte;
    const bytes = (await data("jargon.txt")).subarray(from, from + READ);
    sample = bytes.toString("utf8");
    expect(Buffer.from(sample).equals(bytes)).toBe(true);
    const node = await jargon.create({
      device: "wasm",
      weights: memorySource(await data("jargon.safetensors")),
    });
    ({ mean: meant } = await node.bits(bytes, { window: WINDOW }));
    node.dispose();
  });
  afterAll(() => browser?.close());

  /** A page that is ready; it may not have complained when the test ends. */
  async function opened(options: PageOptions = {}) {
    const { page, complaints } = await browser.open(PATH, options);
    await page.locator("#run:enabled").waitFor();
    await page.waitForFunction(`!document.querySelector("#here").textContent.endsWith("…")`);
    return { page, complaints };
  }
  const shoot = (page: Page, name: string) =>
    page.screenshot({ path: join(shots, `${name}.png`), fullPage: true });
  const overflow = (page: Page) =>
    page.evaluate<number>("document.documentElement.scrollWidth - document.documentElement.clientWidth");

  it("gives Node's bits per byte on WebGPU and on WebAssembly, with its figures", async () => {
    const { page, complaints } = await opened();
    expect(await text(page, "here")).toMatch(
      /^WebGPU here is only software \(.*swiftshader.*\): Auto takes WebAssembly with \d+ threads\.$/i,
    );
    await page.getByLabel(/^Window/).fill(String(WINDOW));
    const bits: number[] = [];
    for (const [device, name] of [
      ["WebGPU", /Computed by WebGPU .*swiftshader/],
      ["WebAssembly", /Computed by WebAssembly relaxed SIMD, \d+ threads/],
    ] as const) {
      await read(page, device, sample);
      expect(await page.locator("#error").isVisible(), await text(page, "error")).toBe(false);
      bits.push(Number(await text(page, "bits")));
      expect(await text(page, "device")).toMatch(name);
      expect(Number((await text(page, "speed")).replaceAll(",", ""))).toBeGreaterThan(0);
      expect(await text(page, "load")).toMatch(/^[\d.]+ m?s$/);
      expect(await text(page, "times")).toMatch(/^Weights fetched .*, compiled in .*, on the device in /);

      const rows = await bytesOf(page);
      const all = rows.at(-1);
      expect(all?.[1]).toBe(jargon.program.plan.weights.length > 0 ? rows.slice(0, 5).reduce((n, r) => n + r[1], 0) : 0); // prettier-ignore
      expect(await text(page, "plan")).toContain(`${all?.[1].toLocaleString("en")} bytes`);
      for (const [what, planned, used] of rows)
        if (Number.isNaN(planned) || what === "All") expect(used).toBeGreaterThan(planned || 0);
        // WebAssembly begins every tensor on a cache line, a GPU buffer is as large as its tensor.
        else if (device === "WebGPU") expect(used, what).toBe(planned);
        else expect(used - planned, what).toSatisfy((more: number) => more >= 0 && more < 64 * 100);
      expect(await page.locator("#surprise").textContent()).toBe(sample);
      expect(await page.locator("#surprise [data-heat='4']").count()).toBeGreaterThan(3);
    }
    console.log(`bits per byte: ${bits.join(" on WebGPU, ")} on WebAssembly, ${meant.toFixed(6)} in Node`);
    for (const b of bits) expect(Math.abs(b - meant)).toBeLessThan(0.002);
    expect(Math.abs((bits[0] ?? NaN) - (bits[1] ?? NaN))).toBeLessThan(0.002);
    expect(complaints).toEqual([]);

    await shoot(page, "desktop-light");
    await page.emulateMedia({ colorScheme: "dark" });
    await shoot(page, "desktop-dark");
    await page.setViewportSize({ width: 390, height: 844 });
    expect(await overflow(page)).toBe(0);
    await shoot(page, "phone-dark");
    await page.emulateMedia({ colorScheme: "light" });
    await shoot(page, "phone-light");
    await page.setViewportSize({ width: 320, height: 640 });
    expect(await overflow(page)).toBe(0);
    await page.close();
  });

  it("is used by the keyboard alone", async () => {
    const { page, complaints } = await opened();
    const focused = () =>
      page.evaluate<string>("document.activeElement.id || document.activeElement.value || ''");
    const stops: string[] = [];
    for (let i = 0; i < 6; i++) {
      await page.keyboard.press("Tab");
      stops.push(await focused());
    }
    expect(stops).toEqual(["auto", "text", "start", "whole", "window", "run"]);
    await page.getByLabel("Auto", { exact: true }).focus();
    await page.keyboard.press("ArrowRight");
    await page.keyboard.press("ArrowRight");
    expect(await page.getByLabel("WebAssembly", { exact: true }).isChecked()).toBe(true);
    await page.getByLabel("Text", { exact: true }).fill("The hacker ethic");
    await page.getByLabel(/^Window/).focus();
    await page.keyboard.press("Enter");
    await page.getByText(/^Done: /).waitFor();
    expect(complaints).toEqual([]);
    await page.close();
  });

  it("stays alive while it reads with one thread, stops when asked, and reads again", async () => {
    const { page, complaints } = await opened({ isolated: false });
    expect(await text(page, "here")).toContain("WebAssembly with one thread");
    await page.getByRole("button", { name: "All of it" }).click();
    await page.getByText(/^84,0\d\d bytes$/).waitFor();
    await page.evaluate("void (frames = 0, draw = () => { frames++; requestAnimationFrame(draw); }, draw())");
    await page.getByLabel("WebAssembly", { exact: true }).check();
    await page.getByRole("button", { name: "Read the text" }).click();
    const past = (window: number) =>
      page.waitForFunction(
        `/window (\\d+)/.exec(document.querySelector("#status").textContent)?.[1] > ${window}`,
      );
    await past(1);
    const before = await page.evaluate<number>("frames");
    await past(5);
    // Without turns for the page it would not draw before the last window; with them it does some twenty times a second.
    expect((await page.evaluate<number>("frames")) - before).toBeGreaterThan(5);
    await page.getByRole("button", { name: "Stop" }).click();
    await page.getByText("Stopped.").waitFor();
    expect(await page.locator("#error").isVisible()).toBe(false);
    await read(page, "Auto", sample);
    expect(await text(page, "device")).toContain("1 thread (no SharedArrayBuffer");
    expect(complaints).toEqual([]);
    await page.close();
  });

  it("says what is wrong and what to do", async () => {
    const { page, complaints } = await opened({ webgpu: false });
    const error = () => text(page, "error");
    expect(await text(page, "here")).toMatch(/^This browser offers no WebGPU: Auto takes WebAssembly/);
    await read(page, "WebGPU");
    expect(await error()).toMatch(/This page has no WebGPU[^]*Choose WebAssembly, or Auto/);
    await shoot(page, "error");
    await read(page, "WebAssembly", "x");
    expect(await error()).toMatch(/nothing to predict in 1 tokens[^]*Change the text or the window/);
    await read(page, "WebAssembly", "Xyzzy — plugh");
    expect(await page.locator("#error").isVisible()).toBe(false);
    expect(complaints).toEqual([]);
    await page.close();
  });

  it("says so where the checkpoint or the build is missing", async () => {
    const without = (glob: string) => (page: Page) => page.route(glob, (r) => r.fulfill({ status: 404 }));
    const weights = await browser.open(PATH, { before: without("**/jargon.safetensors") });
    await weights.page.locator("#run:enabled").waitFor();
    await read(weights.page, "WebAssembly", "xyzzy");
    expect(await text(weights.page, "error")).toMatch(/jargon\.safetensors could not be fetched[^]*404/);
    await weights.page.close();
    const built = await browser.open(PATH, { before: without("**/dist/**") });
    await built.page.getByText("npm run browser").first().waitFor();
    expect(await text(built.page, "error")).toMatch(/dist\/ are not there[^]*npm run browser/);
    await built.page.close();
  });
});
