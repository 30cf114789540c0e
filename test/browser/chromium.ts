/** Debian's Chromium for tests: headless, WebGPU by SwiftShader, a profile of its own. */
import { existsSync, statSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import { chromium, type BrowserContext, type Page } from "playwright-core";
import { serve } from "../../examples/browser/serve.mjs";
import type { PageJob, PageResult, Runner } from "./page/run.ts";

const binary = process.env["HEDDLE_CHROMIUM"] ?? "/usr/bin/chromium";
/** This repository. */
export const root = fileURLToPath(new URL("../../", import.meta.url));

const flags = [
  "--headless=new",
  "--no-sandbox",
  "--hide-scrollbars",
  "--enable-unsafe-webgpu",
  "--use-webgpu-adapter=swiftshader",
  "--enable-features=Vulkan",
  "--use-vulkan=swiftshader",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
  "--no-first-run",
];

/** Why there is no Chromium to test with; null where there is one. */
export const chromiumMissing = (): string | null =>
  existsSync(binary) ? null : `there is no ${binary} (Debian: apt install chromium; or set HEDDLE_CHROMIUM)`;

export type Chromium = {
  /** A page at an address of the server, e.g. `examples/browser/`. */
  readonly open: (path: string, options?: PageOptions) => Promise<OpenPage>;
  readonly close: () => Promise<void>;
};
export type PageOptions = {
  /** Whether the page is cross-origin isolated, and so has threads (default). */
  readonly isolated?: boolean;
  readonly width?: number;
  readonly height?: number;
  /** Without WebGPU, as in a browser that has none. */
  readonly webgpu?: boolean;
  /** A Content-Security-Policy of the page. What it forbids is no complaint. */
  readonly policy?: string;
  /** What is to be done before the page is there. */
  readonly before?: (page: Page) => Promise<unknown>;
};
export type OpenPage = {
  readonly page: Page;
  /** Errors and warnings that the page wrote to its console or threw. */
  readonly complaints: string[];
};

/** Starts Chromium and servers for this repository. Rejects where the built runtime is missing or older than its sources. */
export async function openChromium(): Promise<Chromium> {
  await isBuilt();
  const profile = await mkdtemp(join(tmpdir(), "heddle-chromium-"));
  const [isolated, plain] = [await serve(), await serve({ isolated: false })];
  // Playwright's own `headless` would choose another binary, which has no WebGPU.
  const context: BrowserContext = await chromium.launchPersistentContext(profile, {
    executablePath: binary,
    headless: false,
    args: flags,
  });
  return {
    open: async (path, options = {}) => {
      const page = await context.newPage();
      const complaints: string[] = [];
      page.on("console", (m) => {
        if (options.policy !== undefined && m.text().includes("Content Security Policy")) return;
        if (m.type() === "error" || m.type() === "warning") complaints.push(`${m.type()}: ${m.text()}`);
      });
      page.on("pageerror", (error) => complaints.push(`thrown: ${error.message}`));
      const { width = 1280, height = 800 } = options;
      await page.setViewportSize({ width, height });
      if (options.webgpu === false)
        await page.addInitScript("Object.defineProperty(navigator, 'gpu', { value: undefined });");
      await options.before?.(page);
      const url = (options.isolated === false ? plain : isolated).url + path;
      const { policy } = options;
      if (policy !== undefined)
        await page.route(url, async (route) => {
          const response = await route.fetch();
          await route.fulfill({
            response,
            headers: { ...response.headers(), "Content-Security-Policy": policy },
          });
        });
      await page.goto(url);
      return { page, complaints };
    },
    close: async () => {
      await context.close();
      await Promise.all([isolated.close(), plain.close()]);
      await rm(profile, { recursive: true, force: true });
    },
  };
}

/** Compiled code that is older than its source would be tested in its place. */
async function isBuilt(): Promise<void> {
  const { metafile } = await build({
    absWorkingDir: root,
    entryPoints: ["runtime/index.ts"],
    bundle: true,
    platform: "browser",
    write: false,
    metafile: true,
  });
  for (const file of Object.keys(metafile.inputs)) {
    const built = statSync(join(root, "dist", file.replace(/\.ts$/, ".js")), { throwIfNoEntry: false });
    if ((built?.mtimeMs ?? 0) < statSync(join(root, file)).mtimeMs)
      throw new Error(`dist is older than ${file}: npm run build`);
  }
}

/** `page/run.ts` for a browser. What it takes of the runtime stays an import of the built files, which are what is tested. */
async function runner(): Promise<string> {
  const { outputFiles } = await build({
    entryPoints: [fileURLToPath(new URL("page/run.ts", import.meta.url))],
    bundle: true,
    format: "esm",
    write: false,
    plugins: [
      {
        name: "built runtime",
        setup: ({ onResolve }) =>
          onResolve({ filter: /\/runtime\/[^/]+\.ts$/ }, ({ path }) => ({
            path: path.replace(/^.*\/runtime\/(.*)\.ts$/, "/dist/runtime/$1.js"),
            external: true,
          })),
      },
    ],
  });
  return outputFiles[0]?.text ?? "";
}

/** A page that runs tasks. */
export async function taskPage(
  browser: Chromium,
  options: PageOptions = {},
): Promise<(job: PageJob) => Promise<PageResult>> {
  const body = await runner();
  const headers = { "Cross-Origin-Embedder-Policy": "require-corp" };
  const { page, complaints } = await browser.open("test/browser/page/", {
    ...options,
    before: (made) =>
      made.route("**/page/tasks.js", (r) => r.fulfill({ body, contentType: "text/javascript", headers })),
  });
  return async (job) => {
    const done = await page
      .evaluate((given) => (globalThis as unknown as Runner).heddleRun(given), job)
      .catch((error: unknown) => complaints.push(String(error)));
    if (typeof done === "number" || complaints.length > 0) throw new Error(complaints.join("\n"));
    return done;
  };
}
