/** A kernel as CUDA C++, and how it is launched. */
import type { Dtype } from "../../runtime/plan.ts";

/**
 * One translation unit that needs no header, for NVRTC with `CUDA_OPTIONS` and `--gpu-architecture=sm_XX` from sm_80 on.
 *
 * Arguments of a launch, in this order: a device pointer for each buffer, aligned to 16 bytes; each scalar as 4 bytes; then
 * `first_group`, an i32. A launch has a grid of (groups, 1, 1) blocks of (`workgroup`, 1, 1) threads and runs groups
 * first_group … first_group + groups − 1, so a grid may be cut into several launches. Its dynamic shared memory is `sharedBytes`;
 * above `STATIC_SHARED` the function must be allowed that much first (CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES).
 *
 * Limits: scalars and the number of groups are not negative and below 2³¹ − 2¹⁶ (so N and the rows of a batch are); buffers may have
 * any number of elements, their indices are computed in 64 bits where 32 might not do (ranges.ts).
 */
export type CudaKernelText = {
  /** The function's name, as it is (`extern "C"`). */
  readonly entry: string;
  readonly code: string;
  /** Threads of a block: a multiple of 32. */
  readonly workgroup: number;
  readonly sharedBytes: number;
  readonly buffers: readonly {
    readonly name: string;
    readonly dtype: Dtype;
    readonly access: "read" | "write" | "readwrite";
  }[];
  readonly scalars: readonly { readonly name: string; readonly type: "i32" | "f32" }[];
};

/** Dynamic shared memory that every function may use without being allowed more. */
export const STATIC_SHARED = 49152;

/** Nothing is contracted behind the IR's back; division, square roots and subnormals are IEEE's by default. */
export const CUDA_OPTIONS: readonly string[] = ["--std=c++17", "--fmad=false"];
