// A folder for arrays that other processes read and write: raw f32.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/**
 * @typedef {object} Exchange
 * @property {(name: string, values: Float32Array) => string} put writes a file and returns its path
 * @property {(name: string, count: number) => Float32Array} get reads a file that another process wrote
 * @property {(name: string) => string} path of a file in the folder
 */

/** Gone with this process. @returns {Exchange} */
export function openExchange() {
  const folder = mkdtempSync(join(tmpdir(), "heddle-bench-"));
  process.on("exit", () => rmSync(folder, { recursive: true, force: true }));
  return {
    path: (name) => join(folder, name),
    put: (name, values) => {
      const path = join(folder, name);
      writeFileSync(path, new Uint8Array(values.buffer, values.byteOffset, values.byteLength));
      return path;
    },
    get: (name, count) => {
      const bytes = readFileSync(join(folder, name));
      if (bytes.byteLength !== count * 4)
        throw new Error(`'${name}' has ${bytes.byteLength} bytes, not ${count * 4}`);
      return new Float32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength));
    },
  };
}
