/**
 * The block of shared memory through which a caller and its workers meet, and the program of a worker. The protocol is
 * described in ../worker.ts.
 */

// Words of the control block, each on a cache line of its own where threads meet at it.
export const OPEN = 0;
export const CALLS = 16;
export const NEXT = 32;
export const ACTIVE = 48;
export const SLEEPERS = 64;
export const STOP = 80;
export const FAILED = 96;
export const KERNEL = 112;
export const GRID = 113;
export const CHUNK = 114;
export const ARGUMENTS = 115;
/** Byte offset of the numbers: the scratch distance between threads, then the arguments of the kernel. */
export const NUMBERS = 512;
export const MOST_ARGUMENTS = 255;
/** Byte offset of a failed worker's message: its length, then UTF-16 units. */
export const MESSAGE = NUMBERS + 8 * (MOST_ARGUMENTS + 1);
const MOST_UNITS = 500;
export const CONTROL_BYTES = Math.ceil((MESSAGE + 4 + 2 * MOST_UNITS) / 8) * 8;

/**
 * How many times an idle worker looks for the next step before it sleeps: some 100 µs, longer than what lies between the
 * steps of one run and too short to be noticed as load.
 */
const SPINS = 20_000;

/**
 * Self-contained: it is shipped as text, because a page has no second file to point a worker at; so what is to be said of it stands here.
 * The last line of its loop waits for the end of a step that is done for this thread, which would be joined again and again otherwise.
 */
export const workerSource = `"use strict";
const port = typeof require === "function" ? require("node:worker_threads").parentPort : self;
const receive = (data) => {
  const { module, memory, entries, control, number } = data;
  const word = new Int32Array(control), real = new Float64Array(control, ${NUMBERS});
  let functions;
  try {
    const instance = new WebAssembly.Instance(module, { env: { memory } });
    functions = entries.map((name) => instance.exports[name]);
  } catch (error) {
    port.postMessage({ failed: String(error && error.message || error) });
    return;
  }
  port.postMessage({ ready: true });
  const work = () => {
    const kernel = functions[word[${KERNEL}]], grid = word[${GRID}], chunk = word[${CHUNK}];
    const args = [];
    for (let i = 0; i < word[${ARGUMENTS}]; i++) args.push(real[1 + i]);
    args[2] += number * real[0];
    for (;;) {
      const begin = Atomics.add(word, ${NEXT}, chunk);
      if (begin >= grid) return;
      args[0] = begin;
      args[1] = Math.min(begin + chunk, grid);
      kernel(...args);
    }
  };
  const fail = (error) => {
    if (Atomics.compareExchange(word, ${FAILED}, 0, 1) !== 0) return;
    const text = String(error && error.message || error).slice(0, ${MOST_UNITS});
    const units = new Uint16Array(control, ${MESSAGE} + 4);
    for (let i = 0; i < text.length; i++) units[i] = text.charCodeAt(i);
    word[${MESSAGE / 4}] = text.length;
    Atomics.store(word, ${FAILED}, 2);
    Atomics.store(word, ${NEXT}, word[${GRID}]);
  };
  for (;;) {
    const calls = Atomics.load(word, ${CALLS});
    for (let i = 0; Atomics.load(word, ${OPEN}) === 0 && Atomics.load(word, ${STOP}) === 0; i++)
      if (i >= ${SPINS}) {
        Atomics.add(word, ${SLEEPERS}, 1);
        Atomics.wait(word, ${CALLS}, calls);
        Atomics.sub(word, ${SLEEPERS}, 1);
        break;
      }
    if (Atomics.load(word, ${STOP}) !== 0) break;
    Atomics.add(word, ${ACTIVE}, 1);
    const open = Atomics.load(word, ${OPEN});
    if (open !== 0) {
      try { work(); } catch (error) { fail(error); }
    }
    if (Atomics.sub(word, ${ACTIVE}, 1) === 1) Atomics.notify(word, ${ACTIVE});
    while (open !== 0 && Atomics.load(word, ${OPEN}) === open && Atomics.load(word, ${STOP}) === 0);
  }
  port.postMessage({ released: true });
};
if (port.on) port.on("message", receive);
else port.onmessage = (event) => receive(event.data);
`;
