/** Shader texts given to a device: the same check for Tint (Dawn) and naga (wgpu). Imports nothing, because Deno runs it too. */

export type ShaderJob = {
  readonly name: string;
  readonly code: string;
  /** Groups by binding, as the runtime lays them out, or what the compiler infers from the text. */
  readonly bindings: readonly (readonly GPUBufferBindingLayout[])[] | "auto";
};

export type Verdict = {
  readonly name: string;
  /** What the compiler says of the module; `line` counts from 1, 0 where it names none. */
  readonly messages: readonly { readonly type: string; readonly line: number; readonly text: string }[];
  /** Why the module or its pipeline is refused, null where it is not. */
  readonly error: string | null;
};

const COMPUTE = 4;
/** Pipelines under way at a time. */
const BATCH = 64;

/** Compiles every text and makes its compute pipeline of entry point `main`, in order. */
export async function checkShaders(
  device: GPUDevice,
  jobs: readonly ShaderJob[],
): Promise<readonly Verdict[]> {
  const verdicts: Verdict[] = [];
  for (let i = 0; i < jobs.length; i += BATCH)
    verdicts.push(...(await Promise.all(jobs.slice(i, i + BATCH).map((job) => checkShader(device, job)))));
  return verdicts;
}

async function checkShader(device: GPUDevice, { name, code, bindings }: ShaderJob): Promise<Verdict> {
  device.pushErrorScope("validation");
  const module = device.createShaderModule({ code });
  const scope = device.popErrorScope();
  const { messages } = await module.getCompilationInfo();
  const shown = messages.map(({ type, lineNum, message }) => ({ type, line: lineNum, text: message }));
  const invalid = await scope;
  if (invalid !== null) return { name, messages: shown, error: `module: ${invalid.message}` };
  device.pushErrorScope("validation");
  const made = device
    .createComputePipelineAsync({
      layout: bindings === "auto" ? "auto" : layoutOf(device, bindings),
      compute: { module, entryPoint: "main" },
    })
    .then(
      () => null,
      (error: unknown) => `pipeline: ${error instanceof Error ? error.message : String(error)}`,
    );
  const layout = await device.popErrorScope();
  const refused = await made;
  const error = layout === null ? refused : `layout: ${layout.message}`;
  return { name, messages: shown, error };
}

function layoutOf(
  device: GPUDevice,
  groups: readonly (readonly GPUBufferBindingLayout[])[],
): GPUPipelineLayout {
  const bindGroupLayouts = groups.map((bindings) => {
    const entries = bindings.map((buffer, binding) => ({ binding, visibility: COMPUTE, buffer }));
    return device.createBindGroupLayout({ entries });
  });
  return device.createPipelineLayout({ bindGroupLayouts });
}
