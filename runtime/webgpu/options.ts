/** What a caller says of WebGPU. No type of WebGPU itself stands here: projects without them in their `lib` import this too. */

/** What a host knows of its drivers: on Node `vulkanDrivers` of `heddle/runtime/node`. */
export type Drivers = {
  /** Driver files that were found. */
  readonly found: readonly string[];
  /** Where they were looked for. */
  readonly searched: readonly string[];
  /** Makes known a software driver that the system does not list, and gives what takes that back; null where there is none. */
  readonly fallback?: () => (() => void) | null;
};

/** Limits that tests may make smaller than the device's. */
export type SessionLimits = {
  readonly maxStorageBufferBindingSize: number;
  readonly maxBufferSize: number;
  readonly maxStorageBuffersPerShaderStage: number;
  readonly maxComputeWorkgroupStorageSize: number;
  readonly maxComputeInvocationsPerWorkgroup: number;
  readonly maxComputeWorkgroupsPerDimension: number;
};

export type WebgpuOptions = {
  /** A `GPU` to find an adapter with; the host's own unless given. */
  readonly gpu?: object;
  /** The caller's `GPUDevice`, or a function that makes one. Only a function can make another after a loss. */
  readonly device?: object | (() => Promise<object>);
  readonly powerPreference?: "low-power" | "high-performance";
  /** Whether an adapter that computes on the processor will do (default: yes). */
  readonly software?: boolean;
  /** What the host knows of its drivers, for Node: `vulkanDrivers` of `heddle/runtime/node`. */
  readonly drivers?: () => Promise<Drivers>;
  /** Uses less than the device offers. */
  readonly limits?: Partial<SessionLimits>;
  /** Uses no features but these. */
  readonly features?: readonly ("shader-f16" | "subgroups" | "timestamp-query")[];
  /** Milliseconds that one submit may take, 100 unless given. */
  readonly budgetMs?: number;
  /** For tests: outputs and values between steps begin as NaN, so that what a kernel forgets is seen. */
  readonly poison?: boolean;
  /** Measures every step by the device's clock. Runs take longer. */
  readonly profile?: boolean;
};
