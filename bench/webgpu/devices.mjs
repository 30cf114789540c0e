// Where WebGPU is found on this machine, each in a process of its own.
import { existsSync, readdirSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

/** @typedef {{ command: string, args: readonly string[], env: { readonly [name: string]: string } }} Start */
/**
 * @typedef {object} Device
 * @property {string} host what WebGPU it is, in words
 * @property {boolean} software whether a device that computes on the processor will do
 * @property {() => Start | string} start how to start a script on it, or why that cannot be
 */

const binary = fileURLToPath(new URL("../../node_modules/.bin/deno", import.meta.url));
const deno = (/** @type {{ readonly [name: string]: string }} */ env) =>
  existsSync(binary)
    ? {
        command: binary,
        args: ["run", "-A", "--unstable-webgpu", "--no-check", "--no-lock", "--no-config", "--quiet"],
        env: {
          DENO_NO_UPDATE_CHECK: "1",
          XDG_RUNTIME_DIR: process.env["XDG_RUNTIME_DIR"] ?? tmpdir(),
          ...env,
        },
      }
    : "the package `deno` is not installed (npm install)";
const node = (/** @type {{ readonly [name: string]: string }} */ env) => ({
  command: process.execPath,
  args: [],
  env: { XDG_RUNTIME_DIR: process.env["XDG_RUNTIME_DIR"] ?? tmpdir(), ...env },
});
const driver = (/** @type {string} */ file) => ({ VK_ICD_FILENAMES: file, VK_DRIVER_FILES: file });

const SWIFTSHADER = [
  "/usr/lib/chromium/vk_swiftshader_icd.json",
  "/opt/google/chrome/vk_swiftshader_icd.json",
];
const DRIVERS = "/usr/share/vulkan/icd.d";

/** @type {{ readonly [name: string]: Device }} */
export const devices = {
  // The system's own driver: a GPU where there is one.
  dawn: { host: "Dawn in Node", software: false, start: () => node({}) },
  wgpu: { host: "wgpu in Deno", software: false, start: () => deno({}) },
  swiftshader: {
    host: "Dawn in Node on SwiftShader",
    software: true,
    start: () => {
      const file = SWIFTSHADER.find((f) => existsSync(f));
      return file === undefined
        ? `there is no ${SWIFTSHADER[0]} (Debian: apt install chromium)`
        : node(driver(file));
    },
  },
  lavapipe: {
    host: "wgpu in Deno on lavapipe",
    software: true,
    start: () => {
      const files = existsSync(DRIVERS) ? readdirSync(DRIVERS) : [];
      const file = files.find((f) => f.startsWith("lvp_icd"));
      if (file === undefined)
        return `no lavapipe driver in ${DRIVERS} (Debian: apt install mesa-vulkan-drivers)`;
      // A first run must compile.
      return deno({ ...driver(join(DRIVERS, file)), MESA_SHADER_CACHE_DISABLE: "true" });
    },
  },
};
