// The C++ baselines as a contender: compiled on demand, driven line by line (see native/main.cpp).
import { execFileSync, spawn } from "node:child_process";
import { mkdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

const SOURCE = fileURLToPath(new URL("native/", import.meta.url));
const FILES = ["main.cpp", "attention.hpp", "linear.hpp", "peaks.hpp", "vector.hpp"];
export const FLAGS = ["-O3", "-march=native", "-std=c++20", "-pthread"];

/**
 * @typedef {object} Native
 * @property {string} compiler first line of `g++ --version`
 * @property {(line: string) => Promise<{ ns: number, value: number | null }>} ask one command, one answer
 * @property {() => void} end lets the process end
 */

/**
 * Compiles what is stale and starts the process. Returns the reason as a sentence when this machine cannot.
 * @returns {Native | string}
 */
export function startNative() {
  const cpu = readFileSync("/proc/cpuinfo", { encoding: "utf8", flag: "r" });
  if (!/\bavx2\b/.test(cpu) || !/\bfma\b/.test(cpu))
    return "this processor has no AVX2 and FMA, which the C++ baseline is written for";
  let compiler;
  try {
    compiler = execFileSync("g++", ["--version"], { encoding: "utf8" }).split("\n")[0] ?? "g++";
  } catch {
    return "g++ is not installed, so there is no C++ baseline and no machine peak in this run";
  }
  mkdirSync(join(SOURCE, "build"), { recursive: true });
  const binary = join(SOURCE, "build", "baseline");
  const built = statSync(binary, { throwIfNoEntry: false })?.mtimeMs ?? 0;
  if (FILES.some((f) => statSync(join(SOURCE, f)).mtimeMs > built))
    execFileSync("g++", [...FLAGS, "-o", binary, join(SOURCE, "main.cpp")], { stdio: "inherit" });

  const child = spawn(binary, { stdio: ["pipe", "pipe", "inherit"] });
  /** @type {{ line: string, resolve: (value: any) => void, reject: (reason: Error) => void }[]} */
  const waiting = [];
  createInterface({ input: child.stdout }).on("line", (text) => {
    const first = waiting.shift();
    if (first === undefined) return;
    const answer = JSON.parse(text);
    if (answer.error === undefined) first.resolve(answer);
    else first.reject(new Error(`the C++ baseline cannot do '${first.line.slice(0, 60)}': ${answer.error}`));
  });
  child.on("exit", (code, signal) => {
    for (const { reject } of waiting.splice(0))
      reject(new Error(`the C++ baseline ended: ${signal ?? `exit status ${code}`}`));
  });
  return {
    compiler,
    ask: (line) =>
      new Promise((resolve, reject) => {
        waiting.push({ line, resolve, reject });
        child.stdin.write(`${line}\n`);
      }),
    end: () => {
      child.stdin.end();
    },
  };
}

/**
 * The command that gives the baseline an attention.
 * @param {string} id
 * @param {{ heads: number, headDim: number, causal: boolean, branches: readonly { segment: number, dilation: number }[], offsets: readonly (readonly number[])[] }} shape
 * @param {number} length tokens
 * @param {boolean} fold whether pairs that several branches hold are scored once
 * @param {{ q: string, k: string, v: string }} files raw f32 [length, heads, headDim]
 */
export const attentionLine = (id, shape, length, fold, files) =>
  [
    "attention",
    id,
    shape.heads,
    shape.headDim,
    shape.causal ? 1 : 0,
    length,
    fold ? 1 : 0,
    shape.branches.map((b) => `${Number.isFinite(b.segment) ? b.segment : 2 ** 40}:${b.dilation}`).join(","),
    shape.offsets.flat().join(","),
    files.q,
    files.k,
    files.v,
  ].join(" ");
