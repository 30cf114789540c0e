/** The kernels of a program on a device: which variant, for which architecture, compiled and loaded. */
import { notCompiled } from "../compiled.ts";
import { deviceError } from "../device-error.ts";
import type { CudaProgram, Program } from "../plan.ts";
import type { KernelCache } from "./cache.ts";
import type { CudaFunction, CudaModule } from "./context.ts";
import type { CudaDevice } from "./devices.ts";
import { isCudaError } from "./errors.ts";
import { versionText } from "./libraries.ts";
import type { Nvrtc } from "./nvrtc.ts";
import type { Session } from "./session.ts";

/** Dynamic shared memory that every function may use without being allowed more. */
const SHARED_BYTES = 49152;

/** What a program must fit. */
export type CudaLimits = Pick<CudaDevice, "sharedBytesOptIn" | "maxThreads" | "maxGridX">;

/** The first variant that the device meets the needs of. @throws DeviceError LIMITS with the numbers. */
export function chosenFor(program: Program, device: CudaDevice, limits: CudaLimits): CudaProgram {
  if (program.cuda === undefined) throw deviceError("LIMITS", notCompiled(program, "cuda"));
  const whys = program.cuda.map((variant) => {
    const { kernels } = variant.plan;
    const most = (of: (k: (typeof kernels)[number]) => number) => Math.max(0, ...kernels.map(of));
    const needs = [
      ["compute capability", variant.capability / 10, device.capability / 10],
      ["bytes of shared memory", most((k) => k.sharedBytes), limits.sharedBytesOptIn],
      ["threads in a block", most((k) => k.workgroup), limits.maxThreads],
    ] as const;
    return needs.flatMap(([what, need, has]) => (need > has ? [`${need} ${what} (it has ${has})`] : []));
  });
  const found = program.cuda[whys.findIndex((why) => why.length === 0)];
  if (found !== undefined) return found;
  const needs = whys.map((why) => why.join(" and ")).join("; or ");
  throw deviceError("LIMITS", `'${program.plan.name}' needs ${needs}: more than ${device.name} offers`);
}

/**
 * The architecture to compile for: the device's own; where NVRTC is older than the device, an earlier one of its generation, whose code
 * it runs; else PTX, which the driver compiles. @throws DeviceError LIMITS
 */
export function archFor(
  { name, capability }: Pick<CudaDevice, "name" | "capability">,
  nvrtc: Pick<Nvrtc, "version" | "archs">,
): string {
  const below = nvrtc.archs.filter((a) => a <= capability);
  const newest = Math.max(0, ...below);
  if (Math.floor(newest / 10) === Math.floor(capability / 10)) return `sm_${newest}`;
  if (newest > 0) return `compute_${newest}`;
  throw deviceError(
    "LIMITS",
    `NVRTC ${versionText(nvrtc.version)} does not compile for ${name} (sm_${capability}); it begins with sm_${Math.min(...nvrtc.archs)}`,
  );
}

export type Kernels = {
  /** By kernel of the plan. */
  readonly functions: readonly CudaFunction[];
  readonly dispose: () => void;
};

export type KernelCompiler = { readonly nvrtc: Nvrtc; readonly cache: KernelCache };

/** Compiles side by side and loads. On a failure nothing stays behind. `done` is called after each kernel. */
export async function kernelsOf(
  session: Session,
  { nvrtc, cache }: KernelCompiler,
  { plan, sources, options }: CudaProgram,
  done?: (done: number, of: number) => void,
): Promise<Kernels> {
  const arch = archFor(session.context.device, nvrtc);
  const modules: CudaModule[] = [];
  const dispose = () => modules.forEach((m) => m.dispose());
  let count = 0;
  const loaded = sources.map(async ({ entry, code }, k): Promise<CudaFunction> => {
    const { cubin, ptx } = await cache
      .compile(nvrtc, code, { arch, name: `${entry}.cu`, options })
      .catch((error: unknown) => {
        throw isCudaError(error) && error.code === "NVRTC_ERROR_COMPILATION"
          ? deviceError(
              "FAILED",
              `NVRTC refuses a kernel of '${plan.name}': ${error.message}. This is a fault of heddle.`,
              error,
            )
          : error;
      });
    const image = cubin ?? ptx;
    if (image === null)
      throw deviceError("FAILED", `NVRTC gave no code for kernel '${entry}' of '${plan.name}'`);
    return session.attempt(async () => {
      const module = await session.context.load(image);
      modules.push(module);
      const fn = module.function(entry);
      const sharedBytes = plan.kernels[k]?.sharedBytes ?? 0;
      if (sharedBytes > SHARED_BYTES) fn.setSharedLimit(sharedBytes);
      done?.(++count, sources.length);
      return fn;
    });
  });
  try {
    return { functions: await Promise.all(loaded), dispose };
  } catch (error) {
    // Those that are under way would be loaded after this.
    await Promise.allSettled(loaded);
    dispose();
    throw isCudaError(error) ? await session.attempt(() => Promise.reject(error)) : error;
  }
}
