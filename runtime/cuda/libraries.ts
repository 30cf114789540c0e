/** Opening libcuda, libnvrtc and libcublasLt: the first that works, or what is missing, where it was looked for and how to get it. */
import { stat } from "node:fs/promises";
import { isAbsolute } from "node:path";
import { cudaError, isCudaError } from "./errors.ts";
import type { CudaCode, CudaError } from "./errors.ts";
import type { Env } from "./folder.ts";
import { cublasLtPlaces, driverPlaces, nvrtcPlaces } from "./search.ts";
import type { Candidate, Place } from "./search.ts";
import type { Handle, Shim } from "./shim.ts";

export type CudaVersion = { readonly major: number; readonly minor: number };

export const versionText = ({ major, minor }: CudaVersion): string => `${major}.${minor}`;

/** One line for a reader: what is missing and the repair. */
export type Missing = {
  readonly found: false;
  readonly code: CudaCode;
  readonly call: string;
  readonly why: string;
  readonly repair: string;
  /** Places that were looked at. */
  readonly searched: readonly string[];
  /** Candidates that were there and did not work. */
  readonly refused: readonly string[];
};

export type OpenDriver = {
  readonly found: true;
  readonly handle: Handle<"driver">;
  readonly path: string;
  /** The newest CUDA that the driver runs. */
  readonly version: CudaVersion;
};

export type OpenNvrtc = {
  readonly found: true;
  readonly handle: Handle<"nvrtc">;
  readonly path: string;
  readonly builtins: string | null;
  readonly version: CudaVersion;
  /** Compute capabilities that it compiles for: 90 for sm_90. */
  readonly archs: readonly number[];
  /** What a cache may tell builds apart by: version and size, for a version number has several builds. */
  readonly identity: string;
};

export type OpenCublasLt = {
  readonly found: true;
  readonly handle: Handle<"cublaslt">;
  readonly path: string;
  readonly version: CudaVersion;
};

export const missingError = ({ code, call, why, repair }: Missing): CudaError =>
  cudaError(code, call, `${why}: ${repair}`);

type Attempts<T> = {
  readonly opened: T | null;
  readonly errors: readonly CudaError[];
  readonly searched: readonly string[];
};

/** Goes through the places until `open` gives something. */
async function firstOf<T>(
  places: readonly Place[],
  open: (candidate: Candidate) => Promise<T | null>,
): Promise<Attempts<T>> {
  const errors: CudaError[] = [];
  const searched: string[] = [];
  for (const place of places) {
    searched.push(place.name);
    for (const candidate of await place.find())
      try {
        const opened = await open(candidate);
        if (opened !== null) return { opened, errors, searched };
      } catch (error) {
        if (!isCudaError(error)) throw error;
        errors.push(error);
      }
  }
  return { opened: null, errors, searched };
}

/** The loader's own words for a file that is not there; anything else says that a library was there and did not work. */
const isAbsent = (error: CudaError): boolean =>
  error.code === "NO_LIBRARY" && /cannot open shared object file/.test(error.message);

/** Opens libcuda and initialises it. `path`: this file or folder and no other. */
export async function openDriver(shim: Shim, path?: string): Promise<OpenDriver | Missing> {
  const { opened, errors, searched } = await firstOf(driverPlaces(path), async (candidate) => ({
    ...(await shim.openDriver(candidate.path)),
    path: candidate.path,
  }));
  if (opened !== null) {
    const { handle, version } = opened;
    const major = Math.floor(version / 1000);
    return {
      found: true,
      handle,
      path: opened.path,
      version: { major, minor: Math.floor((version % 1000) / 10) },
    };
  }
  const there = errors.filter((e) => !isAbsent(e));
  const [first] = there;
  const refused = there.map((e) => e.message);
  if (first === undefined)
    return {
      found: false,
      code: "NO_LIBRARY",
      call: "openDriver",
      why: `NVIDIA's driver library libcuda.so.1 was not found${path === undefined ? "" : ` at ${path}`}`,
      repair: "install NVIDIA's driver, or start the container with its GPUs (--gpus all)",
      searched,
      refused,
    };
  return {
    found: false,
    code: first.code,
    call: first.call,
    why: `libcuda does not start: ${first.message}`,
    repair: repairs[first.code] ?? "look with nvidia-smi whether the driver works",
    searched,
    refused,
  };
}

const repairs: { readonly [code: string]: string } = {
  CUDA_ERROR_NO_DEVICE:
    "no GPU is visible to this process; look at nvidia-smi, CUDA_VISIBLE_DEVICES and the container's --gpus",
  CUDA_ERROR_SYSTEM_DRIVER_MISMATCH: "the driver was updated while it ran; restart the machine",
  CUDA_ERROR_STUB_LIBRARY: "this is the toolkit's stub for linking; NVIDIA's driver brings the real one",
  NO_SYMBOL: "update NVIDIA's driver to one of CUDA 12 or later",
  NO_LIBRARY: "the file is damaged or for another processor; install NVIDIA's driver anew",
};

/** What a library of a toolkit is chosen by. */
export type NvrtcWish = {
  /** This file or folder and no other. */
  readonly path?: string;
  /** The driver's version: code of a later major version would not load, so an older NVRTC is taken where there is one. */
  readonly driver?: CudaVersion;
  readonly env?: Env;
};

/** Opens libnvrtc, of version 12 or 13, and its builtins before it. */
export async function openNvrtc(shim: Shim, wish: NvrtcWish = {}): Promise<OpenNvrtc | Missing> {
  const { path, driver, env = process.env } = wish;
  const tooNew: OpenNvrtc[] = [];
  const { opened, errors, searched } = await firstOf(nvrtcPlaces(path, env), async (candidate) => {
    const { handle, major, minor, archs } = await shim.openNvrtc(candidate.path, candidate.builtins);
    const version = { major, minor };
    if (major < 12) {
      shim.dispose(handle);
      throw cudaError(
        "NO_LIBRARY",
        "openNvrtc",
        `${candidate.path} is NVRTC ${versionText(version)}, and 12 or 13 is needed`,
      );
    }
    const identity = `nvrtc ${versionText(version)}${await sizeOf(candidate.path)}`;
    const found: OpenNvrtc = { found: true, ...candidate, handle, version, archs, identity };
    if (driver === undefined || major <= driver.major || path !== undefined) return found;
    tooNew.push(found);
    return null;
  });
  const [fallback] = tooNew;
  for (const unused of opened === null ? tooNew.slice(1) : tooNew) shim.dispose(unused.handle);
  if (opened !== null) return opened;
  // Better than nothing: the driver of a minor version behind may still take it, and its refusal has a name.
  if (fallback !== undefined) return fallback;
  const refused = errors.filter((e) => !isAbsent(e)).map((e) => e.message);
  return {
    found: false,
    code: "NO_LIBRARY",
    call: "openNvrtc",
    why:
      refused[0] === undefined
        ? `NVIDIA's runtime compiler libnvrtc was not found${path === undefined ? "" : ` at ${path}`}`
        : `libnvrtc cannot be used: ${refused[0]}`,
    repair: "pip install nvidia-cuda-nvrtc, or set CUDA_PATH to a CUDA toolkit of version 12 or 13",
    searched,
    refused,
  };
}

/** Opens libcublasLt, of version 12 or 13. */
export async function openCublasLt(shim: Shim, wish: NvrtcWish = {}): Promise<OpenCublasLt | Missing> {
  const { path, driver, env = process.env } = wish;
  const { opened, errors, searched } = await firstOf(cublasLtPlaces(path, env), async (candidate) => {
    const { handle, version: number } = await shim.openCublasLt(candidate.path);
    const version = { major: Math.floor(number / 10000), minor: Math.floor(number / 100) % 100 };
    const most = path === undefined ? (driver?.major ?? 13) : 13;
    if (version.major >= 12 && version.major <= most)
      return { found: true as const, handle, path: candidate.path, version };
    shim.dispose(handle);
    throw cudaError(
      "NO_LIBRARY",
      "openCublasLt",
      `${candidate.path} is cuBLASLt ${versionText(version)}, and 12${most > 12 ? " or 13" : ", as the driver is,"} is needed`,
    );
  });
  if (opened !== null) return opened;
  const refused = errors.filter((e) => !isAbsent(e)).map((e) => e.message);
  return {
    found: false,
    code: "NO_LIBRARY",
    call: "openCublasLt",
    why:
      refused[0] === undefined
        ? `NVIDIA's library libcublasLt was not found${path === undefined ? "" : ` at ${path}`}`
        : `libcublasLt cannot be used: ${refused[0]}`,
    repair:
      "pip install nvidia-cublas, set CUDA_PATH to a CUDA toolkit of version 12 or 13, or use heddle's own kernels",
    searched,
    refused,
  };
}

/** Bytes of a file, as a part of a name; nothing for a bare name, whose file only the loader knows. */
const sizeOf = (path: string): Promise<string> =>
  isAbsolute(path)
    ? stat(path).then((s) => ` (${s.size} bytes)`, () => "") // prettier-ignore
    : Promise.resolve("");
