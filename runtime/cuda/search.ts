/** Where libcuda, libnvrtc and libcublasLt may lie. Nothing is opened here. */
import { execa } from "execa";
import { readdir, stat } from "node:fs/promises";
import { delimiter, dirname, join } from "node:path";
import type { Env } from "./folder.ts";

export type Candidate = {
  /** A file, or a bare name for the loader. */
  readonly path: string;
  /** libnvrtc-builtins of the same folder and version; null of other libraries. */
  readonly builtins: string | null;
};

/** One place to look, the likeliest first; what comes later is not looked at when one works. */
export type Place = {
  /** For a reader. */
  readonly name: string;
  readonly find: () => Promise<readonly Candidate[]>;
};

const here = (path: string): Candidate => ({ path, builtins: null });

/** WSL, NVIDIA's container runtimes, Colab: folders that the loader is not always told of. */
const DRIVER_FOLDERS = ["/usr/lib/wsl/lib", "/usr/local/nvidia/lib64", "/usr/lib64-nvidia"];

/** Places of libcuda.so.1. `path`: this file or folder and no other. */
export function driverPlaces(path?: string): readonly Place[] {
  if (path !== undefined) {
    const find = async () => [here((await isFolder(path)) ? join(path, "libcuda.so.1") : path)];
    return [{ name: path, find }];
  }
  return [
    { name: "the loader's path", find: async () => [here("libcuda.so.1")] },
    ...DRIVER_FOLDERS.map((folder) => ({
      name: folder,
      find: async () =>
        (await isFile(join(folder, "libcuda.so.1"))) ? [here(join(folder, "libcuda.so.1"))] : [],
    })),
  ];
}

/** A library that a toolkit or pip's packages bring. */
type Library = "libnvrtc" | "libcublasLt";

/** Places of libnvrtc, 13 before 12. `path`: this file or folder and no other. */
export const nvrtcPlaces = (path: string | undefined, env: Env): readonly Place[] =>
  toolkitPlaces("libnvrtc", path, env);

/** Places of libcublasLt, likewise. */
export const cublasLtPlaces = (path: string | undefined, env: Env): readonly Place[] =>
  toolkitPlaces("libcublasLt", path, env);

function toolkitPlaces(library: Library, path: string | undefined, env: Env): readonly Place[] {
  if (path !== undefined)
    return [
      {
        name: path,
        find: async () =>
          (await isFolder(path)) ? inRoot(library, path) : [{ path, builtins: await builtinsBeside(path) }],
      },
    ];
  const root = (name: string, folder: string | undefined): readonly Place[] =>
    folder === undefined || folder === ""
      ? []
      : [{ name: `${name} (${folder})`, find: () => inRoot(library, folder) }];
  return [
    ...root("CUDA_PATH", env["CUDA_PATH"]),
    ...root("CUDA_HOME", env["CUDA_HOME"]),
    { name: "/usr/local/cuda*", find: () => inLocal(library) },
    {
      name: "the loader's path",
      find: async () => [".13", ".12", ""].map((version) => here(`${library}.so${version}`)),
    },
    ...environmentPlaces(library, env),
    { name: "python3's site-packages/nvidia/*/lib", find: () => inPython(library, env) },
  ];
}

function environmentPlaces(library: Library, env: Env): readonly Place[] {
  const { VIRTUAL_ENV, CONDA_PREFIX } = env;
  return [
    ...[VIRTUAL_ENV, CONDA_PREFIX]
      .filter((folder) => folder !== undefined && folder !== "")
      .map((folder) => ({
        name: `${folder}/lib/python3*/site-packages/nvidia/*/lib`,
        find: () => inEnvironment(library, folder ?? ""),
      })),
    ...(CONDA_PREFIX === undefined || CONDA_PREFIX === ""
      ? []
      : [{ name: `${CONDA_PREFIX}/lib`, find: () => inFolder(library, join(CONDA_PREFIX, "lib")) }]),
  ];
}

const names = (folder: string): Promise<readonly string[]> => readdir(folder).catch(() => []);
const isFolder = (path: string) => stat(path).then((s) => s.isDirectory(), () => false); // prettier-ignore
const isFile = (path: string) => stat(path).then((s) => s.isFile(), () => false); // prettier-ignore

/** [13, 0] of `libnvrtc.so.13.0`; nothing of `libnvrtc.so`. */
const versionIn = (name: string): readonly number[] =>
  (/\.so\.([\d.]+)$/.exec(name)?.[1] ?? "").split(".").filter((n) => n !== "").map(Number); // prettier-ignore

const newerFirst = (a: readonly number[], b: readonly number[]): number =>
  (b[0] ?? 0) - (a[0] ?? 0) || (b[1] ?? 0) - (a[1] ?? 0) || a.length - b.length;

/** The libraries of that name in one folder, the newest first. Names like `libnvrtc.alt.so.13` are another build of it and no candidates. */
async function inFolder(library: Library, folder: string): Promise<readonly Candidate[]> {
  const all = await names(folder);
  const libraries = all.filter((n) => n.startsWith(`${library}.so`) && /\.so(\.\d+)*$/.test(n));
  return libraries
    .sort((a, b) => newerFirst(versionIn(a), versionIn(b)))
    .map((name) => ({
      path: join(folder, name),
      builtins: library === "libnvrtc" ? builtinsOf(name, folder, all) : null,
    }));
}

const builtinsBeside = async (path: string): Promise<string | null> =>
  builtinsOf(path, dirname(path), await names(dirname(path)));

function builtinsOf(library: string, folder: string, all: readonly string[]): string | null {
  const [major] = versionIn(library);
  const [found] = all
    .filter((n) => /^libnvrtc-builtins\.so(\.\d+)*$/.test(n))
    .filter((n) => major === undefined || (versionIn(n)[0] ?? major) === major)
    .sort((a, b) => newerFirst(versionIn(a), versionIn(b)));
  return found === undefined ? null : join(folder, found);
}

/** As CUDA names the folders of a processor's libraries. */
const target = process.arch === "arm64" ? "sbsa-linux" : "x86_64-linux";

/** A toolkit's folder, or a folder of libraries itself. */
async function inRoot(library: Library, root: string): Promise<readonly Candidate[]> {
  const folders = [root, join(root, "lib64"), join(root, "targets", target, "lib"), join(root, "lib")];
  return (await Promise.all(folders.map((f) => inFolder(library, f)))).flat();
}

async function inLocal(library: Library): Promise<readonly Candidate[]> {
  const version = (name: string) => (/^cuda-([\d.]+)$/.exec(name)?.[1] ?? "").split(".").map(Number);
  const roots = (await names("/usr/local")).filter((n) => n === "cuda" || n.startsWith("cuda-"));
  // `cuda` is the link that the machine's owner has set.
  roots.sort((a, b) => (a === "cuda" ? -1 : b === "cuda" ? 1 : newerFirst(version(a), version(b))));
  return (await Promise.all(roots.map((r) => inRoot(library, join("/usr/local", r))))).flat();
}

/** pip's packages `nvidia-cuda-nvrtc` and `nvidia-cublas`, whose folder is `nvidia/cu13`, and `…-cu12`: `nvidia/cuda_nvrtc`, `nvidia/cublas`. */
async function inSite(library: Library, site: string): Promise<readonly Candidate[]> {
  const packages = await names(join(site, "nvidia"));
  const found = (
    await Promise.all(packages.map((p) => inFolder(library, join(site, "nvidia", p, "lib"))))
  ).flat();
  return found.sort((a, b) => newerFirst(versionIn(a.path), versionIn(b.path)));
}

async function inEnvironment(library: Library, folder: string): Promise<readonly Candidate[]> {
  const pythons = (await names(join(folder, "lib"))).filter((n) => n.startsWith("python3"));
  return (
    await Promise.all(pythons.map((p) => inSite(library, join(folder, "lib", p, "site-packages"))))
  ).flat();
}

/** Asks the first python3 of the path, which may be one of several or a stand-in that chooses. */
async function inPython(library: Library, env: Env): Promise<readonly Candidate[]> {
  const script = "import sys; print('\\n'.join(p for p in sys.path if p))";
  const ran = await execa("python3", ["-c", script], {
    reject: false,
    timeout: 10_000,
    env,
    extendEnv: false,
  });
  if (ran.failed) return [];
  const sites = ran.stdout.split("\n").filter((p) => p !== "" && !p.includes(delimiter));
  return (await Promise.all(sites.map((site) => inSite(library, site)))).flat();
}
