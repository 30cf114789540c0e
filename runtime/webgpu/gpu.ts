/** Where WebGPU comes from, and which adapter of it is taken. */
import { deviceError } from "./errors.ts";
import type { Drivers } from "./options.ts";

export type GpuWish = {
  /** A `GPU` instead of the host's own. */
  readonly gpu?: object;
  readonly powerPreference?: "low-power" | "high-performance";
  readonly drivers?: () => Promise<Drivers>;
  readonly software?: boolean;
};

export type Found = {
  /** What the adapter came from. In Node it must not be collected while a device lives, nor be kept when all is done. */
  readonly gpu: GPU;
  readonly adapter: GPUAdapter;
  /** Vendor, architecture and driver as far as the host tells. */
  readonly text: string;
  /** A driver that computes on the processor. */
  readonly software: boolean;
};

type Host = {
  readonly navigator?: { readonly gpu?: GPU };
  readonly process?: {
    readonly versions?: { readonly node?: string };
    readonly env: { [name: string]: string | undefined };
  };
};
const host = globalThis as Host;

/** `create` of Dawn for Node. Its result must be let go before the process can end. */
type Dawn = { readonly create: (flags: string[]) => GPU };

async function hostGpu(): Promise<GPU> {
  const own = host.navigator?.gpu;
  if (own !== undefined) return own;
  if (host.process?.versions?.node === undefined)
    throw deviceError(
      "NO_WEBGPU",
      "this page has no WebGPU (navigator.gpu): use a current Chrome, Edge, Firefox or Safari over https or localhost, or the device 'wasm'",
    );
  // A name that bundlers do not follow: web pages must not ship Node's WebGPU.
  const name = "webgpu";
  // Mesa writes an error on every start without it.
  host.process.env["XDG_RUNTIME_DIR"] ??= "/tmp";
  try {
    const dawn = (await import(/* @vite-ignore */ name)) as Dawn;
    return dawn.create([]);
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw deviceError(
      "NO_WEBGPU",
      `Node has no WebGPU of its own, and the package 'webgpu' (Dawn) cannot be loaded: ${why.split("\n")[0]}. Install it beside heddle: npm install webgpu`,
      error,
    );
  }
}

const SOFTWARE = /swiftshader|llvmpipe|lavapipe|softpipe|basic render|\bwarp\b|\bcpu\b/i;

const describe = (adapter: GPUAdapter): Pick<Found, "text" | "software"> => {
  const { vendor, architecture, device, description } = adapter.info;
  const model = [vendor, architecture].filter((w) => w !== "").join(" ");
  const words = [description === "" ? device : description, model].filter((w) => w !== "");
  const text = words.length === 0 ? "an adapter without a name" : [...new Set(words)].join(", ");
  // `isFallbackAdapter` of the adapter itself is what older browsers have.
  const { isFallbackAdapter } = {
    ...(adapter as { isFallbackAdapter?: boolean }),
    ...fallbackOf(adapter.info),
  };
  return { text, software: isFallbackAdapter === true || SOFTWARE.test(text) };
};
const fallbackOf = (info: GPUAdapterInfo): { isFallbackAdapter?: boolean } => {
  const { isFallbackAdapter } = info as { isFallbackAdapter?: boolean };
  return isFallbackAdapter === undefined ? {} : { isFallbackAdapter };
};

/** Driver files of software renderers, which need not be tried where only a GPU will do. */
const SOFTWARE_FILE = /(?:lvp|swiftshader)_icd[^/]*$/;

/**
 * The adapter that a device is made from. Where none of the drivers that the system lists will do, a software driver that the host
 * knows of is tried (a listed one may be too old for Dawn).
 * @throws DeviceError NO_WEBGPU or NO_ADAPTER.
 */
export async function findAdapter(wish: GpuWish): Promise<Found> {
  const { powerPreference = "high-performance", software = true } = wish;
  const drivers = await wish.drivers?.();
  const nothing = (why: string) => {
    const looked =
      drivers === undefined || drivers.searched.length === 0
        ? ""
        : ` Drivers found: ${drivers.found.join(", ") || "none"}; looked for in ${drivers.searched.join(", ")}.`;
    return deviceError("NO_ADAPTER", `${why}${looked}`);
  };
  if (!software && drivers !== undefined && drivers.searched.length > 0)
    if (drivers.found.every((f) => SOFTWARE_FILE.test(f))) throw nothing("there is no GPU driver here.");
  const ask = async () => {
    const gpu = (wish.gpu as GPU | undefined) ?? (await hostGpu());
    return { gpu, adapter: await gpu.requestAdapter({ powerPreference }) };
  };
  let { gpu, adapter } = await ask();
  const undo = adapter === null && software ? (drivers?.fallback?.() ?? null) : null;
  if (undo !== null)
    try {
      ({ gpu, adapter } = await ask());
    } finally {
      undo();
    }
  if (adapter === null)
    throw nothing(
      "WebGPU has no adapter here: no graphics driver that it can use. On Linux install your card's Vulkan driver, or a software one (Debian: apt install chromium brings SwiftShader).",
    );
  const found = { gpu, adapter, ...describe(adapter) };
  if (found.software && !software)
    throw deviceError("NO_ADAPTER", `there is only a software adapter here: ${found.text}`);
  return found;
}

/** What a device is asked for: all that helps, as far as the adapter goes. Never more, so nothing is refused. */
export function wishes(adapter: GPUAdapter): GPUDeviceDescriptor {
  const features = (["shader-f16", "subgroups", "timestamp-query"] as const).filter((f) =>
    adapter.features.has(f),
  );
  const limits = [
    "maxComputeWorkgroupStorageSize",
    "maxComputeInvocationsPerWorkgroup",
    "maxComputeWorkgroupSizeX",
    "maxStorageBuffersPerShaderStage",
    "maxStorageBufferBindingSize",
    "maxBufferSize",
  ] as const;
  return {
    label: "heddle",
    requiredFeatures: features,
    requiredLimits: Object.fromEntries(limits.map((name) => [name, adapter.limits[name]])),
  };
}
