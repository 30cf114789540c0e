import { fileURLToPath } from "node:url";
import { defineConfig } from "vitest/config";

const here = (path: string) => fileURLToPath(new URL(path, import.meta.url));

export default defineConfig({
  resolve: {
    alias: [
      { find: /^heddle\/runtime\/node$/, replacement: here("runtime/node.ts") },
      { find: /^heddle\/runtime\/cuda$/, replacement: here("runtime/cuda.ts") },
      { find: /^heddle\/runtime$/, replacement: here("runtime/index.ts") },
      { find: /^heddle$/, replacement: here("src/index.ts") },
    ],
  },
  test: {
    include: ["test/**/*.test.ts"],
    pool: "forks",
    testTimeout: 120_000,
    hookTimeout: 120_000,
  },
});
