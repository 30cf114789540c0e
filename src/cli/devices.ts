/** `heddle devices`: what can compute here, and what not and why. */
import { availableParallelism } from "node:os";
import { exitCodes } from "./failure.ts";
import type { ExitCode } from "./failure.ts";
import type { Io } from "./io.ts";

type Device = {
  readonly name: string;
  readonly available: boolean;
  readonly detail: string;
};

/** Modules of one function whose only interest is whether the host accepts them. */
const probes = {
  /** () → v128: i32.const 0, i8x16.splat. */
  simd: [
    0x00, 0x61, 0x73, 0x6d, 1, 0, 0, 0, 1, 5, 1, 0x60, 0, 1, 0x7b, 3, 2, 1, 0, 10, 8, 1, 6, 0, 0x41, 0, 0xfd,
    0x0f, 0x0b,
  ],
  /** () → v128: three f32x4.splat(0), f32x4.relaxed_madd. */
  relaxed: [
    0x00, 0x61, 0x73, 0x6d, 1, 0, 0, 0, 1, 5, 1, 0x60, 0, 1, 0x7b, 3, 2, 1, 0, 10, 29, 1, 27, 0, 0x43, 0, 0,
    0, 0, 0xfd, 0x13, 0x43, 0, 0, 0, 0, 0xfd, 0x13, 0x43, 0, 0, 0, 0, 0xfd, 0x13, 0xfd, 0x85, 0x02, 0x0b,
  ],
} as const;

type Host = {
  readonly WebAssembly?: { validate(bytes: Uint8Array): boolean };
  readonly SharedArrayBuffer?: unknown;
};

export function deviceList(): readonly Device[] {
  const host = globalThis as unknown as Host;
  const accepts = (probe: readonly number[]) => host.WebAssembly?.validate(Uint8Array.from(probe)) ?? false;
  const simd = accepts(probes.simd);
  const relaxed = accepts(probes.relaxed);
  const shared = host.SharedArrayBuffer !== undefined;
  const threads = shared ? availableParallelism() : 1;
  const wasm =
    host.WebAssembly === undefined
      ? "this host has no WebAssembly"
      : !simd
        ? "this host's WebAssembly has no SIMD"
        : [
            "SIMD128",
            relaxed ? "relaxed SIMD" : "no relaxed SIMD (this host does not accept it)",
            `${threads} thread${threads === 1 ? "" : "s"}${shared ? "" : " (no SharedArrayBuffer)"}`,
          ].join(", ");
  const missing = "not built into this version";
  return [
    { name: "reference", available: true, detail: "f64 in JavaScript, by definition; slow" },
    {
      name: "interpret",
      available: true,
      detail: "the kernels step by step, every promise checked; very slow",
    },
    { name: "wasm", available: simd, detail: wasm },
    { name: "webgpu", available: false, detail: missing },
    { name: "cuda", available: false, detail: missing },
  ];
}

export function devices(json: boolean, io: Io): ExitCode {
  const list = deviceList();
  const auto = "`auto` is wasm.";
  const lines = list.map((d) => `${d.name.padEnd(10)} ${d.available ? "yes" : "no "}  ${d.detail}\n`);
  io.out(json ? `${JSON.stringify(list, null, 2)}\n` : `${lines.join("")}${auto}\n`);
  return exitCodes.ok;
}
