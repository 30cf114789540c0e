// Measurements on WebGPU as a markdown page.
import { short, table } from "../report.mjs";
import { median } from "../rounds.mjs";

/** @typedef {import("./measure.mjs").Measured} Measured */
/** @typedef {import("./measure.mjs").Timed} Timed */
/**
 * @typedef {object} Run
 * @property {string} date
 * @property {ReturnType<typeof import("../report.mjs").machine>} machine
 * @property {number} rounds
 * @property {string} loadAfter
 * @property {readonly { name: string, host: string, result: import("./measure.mjs").Result }[]} results
 */

/** median (worst–best) in GFLOP/s @param {Measured} m @param {readonly number[]} ms */
function rates(m, ms) {
  if (ms.length === 0) return "–";
  const all = ms.map((x) => m.flops / x / 1e6);
  return `${short(median(all))} (${short(Math.min(...all))}–${short(Math.max(...all))})`;
}

/** heddle's rate over that of the better hand-written one, round by round. @param {Measured} m @param {"ms" | "cpuMs"} by */
function lead(m, by) {
  const [ours] = m.timed;
  const hands = m.timed.filter((t) => t.name.startsWith("hand-written"));
  if (ours === undefined || hands.length === 0 || ours[by].length === 0) return "–";
  const best = hands.reduce((a, b) => (median(b[by]) < median(a[by]) ? b : a));
  return median(ours[by].map((ms, i) => (best[by][i] ?? NaN) / ms)).toFixed(2);
}

/** @param {readonly Measured[]} measured */
function tables(measured) {
  const names = [...new Set(measured.flatMap((m) => m.timed.map((t) => t.name)))];
  const find = (/** @type {Measured} */ m, /** @type {string} */ name) =>
    m.timed.find((t) => t.name === name);
  const cells = (/** @type {(m: Measured, t: Timed) => string} */ of) => (/** @type {Measured} */ m) => [
    m.title,
    ...names.map((name) => {
      const t = find(m, name);
      return t === undefined ? "–" : of(m, t);
    }),
  ];
  const better = "heddle ÷ the better hand-written";
  const parts = [
    "GFLOP/s by the device's clock:",
    table(
      ["work", ...names, better],
      measured.map((m) => [...cells((_, t) => rates(m, t.ms))(m), lead(m, "ms")]),
    ),
  ];
  if (measured.some((m) => m.timed.some((t) => t.cpuMs.length > 0)))
    parts.push(
      "GFLOP for each second of processor time, which does not mind what else the machine does:",
      table(
        ["work", ...names, better],
        measured.map((m) => [...cells((_, t) => rates(m, t.cpuMs))(m), lead(m, "cpuMs")]),
      ),
    );
  parts.push(
    // Not the time of a first run: the runtime sleeps by what the first dispatch took, compiling included.
    "Characters of shader text:",
    table(["work", ...names], measured.map(cells((_, t) => String(t.text)))),
    "Outputs compared, largest difference ÷ largest value:",
    table(
      ["work", "output", "against", "difference", "limit", "verdict"],
      measured.flatMap((m) =>
        m.checks.map((c) => [
          m.title,
          c.name,
          c.against,
          c.distance.toExponential(1),
          m.limit.toExponential(0),
          c.distance < m.limit ? "same" : "**DIFFERENT**",
        ]),
      ),
    ),
  );
  return parts;
}

/** @param {Run} run */
export function markdown({ date, machine: m, rounds, loadAfter, results }) {
  const parts = [
    `# bench on WebGPU ${date}`,
    [
      `${m.model}${m.family === "" ? "" : ` (${m.family})`}, ${m.cores} cores${m.virtual ? " of a virtual machine" : ""}; ${m.extensions.join(", ")}; Node ${m.node.slice(1)}. Made by \`npm run bench:webgpu\`.`,
      `Median of ${rounds} interleaved rounds, worst and best in brackets. GFLOP counts 4 · head_dim for each attended pair of the multiset, whoever computes it how often. Load average ${m.load} before, ${loadAfter} after.`,
    ].join("\n"),
  ];
  for (const { host, result } of results) {
    parts.push(`## ${host}`);
    if ("missing" in result) parts.push(`Not in this run: ${result.missing.split("\n")[0]}`);
    else
      parts.push(
        `${result.device}. Clock: ${result.clock}. Features: ${result.features.join(", ") || "none"}.`,
        ...tables(result.measured),
        result.measured.map((x) => `- ${x.title}: ${short(x.flops / 1e9)} GFLOP. ${x.note}`).join("\n"),
      );
  }
  return `${parts.join("\n\n")}\n`;
}
