/** Decoding on WebAssembly equals its forward pass for every prefix. */
import { afterAll, describe, expect, it } from "vitest";
import { wasmDevice } from "../../runtime/wasm.ts";
import { decodeBeside, modelOf, MODELS, programOf } from "./parity.ts";

const found: string[] = [];
afterAll(() => console.log(`decoding beside the forward pass on wasm: ${found.join("; ")}`));

describe.each(Object.keys(MODELS))("%s", (name) => {
  it.each([1, 2])("equals the forward pass in every row after a prompt, with %d threads", async (threads) => {
    const { spec, text } = modelOf(name);
    const device = wasmDevice({ threads, poison: true });
    const { worst, scale, rows } = await decodeBeside(device, programOf(text, "wasm"), spec);
    await device.dispose();
    found.push(`${name} ${rows} rows ${(worst / scale).toExponential(1)}`);
    expect(worst).toBeLessThan(2e-5 * scale);
  });
});
