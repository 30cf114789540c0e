// heddle's WGSL beside hand-written WGSL, on every WebGPU device of this machine: `npm run bench:webgpu`.
//
//   node bench/webgpu/run.mjs [--device NAME,…] [--quick] [--rounds R] [--only WORD] [--length N] [--json] [--no-save]
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { spawn } from "node:child_process";
import { loadavg, tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { machine, slug } from "../report.mjs";
import { compileWorks } from "./compile.mjs";
import { devices } from "./devices.mjs";
import { markdown } from "./page.mjs";

const { values: options } = parseArgs({
  options: {
    device: { type: "string", default: Object.keys(devices).join() },
    quick: { type: "boolean", default: false },
    rounds: { type: "string", default: "5" },
    only: { type: "string", default: "" },
    length: { type: "string" },
    json: { type: "boolean", default: false },
    "no-save": { type: "boolean", default: false },
  },
});
const rounds = options.quick ? 3 : Number(options.rounds);
if (!Number.isInteger(rounds) || rounds < 1)
  throw new Error(`--rounds takes a whole number, not '${options.rounds}'`);
const length = options.length === undefined ? null : Number(options.length);
if (length !== null && (!Number.isInteger(length) || length < 1))
  throw new Error(`--length takes a whole number, not '${options.length}'`);
const names = options.device.split(",");
for (const name of names)
  if (!(name in devices)) throw new Error(`--device takes ${Object.keys(devices).join(", ")}, not '${name}'`);
const say = (/** @type {string} */ line) => process.stderr.write(`${line}\n`);

const dist = new URL("../../dist/", import.meta.url).href;
const built = async (/** @type {string} */ path) => {
  try {
    return await import(`${dist}${path}`);
  } catch (error) {
    throw new Error(`dist/${path} cannot be loaded: npm run build`, { cause: error });
  }
};
const wish = { quick: options.quick, only: options.only, length };
const works = [...(await compileWorks(built, "software", wish)), ...(await compileWorks(built, "gpu", wish))];
if (works.length === 0) throw new Error(`no work has '${options.only}' in its title`);

const before = machine();
const folder = mkdtempSync(join(tmpdir(), "heddle-bench-"));
/** @type {import("./page.mjs").Run["results"][number][]} */
const results = [];
try {
  for (const name of names) {
    const device = devices[name];
    if (device === undefined) continue;
    const [job, made] = [join(folder, "job.json"), join(folder, "result.json")];
    /** @type {import("./measure.mjs").Job} */
    const task = { dist, rounds, software: device.software, works };
    writeFileSync(job, JSON.stringify(task));
    const how = device.start();
    const status =
      typeof how === "string"
        ? how
        : await new Promise((done) => {
            const script = fileURLToPath(new URL("measure.mjs", import.meta.url));
            const child = spawn(how.command, [...how.args, script, job, made], {
              env: { ...process.env, ...how.env },
              stdio: ["ignore", "inherit", "inherit"],
            });
            child.on("error", (error) => done(error.message));
            child.on("close", (code, signal) => done(code === 0 ? null : `it ended with ${code ?? signal}`));
          });
    /** @type {import("./measure.mjs").Result} */
    const result = status === null ? JSON.parse(readFileSync(made, "utf8")) : { missing: status };
    if ("missing" in result) say(`${name}: not in this run: ${result.missing}`);
    results.push({ name, host: device.host, result });
  }
} finally {
  rmSync(folder, { recursive: true, force: true });
}

const date = new Date().toISOString().slice(0, 10);
const run = { date, machine: before, rounds, loadAfter: (loadavg()[0] ?? 0).toFixed(1), results };
const page = markdown(run);
process.stdout.write(options.json ? `${JSON.stringify(run, null, 1)}\n` : page);
if (!options["no-save"] && !options.quick && options.only === "" && length === null) {
  const to = fileURLToPath(new URL("../results/", import.meta.url));
  mkdirSync(to, { recursive: true });
  const notes = readFileSync(new URL("notes.md", import.meta.url), "utf8");
  writeFileSync(`${to}${date}-webgpu-${slug(before)}.md`, `${page}\n${notes}`);
}
const measured = results.flatMap(({ result }) => ("missing" in result ? [] : result.measured));
if (measured.length === 0) {
  say("no device measured anything");
  process.exitCode = 1;
}
if (measured.some((m) => m.checks.some((c) => !(c.distance < m.limit)))) {
  say("outputs differ: see the last table");
  process.exitCode = 1;
}
