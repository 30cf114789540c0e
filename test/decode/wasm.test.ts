/** Decoding on WebAssembly equals its forward pass for every prefix. */
import { afterAll, describe, expect, it } from "vitest";
import { wasmDevice } from "../../runtime/wasm.ts";
import { decodeBeside, LONG, modelOf, MODELS, programOf, saveAndRestore } from "./parity.ts";

const found: string[] = [];
afterAll(() => console.log(`decoding beside the forward pass on wasm: ${found.join("; ")}`));

describe.each(Object.keys(MODELS))("%s", (name) => {
  it.each([1, 2])("equals the forward pass in every row after a prompt, with %d threads", async (threads) => {
    const { spec, text } = modelOf(name);
    const device = wasmDevice({ threads, poison: true });
    const { worst, scale, rows, chunks } = await decodeBeside(device, programOf(text, "wasm"), spec);
    await device.dispose();
    found.push(`${name} ${rows} rows ${(worst / scale).toExponential(1)}`);
    expect(worst).toBeLessThan(2e-5 * scale);
    expect(chunks).toBeGreaterThan(3);
  });
});

it("equals the forward pass where several tiles of rows are kept and moved at once", async () => {
  const { spec, text } = modelOf("long", "", LONG);
  const device = wasmDevice({ threads: 1, poison: true });
  const { worst, scale, rows } = await decodeBeside(device, programOf(text, "wasm"), spec);
  await device.dispose();
  found.push(`long ${rows} rows ${(worst / scale).toExponential(1)}`);
  expect(worst).toBeLessThan(2e-5 * scale);
});

it("gives its states away and takes them back, bit for bit", async () => {
  const { spec, text } = modelOf("nested");
  const device = wasmDevice({ threads: 1, poison: true });
  const { same, early, short } = await saveAndRestore(device, programOf(text, "wasm"), spec);
  await device.dispose();
  expect(early).toMatchObject({ name: "DeviceError", code: "DEVICE_LOST" });
  expect(same).toBe(true);
  expect(short).toMatchObject({ message: expect.stringMatching(/bytes, found 4/) as string });
});
