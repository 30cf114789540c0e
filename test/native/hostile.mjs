// Runs in a process of its own, for what it does must not end one: every function of the shim with whatever JavaScript can give.
// node hostile.mjs MODE SHIM DRIVER NVRTC CUBLASLT; prints what it did and exits with 0.
import { createRequire } from "node:module";
import { isMainThread, Worker, workerData } from "node:worker_threads";
import process from "node:process";

const [mode, path, driverPath, nvrtcPath, cublasLtPath] = isMainThread ? process.argv.slice(2) : workerData;
const shim = createRequire(import.meta.url)(path);

const counts = { threw: 0, passed: 0 };
/** An error of the shim, or the error that a hostile argument itself throws. */
function check(error, name) {
  counts.threw++;
  if (error.message === "hostile") return;
  const good =
    error.name === "CudaError" && error.code !== "" && error.call !== "" && error.message.length > 10;
  if (!good) throw new Error(`${name} threw ${error.stack}`);
}
const promises = [];
function attempt(name, args) {
  try {
    const result = shim[name](...args);
    counts.passed++;
    if (result instanceof Promise)
      promises.push(
        result.then(
          () => undefined,
          (e) => check(e, name),
        ),
      );
    return result;
  } catch (error) {
    check(error, name);
    return undefined;
  }
}

/** x, W and out of 4 × 4 in f32, without bias, residual and workspace. */
const square = Float64Array.of(4, 4, 4, 0, 0, 0, 0, 0, 0);
const ptx = new TextEncoder().encode(".version 8.0\n");
async function make() {
  const driver = (await shim.openDriver(driverPath)).handle;
  const nvrtc = (await shim.openNvrtc(nvrtcPath, null)).handle;
  const context = await shim.openContext(driver, 0);
  const module = await shim.loadModule(context, ptx);
  const fn = shim.moduleFunction(module, "axpy");
  const stream = shim.createStream(context);
  const memory = await shim.allocate(context, 256);
  const { handle: pinned, buffer } = await shim.allocatePinned(context, 256);
  const [event, later] = [shim.createEvent(context), shim.createEvent(context)];
  for (const e of [event, later]) shim.recordEvent(e, stream);
  shim.beginCapture(stream);
  const graph = shim.endCapture(stream, 0).handle;
  const cublaslt = (await shim.openCublasLt(cublasLtPath)).handle;
  const products = await shim.openProducts(context, cublaslt);
  const product = shim.product(products, square).handle;
  const made = { driver, nvrtc, context, module, fn, stream, memory, pinned, buffer, event, later, graph };
  return { ...made, cublaslt, products, product };
}

/** Arguments that each function takes, of `made`. */
const good = (m) => ({
  openDriver: [driverPath],
  openNvrtc: [nvrtcPath, null],
  compile: [m.nvrtc, "name", "source", ["--gpu-architecture=sm_90"]],
  deviceCount: [m.driver],
  deviceInfo: [m.driver, 1, Int32Array.of(75, 76)],
  openContext: [m.driver, 0],
  memoryInfo: [m.context],
  synchronizeContext: [m.context],
  loadModule: [m.context, ptx],
  moduleFunction: [m.module, "axpy"],
  functionUsage: [m.fn],
  occupancy: [m.fn, 64, 0],
  setSharedLimit: [m.fn, 1000],
  launch: [
    m.fn,
    m.stream,
    Uint32Array.of(1, 1, 1, 32, 1, 1, 0),
    new Uint8Array(24),
    [m.memory, m.memory],
    Float64Array.of(0, 0, 8, 0),
  ],
  createStream: [m.context],
  synchronizeStream: [m.stream],
  createEvent: [m.context],
  recordEvent: [m.event, m.stream],
  waitEvent: [m.stream, m.event],
  synchronizeEvent: [m.event],
  elapsed: [m.event, m.later],
  allocate: [m.context, 64],
  allocatePinned: [m.context, 64],
  fill: [m.stream, m.memory, 0, 4, 1, 4],
  upload: [m.stream, m.memory, 0, m.pinned, 0, 64],
  download: [m.stream, m.memory, 0, m.pinned, 0, 64],
  copy: [m.stream, m.memory, 0, m.memory, 128, 64],
  write: [m.stream, m.memory, 0, new Uint8Array(64)],
  read: [m.stream, m.memory, 0, new Uint8Array(64)],
  beginCapture: [m.stream],
  endCapture: [m.stream, 0],
  launchGraph: [m.graph, m.stream],
  openCublasLt: [cublasLtPath],
  openProducts: [m.context, m.cublaslt],
  product: [m.products, square],
  multiply: [m.product, m.stream, [m.memory, m.memory, m.memory]],
  dispose: [{}],
});

const detached = new Uint8Array(8);
structuredClone(detached.buffer, { transfer: [detached.buffer] });
const cubin = (edit) => {
  const bytes = new Uint8Array(256);
  bytes.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]);
  edit(new DataView(bytes.buffer));
  return bytes;
};
/** A table of sections or segments: where it lies, how many, how large each. */
const table = (sections, at, count, size) => (view) => {
  view.setBigUint64(sections ? 40 : 32, at, true);
  view.setUint16(sections ? 60 : 56, count, true);
  view.setUint16(sections ? 58 : 54, size, true);
};
const torn = [
  cubin(() => undefined),
  cubin(table(true, 64n, 3, 0)),
  cubin(table(true, 200n, 1, 64)),
  cubin(table(true, 2n ** 64n - 8n, 0xffff, 64)),
  cubin(table(false, 250n, 1, 56)),
  cubin((view) => {
    table(false, 64n, 1, 56)(view);
    view.setBigUint64(72, 250n, true);
    view.setBigUint64(96, 7n, true);
  }),
];
/** An array whose first element is read by a function that does something before. */
const trap = (list, act) =>
  Object.defineProperty([...list], 0, {
    get: () => {
      act();
      return list[0];
    },
  });
const throwing = () => {
  throw new Error("hostile");
};
/** Of every type and at every edge. */
const hostile = (m) =>
  [
    [undefined, null, true, "", "x", "a\0b", "\ud800", "é".repeat(5000), Symbol("s"), 10n, 2n ** 70n],
    [0, -0, 1, -1, 0.5, 1e9, NaN, Infinity, -Infinity, 2 ** 31, 2 ** 32, 2 ** 53, 2 ** 53 + 2, 1e300, 5e-324],
    [{}, [], [1], [null], [[]], () => 1, new Date(), new Map(), /x/, new Proxy({}, {}), new Proxy([], {})],
    [new ArrayBuffer(8), new SharedArrayBuffer(8), new DataView(new ArrayBuffer(8)), Buffer.alloc(8)],
    [new Uint8Array(new SharedArrayBuffer(64)), new Uint8Array(5000), new Uint16Array(8), detached],
    [new Uint32Array(7), new Uint32Array(7).fill(2 ** 32 - 1), new Float32Array(8), new BigInt64Array(4)],
    [new Float64Array(4).fill(NaN), new Float64Array(4).fill(1e300), new Int32Array(3).fill(-1)],
    [new Uint8Array(new ArrayBuffer(8, { maxByteLength: 64 })), new Uint8Array(m.buffer, 100, 8)],
    [
      Array(10_000).fill(m.memory),
      Array(3),
      [m.stream, m.memory],
      [m.memory, 1],
      Array(600).fill("--option"),
    ],
    [driverPath, nvrtcPath, cublasLtPath, "/", "/dev/null", "/nowhere", path, "libm.so.6"],
    Object.values(m),
    [Object.create(m.stream), new Proxy(m.memory, {}), structuredClone(m.stream), { ...m.memory }],
    torn,
    [trap([1, 2], () => throwing())],
  ].flat();

/** xorshift32, so that a failure can be repeated. */
let state = 20240601;
function random(below) {
  state ^= state << 13;
  state ^= state >>> 17;
  state ^= state << 5;
  return (state >>> 0) % below;
}

/** Ends a capture that a call began, so that later ones are not all refused. */
function uncapture(m) {
  try {
    shim.endCapture(m.stream, 1);
  } catch {
    // It was not captured.
  }
}

async function withArguments() {
  const m = await make();
  const values = hostile(m);
  const names = Object.keys(shim);
  const calls = good(m);
  if (names.some((n) => calls[n] === undefined)) throw new Error("a function is not tested");
  for (const name of names) {
    if (name === "dispose") continue;
    attempt(name, calls[name]);
    uncapture(m);
    for (let count = 0; count < calls[name].length; count++) attempt(name, calls[name].slice(0, count));
    attempt(name, [...calls[name], ...values]);
    for (let at = 0; at < calls[name].length; at++)
      for (const value of values) {
        attempt(name, calls[name].with(at, value));
        uncapture(m);
      }
    await Promise.all(promises.splice(0));
  }
  for (const value of values.filter((v) => !Object.values(m).includes(v))) attempt("dispose", [value]);
  for (let i = 0; i < 20_000; i++) {
    const name = names[random(names.length)];
    if (name === "dispose") continue;
    const args = calls[name].map((v) => (random(3) === 0 ? values[random(values.length)] : v));
    attempt(name, args);
    uncapture(m);
    if (i % 500 === 0) await Promise.all(promises.splice(0));
  }
  for (const [name, args] of Object.entries(calls)) {
    // As a constructor, and as a method of something else.
    try {
      const made = new shim[name](...args);
      if (made instanceof Promise) promises.push(made.catch((e) => check(e, name)));
    } catch (error) {
      check(error, name);
    }
    uncapture(m);
    try {
      const result = shim[name].apply(m.memory, args);
      if (result instanceof Promise) promises.push(result.catch((e) => check(e, name)));
    } catch (error) {
      check(error, name);
    }
    uncapture(m);
  }
  await Promise.all(promises);
}

/** Handles that end in the middle of everything. */
async function withHandles() {
  for (const victim of [
    "driver",
    "context",
    "module",
    "fn",
    "stream",
    "memory",
    "pinned",
    "event",
    "graph",
    "nvrtc",
    "cublaslt",
    "products",
    "product",
  ]) {
    const m = await make();
    const calls = good(m);
    // While everything is under way …
    for (const [name, args] of Object.entries(calls)) {
      attempt(name, args);
      uncapture(m);
    }
    // … also between the reading of one argument and the next …
    const end = () => {
      shim.dispose(m[victim]);
      structuredClone(calls.launch[3].buffer, { transfer: [calls.launch[3].buffer] });
    };
    attempt("launch", calls.launch.with(4, trap([m.memory, m.memory], end)));
    attempt("compile", calls.compile.with(3, trap(["--fmad=true"], end)));
    // … and in a capture.
    attempt("beginCapture", [m.stream]);
    attempt("fill", calls.fill);
    shim.dispose(m[victim]);
    for (const [name, args] of Object.entries(calls)) attempt(name, args);
    uncapture(m);
    for (const handle of Object.values(m)) if (!(handle instanceof ArrayBuffer)) shim.dispose(handle);
    for (const [name, args] of Object.entries(calls)) attempt(name, args);
    await Promise.all(promises.splice(0));
  }
}

/** Threads that are ended while works are under way, beside this one. */
async function withWorkers() {
  const m = await make();
  for (let i = 0; i < 8; i++) {
    const worker = new Worker(new URL(import.meta.url), {
      workerData: ["inside", path, driverPath, nvrtcPath, cublasLtPath],
    });
    await new Promise((resolve, reject) => worker.once("message", resolve).once("error", reject));
    if (i % 2 === 0) await worker.terminate();
    else await new Promise((resolve) => worker.once("exit", resolve));
    for (const [name, args] of Object.entries(good(m))) {
      attempt(name, args);
      uncapture(m);
    }
  }
  await Promise.all(promises);
  shim.dispose(m.driver);
}

async function insideWorker() {
  const { parentPort } = await import("node:worker_threads");
  const m = await make();
  for (const [name, args] of Object.entries(good(m))) attempt(name, args);
  parentPort.postMessage("under way");
}

/** The end of the process while works are under way and a stream is captured. */
async function withExit() {
  const m = await make();
  for (const [name, args] of Object.entries(good(m))) attempt(name, args);
  attempt("beginCapture", [m.stream]);
  console.log(JSON.stringify(counts));
  process.exit(0);
}

const modes = {
  arguments: withArguments,
  handles: withHandles,
  workers: withWorkers,
  inside: insideWorker,
  exit: withExit,
};
await modes[mode]();
if (isMainThread) console.log(JSON.stringify(counts));
