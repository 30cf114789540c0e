/** `heddle cuda`: building the native shim, and saying what of CUDA is here and what is missing. */
import { buildShim } from "../../runtime/cuda/build.ts";
import type { Built } from "../../runtime/cuda/build.ts";
import type { CudaDevice } from "../../runtime/cuda/devices.ts";
import { isCudaError } from "../../runtime/cuda/errors.ts";
import { cacheFolder } from "../../runtime/cuda/folder.ts";
import { versionText } from "../../runtime/cuda/libraries.ts";
import { inspectCuda } from "../../runtime/cuda/report.ts";
import type { CudaReport } from "../../runtime/cuda/report.ts";
import { exitCodes } from "./failure.ts";
import type { ExitCode } from "./failure.ts";
import { bytesText, debugLevel, styled } from "./io.ts";
import type { Io } from "./io.ts";

export type CudaBuildCommand = {
  readonly force: boolean;
  readonly compiler?: string;
  readonly json: boolean;
};

export type CudaInfoCommand = {
  readonly driver?: string;
  readonly nvrtc?: string;
  readonly json: boolean;
};

const seconds = (milliseconds: number): string => `${(milliseconds / 1000).toFixed(2)} s`;

export async function cudaBuild({ json, ...options }: CudaBuildCommand, io: Io): Promise<ExitCode> {
  try {
    const built = await buildShim({ cache: cacheFolder(io.env), ...options });
    if (json) io.out(`${JSON.stringify(built, null, 2)}\n`);
    else io.out(`${built.path}\n${builtText(built)}\n`);
    if (built.warnings !== "") io.err(`${built.warnings}\n`);
    return exitCodes.ok;
  } catch (error) {
    if (!isCudaError(error)) throw error;
    io.err(`${styled(io, "red", "error")}: ${error.message.replace(/^build: /, "")}\n`);
    if (error.log !== undefined && debugLevel(io) > 0) io.err(`${error.log}\n`);
    return exitCodes.diagnostics;
  }
}

const builtText = ({ bytes, fresh, milliseconds, compiler }: Built): string =>
  [
    bytesText(bytes),
    fresh ? `built in ${seconds(milliseconds)}` : "in the cache already",
    compiler === null ? "no compiler is here any more" : `${compiler.command}: ${compiler.version}`,
  ].join(", ");

export async function cudaInfo({ json, ...options }: CudaInfoCommand, io: Io): Promise<ExitCode> {
  const report = await inspectCuda({ build: { cache: cacheFolder(io.env) }, ...options });
  io.out(json ? `${JSON.stringify(plain(report), null, 2)}\n` : infoText(report));
  return exitCodes.ok;
}

/** JSON has no errors. */
const plain = (report: CudaReport): object => ({
  ...report,
  shim: report.shim instanceof Error ? { code: report.shim.code, message: report.shim.message } : report.shim,
});

const WIDTH = 10;

function infoText({ cache, compiler, shim, driver, nvrtc, cublasLt, devices, problems }: CudaReport): string {
  const line = (name: string, text: string) => `${name.padEnd(WIDTH)} ${text}\n`;
  const missing = (name: string, { why, repair, searched, refused }: MissingText) =>
    line(name, `missing: ${why}: ${repair}`) +
    line("", `looked in: ${searched.join("; ")}`) +
    refused.slice(1).map((r) => line("", `and: ${r}`)).join(""); // prettier-ignore
  const unknown = "not known without the shim";
  return [
    line("cache", cache),
    line("compiler", compiler === null ? "missing" : `${compiler.command}: ${compiler.version}`),
    shim instanceof Error
      ? line("shim", `missing: ${shim.message.replace(/^\w+: /, "")}`)
      : line("shim", `${shim.path} (${builtText(shim)})`),
    driver === null
      ? line("driver", unknown)
      : driver.found
        ? line("driver", `for CUDA ${versionText(driver.version)}: ${driver.path}`)
        : missing("driver", driver),
    nvrtc === null
      ? line("nvrtc", unknown)
      : nvrtc.found
        ? line("nvrtc", `${versionText(nvrtc.version)}: ${nvrtc.path}`) +
          line("", `builtins: ${nvrtc.builtins ?? "left to the loader"}`) +
          line("", `compiles for ${nvrtc.archs.map((a) => `sm_${a}`).join(", ")}`)
        : missing("nvrtc", nvrtc),
    cublasLt === null
      ? line("cublaslt", unknown)
      : cublasLt.found
        ? line("cublaslt", `${versionText(cublasLt.version)}: ${cublasLt.path} (for --linear cublaslt)`)
        : line("cublaslt", `not here, and only needed for --linear cublaslt: ${cublasLt.why}`),
    ...(devices.length === 0
      ? [line("devices", "none")]
      : devices.map((d) => line(`device ${d.ordinal}`, deviceText(d)))),
    problems.length === 0
      ? "Kernels can be compiled and run here.\n"
      : nvrtc?.found === true
        ? "Kernels can be compiled here, but not run.\n"
        : "",
  ].join("");
}

type MissingText = {
  readonly why: string;
  readonly repair: string;
  readonly searched: readonly string[];
  readonly refused: readonly string[];
};

const deviceText = (d: CudaDevice): string =>
  [
    `${d.name}: sm_${d.capability}`,
    `${d.multiprocessors} multiprocessors`,
    bytesText(d.memoryBytes),
    `${d.sharedBytesOptIn / 1024} KiB of shared memory for a block`,
  ].join(", ");
