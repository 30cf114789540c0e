/** The best device of this host for a program. */
import type { Program } from "./plan.ts";
import type { Extent, HostArray } from "./tensors.ts";
import { wasmDevice } from "./wasm.ts";
import type { WasmOptions } from "./wasm.ts";

export type DeviceOptions = WasmOptions;

/** One program on a device of its own, with tensors by their position in the plan. */
export type Loaded = {
  /** For a reader. */
  readonly device: string;
  setWeight(index: number, data: Float32Array): Promise<void>;
  run(at: Extent, inputs: readonly HostArray[]): Promise<readonly Float32Array[]>;
  dispose(): void;
};

/** Opens the best device of this host that `program` was compiled for. */
export async function openDevice(program: Program, options: DeviceOptions = {}): Promise<Loaded> {
  const device = wasmDevice(options);
  try {
    const executable = await device.compile(program);
    const { inputs, outputs } = program.plan;
    return {
      device: executable.detail,
      setWeight: (index, data) => executable.setWeight(index, data),
      run: async (at, given) => {
        const named = Object.fromEntries(
          inputs.flatMap(({ name }, i): readonly (readonly [string, HostArray])[] => {
            const array = given[i];
            return array === undefined ? [] : [[name, array]];
          }),
        );
        const results = await executable.run(named, at);
        return outputs.map(({ name }) => {
          const result = results[name];
          if (!(result instanceof Float32Array))
            throw new Error(`heddle: internal: output '${name}' is not f32`);
          return result;
        });
      },
      dispose: () => void device.dispose(),
    };
  } catch (error) {
    await device.dispose();
    throw error;
  }
}
