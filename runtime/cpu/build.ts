/**
 * C made into libraries, kept on disk. A library appears whole or not at all, and its name says what it was made of, where, and what it
 * holds: any number of processes may share a folder, and a harmed file is told and made anew.
 */
import { execa } from "execa";
import { createHash } from "node:crypto";
import { mkdir, mkdtemp, readFile, readdir, rm } from "node:fs/promises";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { deviceError } from "../device-error.ts";
import { writeWhole } from "../node.ts";
import type { Host } from "./host.ts";

export type Made = {
  readonly path: string;
  /** Whether it was made now. */
  readonly fresh: boolean;
  /** Of the compiler; 0 where nothing was compiled. */
  readonly milliseconds: number;
};

type Wish = {
  /** The folder of the cache. */
  readonly folder: string;
  readonly host: Host;
  readonly source: string;
  /** For the compiler, before and behind the source. */
  readonly flags: readonly string[];
  readonly libraries: readonly string[];
  readonly suffix: ".so" | ".node";
  /** For messages. */
  readonly what: string;
};

const sha256 = (data: Uint8Array | string): string => createHash("sha256").update(data).digest("hex");

/**
 * Nothing is contracted or reassociated behind the IR's back: `madd` is the only fused operation. Integers wrap. Exceptions and errno
 * of f32 are nobody's.
 */
const KERNEL_FLAGS = [
  ..."-x c -std=gnu11 -O3 -fPIC -shared -fvisibility=hidden".split(" "),
  ..."-ffp-contract=off -fno-math-errno -fno-trapping-math -fwrapv".split(" "),
];

/** Kernels of one program. @throws DeviceError NO_NATIVE */
export const buildKernels = (folder: string, host: Host, source: string, flags: readonly string[]) =>
  make({
    folder: join(folder, "native"),
    host,
    source,
    flags: [...KERNEL_FLAGS, host.march, ...flags],
    libraries: [],
    suffix: ".so",
    what: "the kernels",
  });

/** The shim that runs them. @throws DeviceError NO_NATIVE */
export async function buildTeam(folder: string, host: Host): Promise<Made> {
  const source = await teamSource();
  const headers = (() => {
    try {
      return join(
        dirname(createRequire(import.meta.url).resolve("node-api-headers/package.json")),
        "include",
      );
    } catch {
      throw deviceError(
        "NO_NATIVE",
        "no native code: the package node-api-headers is missing: npm install node-api-headers",
      );
    }
  })();
  return make({
    folder: join(folder, "native"),
    host,
    source,
    flags: [
      ..."-x c -std=gnu11 -DNAPI_VERSION=8 -O2 -fPIC -shared -fvisibility=hidden -pthread".split(" "),
      "-I",
      headers,
    ],
    libraries: ["-ldl", "-lm"],
    suffix: ".node",
    what: "the shim",
  });
}

/** In the folder of C sources, seen from here or from `dist/runtime/cpu` in the package. */
async function teamSource(): Promise<string> {
  const here = dirname(fileURLToPath(import.meta.url));
  for (const folder of [join(here, "../native/cpu"), join(here, "../../../runtime/native/cpu")]) {
    const text = await readFile(join(folder, "team.c"), "utf8").catch(() => null);
    if (text !== null) return text;
  }
  throw deviceError(
    "NO_NATIVE",
    "no native code: the C source of the shim is not in this package: install it anew",
  );
}

const working = new Map<string, Promise<Made>>();

/** Several calls for one library share the work. */
function make(wish: Wish): Promise<Made> {
  const { host, source, flags, libraries, suffix } = wish;
  const hash = createHash("sha256");
  const { command, version } = host.compiler;
  for (const part of [
    source,
    ...flags,
    ...libraries,
    command,
    version,
    host.identity,
    process.versions.modules,
  ])
    hash.update(`${Buffer.byteLength(part)}:`).update(part);
  const key = hash.digest("hex").slice(0, 32);
  const name = `${wish.folder}/${key}${suffix}`;
  const known = working.get(name);
  if (known !== undefined) return known;
  const work = found(wish, key).finally(() => working.delete(name));
  working.set(name, work);
  return work;
}

async function found(wish: Wish, key: string): Promise<Made> {
  const { folder, suffix } = wish;
  for (const name of await readdir(folder).catch(() => [])) {
    if (!name.startsWith(`${key}-`) || !name.endsWith(suffix)) continue;
    const data = await readFile(join(folder, name)).catch(() => null);
    if (data !== null && name === fileName(key, data, suffix))
      return { path: join(folder, name), fresh: false, milliseconds: 0 };
  }
  const { data, milliseconds } = await compiled(wish);
  const path = join(folder, fileName(key, data, suffix));
  await writeWhole(path, data);
  return { path, fresh: true, milliseconds };
}

const fileName = (key: string, data: Uint8Array, suffix: string): string =>
  `${key}-${sha256(data).slice(0, 32)}${suffix}`;

/** Compiles in a folder of its own and gives the result. */
async function compiled({ folder, host, source, flags, libraries, what }: Wish) {
  const temporary = await newFolder(folder);
  try {
    const path = join(temporary, "made");
    const { command } = host.compiler;
    const start = performance.now();
    // Libraries come after `-x none`, or they would be read as C.
    const ran = await execa(command, [...flags, "-o", path, "-", "-x", "none", ...libraries], {
      input: source,
      reject: false,
      all: true,
      timeout: 600_000,
      env: { LC_ALL: "C", TMPDIR: temporary },
    });
    const milliseconds = performance.now() - start;
    if (!ran.failed) return { data: await readFile(path), milliseconds };
    const [line = ran.message] = ran.all.split("\n").filter((l) => l.includes("error"));
    throw deviceError("NO_NATIVE", `no native code: ${command} could not compile ${what}: ${line}`);
  } finally {
    await rm(temporary, { recursive: true, force: true });
  }
}

async function newFolder(folder: string): Promise<string> {
  try {
    // What lies here is loaded as code: nobody else may write it.
    await mkdir(folder, { recursive: true, mode: 0o700 });
    return await mkdtemp(join(folder, ".new-"));
  } catch (error) {
    const { code = "" } = error as NodeJS.ErrnoException;
    throw deviceError(
      "NO_NATIVE",
      `no native code: the cache folder ${folder} cannot be written (${code}): set HEDDLE_CACHE to a folder that can`,
    );
  }
}
