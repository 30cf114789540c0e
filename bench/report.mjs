// Measurements as a markdown page: what machine, then tables.
import { execFileSync } from "node:child_process";
import { availableParallelism, cpus, loadavg } from "node:os";
import { median, ratio } from "./rounds.mjs";

/** @typedef {import("./rounds.mjs").Measured} Measured */
/**
 * @typedef {object} Result
 * @property {"attention" | "linear" | "model"} group
 * @property {string} title
 * @property {number} flops
 * @property {string} note schedule, sizes
 * @property {Measured[]} measured
 * @property {{ name: string, against: string, distance: number, limit: number }[]} checks
 */

/** The processor in words; no names or paths of this machine. */
export function machine() {
  /** @type {Map<string, string>} */
  const fields = new Map();
  try {
    for (const line of execFileSync("lscpu", {
      encoding: "utf8",
      env: { ...process.env, LC_ALL: "C" },
    }).split("\n")) {
      const at = line.indexOf(":");
      if (at > 0) fields.set(line.slice(0, at).trim(), line.slice(at + 1).trim());
    }
  } catch {
    // Not Linux: the model name of os.cpus() must do.
  }
  const model = fields.get("Model name") ?? cpus()[0]?.model ?? "unknown processor";
  const flags = new Set((fields.get("Flags") ?? "").split(" "));
  return {
    model,
    family: ["CPU family", "Model"]
      .flatMap((f) => (fields.has(f) ? [`${f.toLowerCase()} ${fields.get(f)}`] : []))
      .join(", "),
    cores: availableParallelism(),
    extensions: ["avx2", "fma", "avx512f"].filter((f) => flags.has(f)),
    caches: ["L1d cache", "L2 cache", "L3 cache"].flatMap((f) =>
      fields.has(f) ? [`${f.slice(0, -6)} ${fields.get(f)}`] : [],
    ),
    virtual: fields.has("Hypervisor vendor"),
    node: process.version,
    v8: process.versions.v8,
    load: (loadavg()[0] ?? 0).toFixed(1),
  };
}

export const slug = (/** @type {ReturnType<typeof machine>} */ m) =>
  `${m.model} ${m.cores} cores`
    .toLowerCase()
    .replaceAll(/\((r|tm)\)/g, "")
    .replaceAll(/[^a-z0-9]+/g, "-")
    .replaceAll(/^-|-$/g, "");

/** Three significant digits, no exponent. @param {number} x */
export const short = (x) => (x >= 100 ? x.toFixed(0) : x >= 10 ? x.toFixed(1) : x.toFixed(2));
/** median (best) @param {Measured | undefined} m */
const rate = (m) => (m === undefined ? "–" : `${short(median(m.gflops))} (${short(Math.max(...m.gflops))})`);

/** @param {readonly string[]} head @param {readonly (readonly string[])[]} rows */
export function table(head, rows) {
  const widths = head.map((h, i) => Math.max(h.length, ...rows.map((r) => (r[i] ?? "").length)));
  const line = (/** @type {readonly string[]} */ cells) =>
    `| ${cells.map((c, i) => c.padEnd(widths[i] ?? 0)).join(" | ")} |`;
  return [line(head), `| ${widths.map((w) => "-".repeat(w)).join(" | ")} |`, ...rows.map(line)].join("\n");
}

/**
 * @param {object} run
 * @param {string} run.date
 * @param {ReturnType<typeof machine>} run.machine
 * @param {{ rounds: number, threads: readonly number[], clock: import("./clock.mjs").Clock, compiler: string | null, flags: readonly string[], peers: string | null, missing: readonly string[], loadAfter: string }} run.how
 * @param {readonly { name: string, unit: string, threads: number, values: readonly number[] }[]} run.peaks
 * @param {readonly Result[]} run.results
 */
export function markdown({ date, machine: m, how, peaks, results }) {
  const parts = [
    `# bench ${date}`,
    [
      `${m.model}${m.family === "" ? "" : ` (${m.family})`}, ${m.cores} cores${m.virtual ? " of a virtual machine" : ""}; ${m.extensions.join(", ")}; ${m.caches.join(", ")}.`,
      `Node ${m.node.slice(1)} (V8 ${m.v8}). ${how.compiler === null ? "" : `C++: ${how.compiler}, \`${how.flags.join(" ")}\`, AVX2 intrinsics.`}${how.peers === null ? "" : ` ${how.peers}.`}`,
      `Median of ${how.rounds} interleaved rounds, best in brackets; GFLOP/s unless said. ${how.clock === "cpu" ? "**Processor time**, not wall time, as other work kept this machine busy: what one thread achieves while it runs. " : ""}Load average ${m.load} before, ${how.loadAfter} after: what else ran shows in the distance from median to best.`,
      ...how.missing.map((line) => `Not in this run: ${line}.`),
    ].join("\n"),
  ];
  const peakNames = [...new Set(peaks.map((p) => p.name))];
  if (peaks.length > 0)
    parts.push(
      "## What the machine can do",
      table(
        ["peak", ...how.threads.map((t) => `${t} thread${t > 1 ? "s" : ""}`), "unit"],
        peakNames.map((name) => {
          const of = peaks.filter((p) => p.name === name);
          const cell = (/** @type {number} */ t) => {
            const values = of.find((p) => p.threads === t)?.values;
            return values === undefined ? "–" : `${short(median(values))} (${short(Math.max(...values))})`;
          };
          return [name, ...how.threads.map(cell), of[0]?.unit ?? ""];
        }),
      ),
    );

  const find = (/** @type {Result} */ r, /** @type {string} */ name, /** @type {number} */ t) =>
    r.measured.find((x) => x.name === name && x.threads === t);
  const over = (
    /** @type {Result} */ r,
    /** @type {number} */ t,
    /** @type {string} */ a,
    /** @type {string} */ b,
  ) => {
    const [x, y] = [find(r, a, t), find(r, b, t)];
    return x === undefined || y === undefined ? "–" : ratio(x, y).toFixed(2);
  };
  /** How many processors this work really had: the peak of t threads over that of one, in the same rounds. @param {Result} r @param {number} t */
  const free = (r, t) => {
    const [many, one] = [find(r, "peak wasm mul+add", t), find(r, "peak wasm mul+add", 1)];
    return t === 1 || many === undefined || one === undefined
      ? []
      : [`${ratio(many, one).toFixed(1)} of ${t}`];
  };
  for (const t of how.threads) {
    const freeHead = t === 1 || !how.threads.includes(1) ? [] : ["processors free"];
    const threads = `${t} thread${t > 1 ? "s" : ""}`;
    const attention = results.filter((r) => r.group === "attention");
    if (attention.length > 0)
      parts.push(
        `## Attention, ${threads}`,
        table(
          [
            "work",
            "WASM",
            "WASM relaxed",
            "native",
            "C++",
            "C++ folded",
            "WASM ÷ C++ folded",
            "relaxed ÷ C++ folded",
            "native ÷ C++ folded",
            ...freeHead,
          ],
          attention.map((r) => [
            r.title,
            rate(find(r, "wasm", t)),
            rate(find(r, "wasm relaxed", t)),
            rate(find(r, "native", t)),
            rate(find(r, "c++", t)),
            rate(find(r, "c++ folded", t)),
            over(r, t, "wasm", "c++ folded"),
            over(r, t, "wasm relaxed", "c++ folded"),
            over(r, t, "native", "c++ folded"),
            ...free(r, t),
          ]),
        ),
      );
    const others = [
      ...new Set(
        attention.flatMap((r) =>
          r.measured.map((m) => m.name).filter((name) => /^(PyTorch|onnxruntime)/.test(name)),
        ),
      ),
    ];
    if (others.length > 0)
      parts.push(
        `## Attention beside what a user would pick instead, ${threads}`,
        table(
          ["work", "peer", "ms", "GFLOP/s", "WASM ÷ peer", "relaxed ÷ peer", "native ÷ peer", ...freeHead],
          attention.flatMap((r) =>
            others.flatMap((name) => {
              const x = find(r, name, t);
              if (x === undefined) return [];
              return [
                [
                  r.title,
                  name,
                  short(median(x.ms)),
                  rate(x),
                  over(r, t, "wasm", name),
                  over(r, t, "wasm relaxed", name),
                  over(r, t, "native", name),
                  ...free(r, t),
                ],
              ];
            }),
          ),
        ),
      );
    const linear = results.filter((r) => r.group === "linear");
    if (linear.length > 0)
      parts.push(
        `## Linear, ${threads}`,
        table(
          [
            "work",
            "WASM",
            "WASM relaxed",
            "native",
            "C++",
            "WASM ÷ its peak",
            "relaxed ÷ its peak",
            "native ÷ FMA peak",
            "C++ ÷ its peak",
            "WASM ÷ C++",
            "native ÷ C++",
            ...freeHead,
          ],
          linear.map((r) => [
            r.title,
            rate(find(r, "wasm", t)),
            rate(find(r, "wasm relaxed", t)),
            rate(find(r, "native", t)),
            rate(find(r, "c++", t)),
            over(r, t, "wasm", "peak wasm mul+add"),
            over(r, t, "wasm relaxed", "peak wasm madd"),
            over(r, t, "native", find(r, "peak fma512", t) === undefined ? "peak fma256" : "peak fma512"),
            over(r, t, "c++", "peak fma256"),
            over(r, t, "wasm", "c++"),
            over(r, t, "native", "c++"),
            ...free(r, t),
          ]),
        ),
      );
    const model = results.filter((r) => r.group === "model");
    if (model.length > 0)
      parts.push(
        `## Whole model, ${threads}`,
        table(
          ["work", "variant", "ms", "tokens/s", "GFLOP/s", ...freeHead],
          model.flatMap((r) =>
            ["wasm", "wasm relaxed", "native"].flatMap((name) => {
              const x = find(r, name, t);
              if (x === undefined) return [];
              const tokens = Number(/(\d+) tokens/.exec(r.title)?.[1] ?? NaN);
              return [
                [
                  r.title,
                  name,
                  short(median(x.ms)),
                  ((tokens / median(x.ms)) * 1000).toFixed(0),
                  rate(x),
                  ...free(r, t),
                ],
              ];
            }),
          ),
        ),
      );
  }
  parts.push(
    "## Notes",
    results.map((r) => `- ${r.title}: ${short(r.flops / 1e9)} GFLOP. ${r.note}`).join("\n"),
    "## Outputs compared",
    table(
      ["work", "output of", "against", "largest difference ÷ largest value", "limit", "verdict"],
      results.flatMap((r) =>
        r.checks.map((c) => [
          r.title,
          c.name,
          c.against,
          c.distance.toExponential(1),
          c.limit.toExponential(0),
          c.distance < c.limit ? "same" : "**DIFFERENT**",
        ]),
      ),
    ),
  );
  return `${parts.join("\n\n")}\n`;
}
