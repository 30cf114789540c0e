/** Imports go one way: the rooms of docs/architecture.md, held by reading every import statement. */
import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, normalize, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";

const root = fileURLToPath(new URL("..", import.meta.url));
const rooms = ["grammar", "src", "codegen", "runtime"] as const;
type Room = (typeof rooms)[number];

const filesIn = (room: Room): readonly string[] =>
  readdirSync(join(root, room), { recursive: true, encoding: "utf8" })
    .filter((f) => f.endsWith(".ts"))
    .map((f) => join(room, f));

/** What a file imports or exports from: paths from the root for its own, names for packages and node modules. */
function importsOf(file: string): readonly string[] {
  const text = readFileSync(join(root, file), "utf8");
  const statements = text.matchAll(
    /^(?:import|export)\b[^;]*?\bfrom\s+"([^"]+)"|^import\s+"([^"]+)"|\bimport\(\s*"([^"]+)"/gm,
  );
  return [...statements]
    .map((m) => m[1] ?? m[2] ?? m[3] ?? "")
    .map((to) => (to.startsWith(".") ? normalize(join(dirname(file), to)) : to));
}

const everywhere = (file: string) =>
  file === "src/compile.ts" || file === "src/index.ts" || file.startsWith("src/cli/");
const inside =
  (...folders: readonly string[]) =>
  (to: string) =>
    folders.some((f) => to.startsWith(f));
const isSource = (to: string) => inside(...rooms.map((r) => `${r}/`))(to);
const ofNative = (file: string) => file === "runtime/native.ts" || file.startsWith("runtime/cpu/");
/** What both have: where compiled things are kept, and the compiler of the machine. */
const ofBoth = inside("runtime/cuda/compiler.ts", "runtime/cuda/folder.ts");
const ofCuda = (file: string) => file === "runtime/cuda.ts" || file.startsWith("runtime/cuda/");
const page = (to: string) => everywhere(to);

/** Which sources of other files a file may see. */
const mayImport: { readonly [R in Room]: (file: string, to: string) => boolean } = {
  grammar: (_, to) => inside("grammar/", "src/ast.ts", "src/diagnostic")(to),
  src: (file, to) => everywhere(file) || (inside("src/", "runtime/")(to) && !page(to)),
  codegen: (_, to) => inside("codegen/", "src/", "runtime/")(to) && !page(to),
  // What a web page ships reaches nothing of CUDA and of native code, which stand on Node and start a compiler.
  runtime: (file, to) =>
    inside("runtime/")(to) &&
    (!ofCuda(to) || ofCuda(file) || (ofNative(file) && ofBoth(to))) &&
    (!ofNative(to) || ofNative(file)),
};
const mayUse: { readonly [R in Room]: (file: string, name: string) => boolean } = {
  grammar: (_, name) => name === "chevrotain",
  src: (file, name) =>
    file.startsWith("src/cli/") && (name === "commander" || name === "execa" || name.startsWith("node:")),
  codegen: () => false,
  runtime: (file, name) =>
    ((file === "runtime/node.ts" || ofCuda(file) || ofNative(file)) && name.startsWith("node:")) ||
    ((ofCuda(file) || ofNative(file)) && name === "execa"),
};

describe("imports go one way", () => {
  it.each(rooms)("%s", (room) => {
    const files = filesIn(room);
    expect(files.length).toBeGreaterThan(3);
    const wrong = files.flatMap((file) =>
      importsOf(file)
        .filter((to) => !(isSource(to) ? mayImport[room](file, to) : mayUse[room](file, to)))
        .map((to) => `${file} imports ${to}`),
    );
    expect(wrong).toEqual([]);
  });

  it("reads every form of import, so that none slips through", () => {
    const found = rooms.flatMap((room) => filesIn(room).flatMap((f) => importsOf(f)));
    expect(found).toContain("chevrotain");
    expect(found).toContain("commander");
    const all = rooms.flatMap((room) => filesIn(room));
    const local = found.filter(isSource).map((to) => relative(root, join(root, to)));
    expect(local.filter((to) => !all.includes(to))).toEqual([]);
  });
});
