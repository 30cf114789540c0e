// What a user would pick instead, as contenders: a Python process with PyTorch and onnxruntime, driven line by line (peers/peers.py).
import { execFileSync, spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

const SCRIPT = fileURLToPath(new URL("peers/peers.py", import.meta.url));

/**
 * @typedef {object} Peers
 * @property {string} versions
 * @property {readonly string[]} missing
 * @property {(line: { readonly op: string, readonly [field: string]: unknown }) => Promise<any>} ask one line, one answer
 * @property {() => void} end
 */

/**
 * Starts the process. Returns the reason as a sentence where this machine cannot.
 * @param {string} python @returns {Promise<Peers | string>}
 */
export async function startPeers(python) {
  try {
    execFileSync(python, ["-c", "import numpy"], { stdio: "pipe" });
  } catch {
    return `'${python}' with numpy is not here: pip install torch numpy onnx onnxruntime, and --python PATH`;
  }
  const child = spawn(python, [SCRIPT], { stdio: ["pipe", "pipe", "ignore"] });
  /** @type {{ resolve: (value: any) => void, reject: (reason: Error) => void }[]} */
  const waiting = [];
  createInterface({ input: child.stdout }).on("line", (text) => {
    // Libraries print what they like.
    if (!text.startsWith("{")) return;
    const answer = JSON.parse(text);
    const first = waiting.shift();
    if (answer.error === undefined) first?.resolve(answer);
    else first?.reject(new Error(`a peer failed: ${answer.error}`));
  });
  child.on("exit", (code, signal) => {
    for (const { reject } of waiting.splice(0))
      reject(new Error(`the peers ended: ${signal ?? `exit status ${code}`}`));
  });
  /** @type {Peers["ask"]} */
  const ask = (line) =>
    new Promise((resolve, reject) => {
      waiting.push({ resolve, reject });
      child.stdin.write(`${JSON.stringify(line)}\n`);
    });
  const { torch, onnxruntime, missing } = await ask({ op: "versions" });
  return {
    versions: [torch && `PyTorch ${torch}`, onnxruntime && `onnxruntime ${onnxruntime}`]
      .filter(Boolean)
      .join(", "),
    missing,
    ask,
    end: () => void child.stdin.end(),
  };
}

/** Dense attention computes all pairs: beyond this many tokens it says nothing new, and takes minutes. */
const DENSE_TOKENS = 16384;

/**
 * The peers of an attention.
 * @param {Peers} peers @param {string} title for what cannot run
 * @param {{ heads: number, headDim: number, kvHeads: number, causal: boolean, scale: number, branches: readonly { segment: number, dilation: number }[], offsets: readonly (readonly number[])[] }} spec
 * @param {number} length @param {{ q: string, k: string, v: string }} files raw f32 [length, heads, headDim]
 * @returns {Promise<{ name: string, same: boolean }[]>}
 */
export async function attentionPeers(
  peers,
  title,
  spec,
  length,
  files,
  /** @type {(what: string) => void} */ lacks,
) {
  const { contenders } = await peers.ask({
    op: "attention",
    id: "attention",
    n: length,
    heads: spec.heads,
    dim: spec.headDim,
    causal: spec.causal,
    segments: spec.branches.map((b) => Math.min(b.segment, length)),
    dilations: spec.branches.map((b) => b.dilation),
    offsets: spec.offsets,
    files,
    without: length > DENSE_TOKENS ? ["PyTorch, dense attention", "PyTorch, FlexAttention"] : [],
  });
  const all = /** @type {{ name: string, same: boolean, error: string | null }[]} */ (contenders);
  for (const { name, error } of all) if (error !== null) lacks(`${name} on ${title}: ${error}`);
  return all.filter(({ error }) => error === null);
}
