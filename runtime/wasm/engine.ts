/**
 * The few parts of the host that the WebAssembly device uses, typed here because the sources are checked without the DOM
 * library: WebAssembly itself, and threads of Node or of a web page.
 */

export type WasmModule = { readonly wasmModule: unique symbol };
export type WasmMemory = { readonly buffer: ArrayBuffer | SharedArrayBuffer; grow(pages: number): number };
/** A kernel: (begin, end, scratch, …buffer pointers, …scalars). */
export type KernelFunction = (...args: readonly number[]) => void;
export type WasmInstance = { readonly exports: { readonly [name: string]: unknown } };

type Engine = {
  readonly Memory: new (d: { initial: number; maximum: number; shared?: boolean }) => WasmMemory;
  readonly Module: new (bytes: Uint8Array) => WasmModule;
  readonly Instance: new (module: WasmModule, imports: object) => WasmInstance;
  validate(bytes: Uint8Array): boolean;
  compile(bytes: Uint8Array): Promise<WasmModule>;
};

const host = globalThis as unknown as { readonly WebAssembly?: Engine };

/** @throws Error where there is no WebAssembly at all. */
export function engine(): Engine {
  if (host.WebAssembly === undefined) throw new Error("heddle: this host has no WebAssembly");
  return host.WebAssembly;
}

/** A started worker, of Node or of a web page. */
export type Thread = {
  send(message: unknown): void;
  /** The handlers replace earlier ones. */
  listen(handlers: { readonly message: (data: unknown) => void; readonly dead: (why: string) => void }): void;
  terminate(): void;
};

type NodeWorker = {
  on(event: string, handler: (value: unknown) => void): void;
  postMessage(message: unknown): void;
  unref(): void;
  terminate(): Promise<number>;
};
type WebWorker = {
  onmessage: ((event: { readonly data: unknown }) => void) | null;
  onerror: ((event: { readonly message?: string }) => void) | null;
  postMessage(message: unknown): void;
  terminate(): void;
};
type Page = {
  readonly Worker?: new (url: string) => WebWorker;
  readonly Blob?: new (parts: readonly string[], options: { type: string }) => object;
  readonly URL?: { createObjectURL(blob: object): string; revokeObjectURL(url: string): void };
  readonly navigator?: { readonly hardwareConcurrency?: number };
  readonly MessageChannel: new () => {
    readonly port1: { onmessage: (() => void) | null; close(): void };
    readonly port2: { postMessage(message: unknown): void };
  };
  readonly process?: { readonly getBuiltinModule?: (name: string) => unknown };
};
const page = globalThis as unknown as Page;

const builtin = <T>(name: string): T | undefined => page.process?.getBuiltinModule?.(name) as T | undefined;

/** Logical processors this program may use. */
export function processors(): number {
  const os = builtin<{ availableParallelism?(): number }>("node:os");
  return os?.availableParallelism?.() ?? page.navigator?.hardwareConcurrency ?? 1;
}

/** Starts a worker that runs `source`, a classic script. It does not keep a Node process alive. */
export function startThread(source: string): Thread {
  const threads = builtin<{ Worker: new (source: string, options: object) => NodeWorker }>(
    "node:worker_threads",
  );
  if (threads !== undefined) {
    const worker = new threads.Worker(source, { eval: true, execArgv: [] });
    let heard: Parameters<Thread["listen"]>[0] | undefined;
    worker.on("message", (data) => heard?.message(data));
    worker.on("error", (error) => heard?.dead(error instanceof Error ? error.message : String(error)));
    worker.on("exit", (code) => heard?.dead(`it exited with code ${String(code)}`));
    worker.unref();
    return {
      send: (message) => worker.postMessage(message),
      listen: (handlers) => {
        heard = handlers;
      },
      terminate: () => {
        heard = undefined;
        void worker.terminate();
      },
    };
  }
  if (page.Worker === undefined || page.Blob === undefined || page.URL === undefined)
    throw new Error("this host has no workers");
  const url = page.URL.createObjectURL(new page.Blob([source], { type: "text/javascript" }));
  const worker = new page.Worker(url);
  const free = page.URL;
  return {
    send: (message) => worker.postMessage(message),
    listen: ({ message, dead }) => {
      worker.onmessage = (event) => {
        free.revokeObjectURL(url);
        message(event.data);
      };
      worker.onerror = (event) => dead(event.message ?? "it failed to start");
    },
    terminate: () => worker.terminate(),
  };
}

/**
 * Gives other tasks of this thread, the messages of workers and what a page draws among them, a turn. Not by a timer: pages make
 * those wait 4 ms each, and a second while they are hidden.
 */
export const turn = (): Promise<void> =>
  new Promise((resolve) => {
    const { port1, port2 } = new page.MessageChannel();
    port1.onmessage = () => {
      port1.close();
      resolve();
    };
    port2.postMessage(0);
  });
