/**
 * Shaders to pipelines: compiled side by side, once for each way in which their tensors are split, and shared by all programs of a
 * device that have the same text.
 */
import type { WgslProgram } from "../plan.ts";
import { deviceError } from "./errors.ts";
import { COMPUTE } from "./session.ts";
import type { Session } from "./session.ts";
import { tableBytes } from "./shader-tables.ts";
import { bindingsOf, shaderText } from "./shader.ts";
import { partLog } from "./tensor.ts";

export type Pipeline = {
  readonly pipeline: GPUComputePipeline;
  /** Of group 0: parameters and tensors. */
  readonly layout: GPUBindGroupLayout;
  /** Of group 1; undefined where the kernel looks nothing up. */
  readonly tables: GPUBindGroupLayout | undefined;
};
/** The pipelines of a device, by the texts that they are made from, which declare their bindings. */
const cache = new WeakMap<GPUDevice, Map<string, Promise<Pipeline>>>();
/** The pipeline of a kernel whose buffers are split into so many parts; `widths` as in ShaderForm. */
export type Pipelines = (
  kernel: number,
  parts: readonly number[],
  widths?: readonly number[],
) => Promise<Pipeline>;

/** Bytes of the parameters before the scalars. */
export const HEAD_BYTES = 16;

export function pipelinesOf(session: Session, { plan, shaders }: WgslProgram): Pipelines {
  const { device, limits, features } = session;
  const made = cache.get(device) ?? new Map<string, Promise<Pipeline>>();
  cache.set(device, made);
  const f16 = features.has("shader-f16");
  const log = partLog(session);

  const pipelineOf: Pipelines = async (kernel, parts, widths) => {
    const [shader, described] = [shaders[kernel], plan.kernels[kernel]];
    if (shader === undefined || described === undefined)
      throw deviceError("FAILED", `internal: '${plan.name}' has no kernel ${kernel}`);
    const label = described.entry;
    const bindings = bindingsOf(shader, parts);
    if (bindings > limits.maxStorageBuffersPerShaderStage)
      throw deviceError(
        "LIMITS",
        `'${label}' would need ${bindings} storage bindings of at most ${2 ** log} bytes, as maxStorageBufferBindingSize and maxBufferSize allow (${shader.buffers
          .map((b, i) => `${b.name}: ${parts[i] ?? 1}`)
          .join(
            ", ",
          )}), and maxStorageBuffersPerShaderStage is ${limits.maxStorageBuffersPerShaderStage}. Use shorter sequences, smaller batches or 16-bit storage (dtype f16)`,
      );
    const code = shaderText(shader, {
      f16,
      parts,
      partLog: log,
      ...(widths === undefined ? {} : { widths }),
    });
    const types = shader.buffers.flatMap((b, i) =>
      Array.from({ length: parts[i] ?? 1 }, () => (b.access === "read" ? "read-only-storage" : "storage")),
    ) as GPUBufferBindingType[];
    const size = HEAD_BYTES + 4 * described.scalars.length;
    // Comments name the model; kernels of several models may be the same.
    const key = code.replace(/^\s*\/\/.*\n/gm, "");
    const known = made.get(key) ?? compile(label, code, types, size, tableBytes(shader));
    made.set(key, known);
    // A refusal is not remembered: it may have been the device's end.
    known.catch(() => made.delete(key));
    return known;
  };

  const compile = async (
    label: string,
    code: string,
    types: readonly GPUBufferBindingType[],
    parameterBytes: number,
    tablesBytes: number,
  ): Promise<Pipeline> => {
    const layout = device.createBindGroupLayout({
      label,
      entries: [
        {
          binding: 0,
          visibility: COMPUTE,
          buffer: {
            type: "uniform",
            hasDynamicOffset: true,
            minBindingSize: parameterBytes,
          },
        },
        ...types.map((type, i) => ({ binding: i + 1, visibility: COMPUTE, buffer: { type } })),
      ],
    });
    const uniform: GPUBufferBindingLayout = { type: "uniform", minBindingSize: tablesBytes };
    const tables =
      tablesBytes === 0
        ? undefined
        : device.createBindGroupLayout({
            label,
            entries: [{ binding: 0, visibility: COMPUTE, buffer: uniform }],
          });
    const bindGroupLayouts = tables === undefined ? [layout] : [layout, tables];
    device.pushErrorScope("validation");
    const module = device.createShaderModule({ label, code });
    const scope = device.popErrorScope();
    try {
      const pipeline = await Promise.race([
        device.createComputePipelineAsync({
          label,
          layout: device.createPipelineLayout({ label, bindGroupLayouts }),
          compute: { module, entryPoint: "main" },
        }),
        session.lost,
      ]);
      await scope;
      return { pipeline, layout, tables };
    } catch (error) {
      if (session.isLost()) return session.lost;
      const { messages } = await module.getCompilationInfo();
      const [first] = messages.filter((m) => m.type === "error");
      const why = error instanceof Error ? error.message : String(error);
      const at =
        first === undefined
          ? why
          : `line ${first.lineNum}: ${first.message} (${code.split("\n")[first.lineNum - 1]?.trim() ?? ""})`;
      throw deviceError(
        "FAILED",
        `the driver refuses kernel '${label}': ${at}. This is a fault of heddle or of the driver.`,
        error,
      );
    }
  };
  return pipelineOf;
}
