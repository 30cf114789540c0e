/** Deno with mesa's lavapipe: naga and a second WebGPU implementation, on this machine's CPU. */
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const binary = fileURLToPath(new URL("../../node_modules/.bin/deno", import.meta.url));
const drivers = "/usr/share/vulkan/icd.d";

export type DenoScript = "validate" | "run";

/** Environment of Deno on lavapipe, or why there is none. */
async function lavapipe(): Promise<{ readonly env: NodeJS.ProcessEnv } | { readonly missing: string }> {
  if (!existsSync(binary)) return { missing: "the package `deno` is not installed (npm install)" };
  const found = (await readdir(drivers).catch(() => [])).find((f) => f.startsWith("lvp_icd"));
  if (found === undefined)
    return { missing: `no lavapipe driver in ${drivers} (apt-get install mesa-vulkan-drivers)` };
  const icd = join(drivers, found);
  return {
    env: {
      ...process.env,
      VK_ICD_FILENAMES: icd,
      VK_DRIVER_FILES: icd,
      XDG_RUNTIME_DIR: process.env["XDG_RUNTIME_DIR"] ?? tmpdir(),
      DENO_NO_UPDATE_CHECK: "1",
    },
  };
}

/** Why Deno or lavapipe cannot be used here; null where they can. */
export async function denoMissing(): Promise<string | null> {
  const found = await lavapipe();
  return "missing" in found ? found.missing : null;
}

/**
 * Runs test/wgsl/deno/SCRIPT.ts on a job and gives its result; both are JSON. Files that the job names must be absolute.
 * Rejects with what Deno printed where it fails, or after `seconds`.
 */
export async function inDeno<Job, Result>(script: DenoScript, job: Job, seconds = 300): Promise<Result> {
  const found = await lavapipe();
  if ("missing" in found) throw new Error(found.missing);
  const folder = await mkdtemp(join(tmpdir(), "heddle-deno-"));
  try {
    const [given, made] = [join(folder, "job.json"), join(folder, "result.json")];
    await writeFile(given, JSON.stringify(job));
    const file = fileURLToPath(new URL(`deno/${script}.ts`, import.meta.url));
    const flags = ["-A", "--unstable-webgpu", "--no-check", "--no-lock", "--no-config", "--quiet"];
    const child = spawn(binary, ["run", ...flags, file, given, made], {
      env: found.env,
      timeout: seconds * 1000,
    });
    const printed: string[] = [];
    for (const stream of [child.stdout, child.stderr])
      stream.setEncoding("utf8").on("data", (text: string) => printed.push(text));
    const code = await new Promise<number | string | null>((done, fail) => {
      child.on("error", fail);
      child.on("close", (status, signal) => done(status ?? signal));
    });
    if (code !== 0) throw new Error(`deno ${script} ended with ${code}:\n${printed.join("")}`);
    return JSON.parse(await readFile(made, "utf8")) as Result;
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
