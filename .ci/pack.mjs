// The npm package holds what an installed heddle needs, and nothing that only the repository needs.
import { execFileSync } from "node:child_process";

const [pack] = JSON.parse(
  execFileSync("npm", ["pack", "--dry-run", "--json", "--ignore-scripts"], {
    encoding: "utf8",
    stdio: ["ignore", "pipe", "ignore"],
  }),
);
const files = pack.files.map((f) => f.path);
const needed = [
  "dist/src/cli/main.js",
  "dist/src/index.js",
  "dist/src/index.d.ts",
  "dist/runtime/index.js",
  "dist/runtime/index.d.ts",
  "dist/runtime/node.js",
  "dist/runtime/generate.js",
  "dist/runtime/generate.d.ts",
  "dist/runtime/cuda/cuda.js",
  "runtime/native/shim.c",
  "README.md",
  "LICENSE",
  "package.json",
];
const unwanted = files.filter((f) =>
  /^(test|bench|examples|\.ci|src|codegen|grammar|runtime(?!\/native))\//.test(f),
);
const missing = needed.filter((f) => !files.includes(f));
console.log(
  `npm pack: ${files.length} files, ${(pack.size / 1024).toFixed(0)} KiB packed, ${(pack.unpackedSize / 1024).toFixed(0)} KiB unpacked`,
);
if (missing.length > 0 || unwanted.length > 0) {
  console.error(
    `missing: ${missing.join(", ") || "nothing"}; unwanted: ${unwanted.slice(0, 5).join(", ") || "nothing"}`,
  );
  process.exit(1);
}
