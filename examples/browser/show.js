// @ts-check
/** Putting figures, progress and failures on the page. */

/**
 * The element of an id. @throws Error where the page has none of that kind.
 * @template {HTMLElement} [T=HTMLElement]
 * @param {string} id
 * @param {new () => T} [kind]
 * @returns {T}
 */
export function element(id, kind) {
  const found = document.getElementById(id);
  if (found === null || !(found instanceof (kind ?? HTMLElement)))
    throw new Error(`The page has no '${id}'.`);
  return /** @type {T} */ (found);
}

const integers = new Intl.NumberFormat("en");
/** @param {number} n */
export const whole = (n) => integers.format(Math.round(n));
/**
 * @param {number} done
 * @param {number} of bytes, 0 where nobody knows
 */
export const percent = (done, of) =>
  of > 0 ? `${Math.round((100 * done) / of)} % of ${megabytes(of)}` : megabytes(done);
/** @param {number} bytes */
const megabytes = (bytes) => `${(bytes / 1e6).toFixed(1)} MB`;
/** @param {number} ms */
const time = (ms) => (ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`);

/**
 * One line of what goes on, and how far it is.
 * @param {string} line
 * @param {number | null} [done] null: nothing is under way; not given: nobody knows how far
 * @param {number} [of] 0 where nobody knows
 */
export function showActivity(line, done, of = 0) {
  element("status").textContent = line;
  const bar = element("progress", HTMLProgressElement);
  bar.hidden = done === null;
  if (typeof done === "number" && of > 0) {
    bar.max = of;
    bar.value = done;
  } else bar.removeAttribute("value");
}

/** @typedef {{ mean: number, read: number, seconds: number, device: string, fetchMs: number | null, compileMs: number, weightsMs: number }} Figures */

/** @param {Figures} figures */
export function figures({ mean, read, seconds, device, fetchMs, compileMs, weightsMs }) {
  element("bits").textContent = mean.toFixed(4);
  element("speed").textContent = whole(read / seconds);
  element("load").textContent = time((fetchMs ?? 0) + compileMs + weightsMs);
  element("device").textContent = `Computed by ${device}.`;
  element("times").textContent = [
    fetchMs === null ? "Weights fetched before" : `Weights fetched in ${time(fetchMs)}`,
    `compiled in ${time(compileMs)}`,
    `on the device in ${time(weightsMs)}`,
    `${whole(read)} bytes read in ${time(1000 * seconds)}.`,
  ].join(", ");
}

/**
 * @param {HTMLElement} rows
 * @param {import("heddle/runtime").Memory} planned
 * @param {import("heddle/runtime").MemoryUse} used
 */
export function showBytes(rows, planned, used) {
  const table = /** @type {const} */ ([
    ["Weights", planned.weights, used.weights],
    ["Tables of positions", planned.tables, used.tables],
    ["Input", planned.inputs, used.inputs],
    ["Output", planned.outputs, used.outputs],
    ["Values between the steps", planned.activations, used.arena],
    ["Tiles and parameters", null, used.scratch],
    ["All", planned.total, used.total],
  ]);
  rows.replaceChildren(
    ...table.map(([name, plan, use]) => {
      const row = document.createElement("tr");
      const head = document.createElement("th");
      head.scope = "row";
      head.textContent = name;
      row.append(head);
      for (const bytes of [plan, use]) row.insertCell().textContent = bytes === null ? "–" : whole(bytes);
      return row;
    }),
  );
  element("memory").textContent = megabytes(used.total);
}

/** What a reader can do about a failure, by its code or name. @type {Readonly<Record<string, string>>} */
const advice = {
  NO_WEBGPU: "Choose WebAssembly, or Auto, which takes what is there.",
  NO_ADAPTER: "Choose WebAssembly, or Auto, which takes what is there.",
  LIMITS: "Choose WebAssembly, which has no such limits.",
  OUT_OF_MEMORY: "Choose a smaller window, or WebAssembly.",
  DEVICE_LOST: "Press “Read the text” again: the device is opened anew.",
  FAILED: "Choose WebAssembly; and please report this with the name of your browser and graphics card.",
  NOT_BUILT: "In the repository, run `npm run browser`: it builds them, then serves this page.",
  InputError: "Change the text or the window, then read again.",
  WeightsError: "Fetch examples/jargon/ anew: git checkout examples/jargon",
};

/** @param {unknown} error */
export function showFailure(error) {
  const { message, name, code } = /** @type {{ message?: string, name?: string, code?: string }} */ (
    error ?? {}
  );
  const lines = [
    message ?? String(error),
    advice[code ?? ""] ??
      advice[name ?? ""] ??
      "Check that the server still runs (`npm run browser`), then reload this page.",
  ];
  element("error").replaceChildren(
    ...lines.map((line) => {
      const p = document.createElement("p");
      p.textContent = line.charAt(0).toUpperCase() + line.slice(1);
      return p;
    }),
  );
  element("error").hidden = false;
  element("result").hidden = true;
  showActivity("That did not work.", null);
}
