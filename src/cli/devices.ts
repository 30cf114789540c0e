/** `heddle devices`: what can compute here, and what not and why. */
import { wasmDevice } from "../../runtime/wasm.ts";
import { exitCodes } from "./failure.ts";
import type { ExitCode } from "./failure.ts";
import type { Io } from "./io.ts";

export type DeviceLine = {
  readonly name: string;
  readonly available: boolean;
  readonly detail: string;
};

export async function deviceList(): Promise<readonly DeviceLine[]> {
  const missing = "not built into this version";
  return [
    { name: "reference", available: true, detail: "f64 in JavaScript, by definition; slow" },
    {
      name: "interpret",
      available: true,
      detail: "kernels statement by statement, every promise checked; very slow",
    },
    await wasmLine(),
    { name: "webgpu", available: false, detail: missing },
    { name: "cuda", available: false, detail: missing },
  ];
}

async function wasmLine(): Promise<DeviceLine> {
  try {
    const device = wasmDevice();
    const { detail } = device;
    await device.dispose();
    return { name: "wasm", available: true, detail };
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    return { name: "wasm", available: false, detail: why.replace(/^heddle: /, "") };
  }
}

export async function devices(json: boolean, io: Io): Promise<ExitCode> {
  const list = await deviceList();
  const lines = list.map((d) => `${d.name.padEnd(10)} ${d.available ? "yes" : "no "}  ${d.detail}\n`);
  io.out(json ? `${JSON.stringify(list, null, 2)}\n` : `${lines.join("")}\`--device auto\` is wasm.\n`);
  return exitCodes.ok;
}
