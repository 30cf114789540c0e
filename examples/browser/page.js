// @ts-check
/**
 * The jargon model in a page: examples/jargon.generated.ts as `heddle compile` made it, on the device that the reader chooses.
 * What the page needs of heddle is `jargon.create`, `bits`, `memory` and `memoryInUse`; the rest is about showing.
 */
import { checkpoint, heldOut, manifest } from "./files.js";
import { showLegend, showSurprise } from "./surprise.js";
import { element, figures, percent, showActivity, showBytes, showFailure, whole } from "./show.js";

/** @typedef {Awaited<ReturnType<typeof import("../jargon.generated.ts").jargon.create>>} Session */
/** @typedef {"auto" | "webgpu" | "wasm"} Choice */
/** @typedef {{ choice: Choice, session: Session, compileMs: number, weightsMs: number }} Loaded */

const START_BYTES = 4096;
/** Lets the page draw what was just written. */
const drawn = () => new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve)));

const form = element("form", HTMLFormElement);
const text = element("text", HTMLTextAreaElement);
const width = element("window", HTMLInputElement);
const [run, stop] = [element("run", HTMLButtonElement), element("stop", HTMLButtonElement)];

async function main() {
  showLegend(element("legend"));
  // A dynamic import, so that a repository that was not built is an error with a sentence.
  const built = { module: "../../dist/examples/jargon.generated.js", runtime: "heddle/runtime" };
  /** @type {typeof import("../jargon.generated.ts")} */
  const { jargon } = await import(built.module).catch(notBuilt);
  /** @type {typeof import("heddle/runtime")} */
  const { memoryOf, webgpuHere } = await import(built.runtime).catch(notBuilt);
  const about = await manifest();
  const start = await heldOut(about, START_BYTES);
  /** @type {string | undefined} */
  let all;
  text.value = start;

  const devices = [...document.getElementsByName("device")].flatMap((d) =>
    d instanceof HTMLInputElement ? [d] : [],
  );
  const bytesOf = () => new TextEncoder().encode(text.value);
  const plan = () => {
    const bytes = bytesOf().length;
    element("size").textContent = `${whole(bytes)} bytes`;
    const N = Math.min(Number(width.value), bytes - 1);
    if (!Number.isInteger(N) || N < 1) {
      element("plan").textContent = "The text must have two bytes or more, and the window one.";
      return;
    }
    // WebAssembly runs long texts in pieces, a GPU whole.
    const plans = {
      webgpu: jargon.program.webgpu?.at(-1)?.plan ?? jargon.program.plan,
      wasm: jargon.program.plan,
    };
    const total = (/** @type {"webgpu" | "wasm"} */ device) =>
      `${whole(memoryOf(plans[device], { N, B: 1 }).total)} bytes`;
    const chosen = devices.find((d) => d.checked)?.value;
    element("plan").textContent =
      chosen === "webgpu" || chosen === "wasm"
        ? `Will take ${total(chosen)} on the device.`
        : `Will take ${total("webgpu")} on WebGPU, ${total("wasm")} on WebAssembly.`;
  };
  for (const device of devices) device.addEventListener("change", plan);
  text.addEventListener("input", plan);
  width.addEventListener("input", plan);
  element("start").addEventListener("click", () => {
    text.value = start;
    plan();
  });
  element("whole").addEventListener("click", async () => {
    try {
      all ??= await heldOut(about);
      text.value = all;
      plan();
    } catch (error) {
      showFailure(error);
    }
  });
  plan();
  void sayWhatIsHere(webgpuHere);

  /** @type {Loaded | undefined} */
  let loaded;
  /** @type {Awaited<ReturnType<typeof checkpoint>> | undefined} */
  let weights;
  let stopped = false;

  /** @param {Choice} choice */
  const load = async (choice) => {
    if (loaded?.choice === choice) return { ...loaded, fetchMs: null };
    loaded?.session.dispose();
    loaded = undefined;
    const began = weights === undefined ? performance.now() : null;
    weights ??= await checkpoint((done, of) =>
      showActivity(`Fetching the weights: ${percent(done, of)}`, done, of),
    );
    const fetched = performance.now();
    let compiled = fetched;
    showActivity("Opening the device …");
    await drawn();
    const session = await jargon.create({
      weights,
      device: choice,
      warmup: (done, of) => {
        compiled = performance.now();
        showActivity(`Compiling for the GPU: kernel ${done} of ${of}`, done, of);
      },
      progress: (done, of) => {
        if (done === 1) compiled = performance.now();
        showActivity(`Loading the weights: tensor ${done} of ${of}`, done, of);
      },
    });
    const ready = performance.now();
    loaded = { choice, session, compileMs: compiled - fetched, weightsMs: ready - compiled };
    return { ...loaded, fetchMs: began === null ? null : fetched - began };
  };

  const read = async () => {
    const choice = /** @type {Choice} */ (new FormData(form).get("device"));
    const [given, tokens, window] = [text.value, bytesOf(), Number(width.value)];
    const { session, ...times } = await load(choice);
    if (stopped) return;
    stop.hidden = false;
    showActivity(`Reading ${whole(tokens.length)} bytes …`);
    await drawn();
    const began = performance.now();
    /** @type {import("heddle/runtime").MemoryUse | undefined} */
    let used;
    const bits = await session.bits(tokens, {
      window,
      progress: (done, of) => {
        // The last window may be shorter, and take less.
        const now = session.memoryInUse();
        if (used === undefined || now.total > used.total) used = now;
        showActivity(`Reading: window ${done} of ${of}`, done, of);
      },
    });
    const seconds = (performance.now() - began) / 1000;
    const length = Math.min(window, tokens.length - 1);
    figures({ mean: bits.mean, read: tokens.length - 1, seconds, device: session.device, ...times });
    showBytes(element("bytes"), session.memory({ length }), used ?? session.memoryInUse());
    const same = given === all && window === about.window;
    element("torchscale").hidden = !same;
    element("torchscale").textContent =
      `torchscale on this text and window: ${about.bits_per_byte.toFixed(5)}`;
    showSurprise(element("surprise"), given, bits.tokens);
    element("result").hidden = false;
    showActivity(`Done: ${bits.mean.toFixed(4)} bits per byte.`, null);
  };

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (run.disabled) return;
    run.disabled = true;
    stopped = false;
    element("error").hidden = true;
    try {
      await read();
    } catch (error) {
      if (!stopped) showFailure(error);
    }
    if (stopped) showActivity("Stopped.", null);
    stop.hidden = true;
    run.disabled = false;
  });
  stop.addEventListener("click", () => {
    stopped = true;
    // What runs ends at the next window; the device goes with it.
    loaded?.session.dispose();
    loaded = undefined;
    stop.hidden = true;
    showActivity("Stopping …");
  });
  run.disabled = false;
  showActivity("Ready.", null);
}

/**
 * @param {unknown} cause
 * @returns {never}
 */
function notBuilt(cause) {
  throw Object.assign(new Error("The compiled modules in dist/ are not there.", { cause }), {
    code: "NOT_BUILT",
  });
}

/** @param {typeof import("heddle/runtime").webgpuHere} webgpuHere */
async function sayWhatIsHere(webgpuHere) {
  const threads = globalThis.crossOriginIsolated
    ? `WebAssembly with ${navigator.hardwareConcurrency} threads`
    : "WebAssembly with one thread (this page is not cross-origin isolated)";
  element("here").textContent = await webgpuHere().then(
    ({ name, software }) =>
      software
        ? `WebGPU here is only software (${name}): Auto takes ${threads}.`
        : `WebGPU here: ${name}. Auto takes it.`,
    () => `This browser offers no WebGPU: Auto takes ${threads}.`,
  );
}

main().catch(showFailure);
