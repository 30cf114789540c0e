import { availableParallelism } from "node:os";
import { fileURLToPath } from "node:url";
import { defineConfig } from "vitest/config";

const here = (path: string) => fileURLToPath(new URL(path, import.meta.url));

export default defineConfig({
  resolve: {
    alias: [
      { find: /^heddle\/runtime\/generate$/, replacement: here("runtime/generate.ts") },
      { find: /^heddle\/runtime\/maps$/, replacement: here("runtime/maps.ts") },
      { find: /^heddle\/runtime\/node$/, replacement: here("runtime/node.ts") },
      { find: /^heddle\/runtime\/sources$/, replacement: here("runtime/sources.ts") },
      { find: /^heddle\/runtime\/cuda$/, replacement: here("runtime/cuda.ts") },
      { find: /^heddle\/runtime$/, replacement: here("runtime/index.ts") },
      { find: /^heddle$/, replacement: here("src/index.ts") },
    ],
  },
  test: {
    include: ["test/**/*.test.ts"],
    pool: "forks",
    // By itself vitest leaves a processor free, which is half of a small machine; and much of what the tests wait for is other processes.
    maxWorkers: Math.max(2, availableParallelism() - 1),
    testTimeout: 120_000,
    hookTimeout: 120_000,
  },
});
