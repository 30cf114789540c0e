/** What the shim believes of CUDA, held against CUDA's own headers where they lie on this machine. */
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { haveCompiler } from "./stub.ts";

const ok = await haveCompiler();
const { CUDA_PATH, CUDA_HOME, VIRTUAL_ENV } = process.env;
const folders = [CUDA_PATH, CUDA_HOME, "/usr/local/cuda", VIRTUAL_ENV].flatMap((f) =>
  f === undefined ? [] : [join(f, "include")],
);
const withHeader = (name: string) => folders.find((f) => existsSync(join(f, name)));
const cuda = withHeader("cuda.h");
const nvrtc = withHeader("nvrtc.h");
// Wheels of cuBLAS have its header without those of CUDA that it includes.
const cublasLt = cuda === undefined ? undefined : withHeader("cublasLt.h");
if (cublasLt === undefined)
  console.warn("skipped: cublasLt.h is not on this machine, so the shim's prototypes are not compared");
if (cuda === undefined)
  console.warn("skipped: cuda.h is not on this machine, so the shim's prototypes are not compared");
if (nvrtc === undefined)
  console.warn("skipped: nvrtc.h is not on this machine, so the shim's prototypes are not compared");

/** What a C compiler minds in a program; empty where it minds nothing. */
function compile(text: string, include: string): string {
  const args = [
    "-std=gnu11",
    "-fsyntax-only",
    "-Wall",
    "-Werror",
    "-I",
    include,
    "-I",
    "runtime/native",
    "-x",
    "c",
    "-",
  ];
  return spawnSync("cc", args, { input: text, encoding: "utf8" }).stderr;
}

const compare = (calls: string, result: string) => `
#define X(symbol, parameters) \\
  _Static_assert(__builtin_types_compatible_p(__typeof__(&symbol), ${result}(*) parameters), #symbol);
${calls}
#undef X
`;

describe.skipIf(!ok)("prototypes", () => {
  it.skipIf(cuda === undefined)("of the driver, its symbols and its numbers", () => {
    const numbers = {
      JIT_INFO_LOG_BUFFER: "CU_JIT_INFO_LOG_BUFFER",
      JIT_INFO_LOG_BUFFER_SIZE: "CU_JIT_INFO_LOG_BUFFER_SIZE_BYTES",
      JIT_ERROR_LOG_BUFFER: "CU_JIT_ERROR_LOG_BUFFER",
      JIT_ERROR_LOG_BUFFER_SIZE: "CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES",
      FUNCTION_MAX_THREADS: "CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK",
      FUNCTION_SHARED_BYTES: "CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES",
      FUNCTION_CONSTANT_BYTES: "CU_FUNC_ATTRIBUTE_CONST_SIZE_BYTES",
      FUNCTION_LOCAL_BYTES: "CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES",
      FUNCTION_REGISTERS: "CU_FUNC_ATTRIBUTE_NUM_REGS",
      FUNCTION_PTX_VERSION: "CU_FUNC_ATTRIBUTE_PTX_VERSION",
      FUNCTION_BINARY_VERSION: "CU_FUNC_ATTRIBUTE_BINARY_VERSION",
      FUNCTION_MAX_DYNAMIC_SHARED: "CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES",
      STREAM_NON_BLOCKING: "CU_STREAM_NON_BLOCKING",
      CAPTURE_THREAD_LOCAL: "CU_STREAM_CAPTURE_MODE_THREAD_LOCAL",
      HOST_ALLOC_PORTABLE: "CU_MEMHOSTALLOC_PORTABLE",
      LAUNCH_PARAM_BUFFER_POINTER: "CU_LAUNCH_PARAM_BUFFER_POINTER_AS_INT",
      LAUNCH_PARAM_BUFFER_SIZE: "CU_LAUNCH_PARAM_BUFFER_SIZE_AS_INT",
      LAUNCH_PARAM_END: "CU_LAUNCH_PARAM_END_AS_INT",
    };
    const same = Object.entries(numbers).map(
      ([ours, theirs]) => `_Static_assert((long)${ours} == (long)${theirs}, "${ours}");`,
    );
    // The header names the newest form of each call; ours are the symbols that every driver since CUDA 12 has. Where the two differ,
    // the header still has the older one, which this makes it declare.
    const text = `#define __CUDA_API_VERSION_INTERNAL 1
#include <cuda.h>
#include "driver.h"
${compare("DRIVER_CALLS(X)\nDRIVER_OPTIONAL(X)", "CUresult")}${same.join("\n")}\n`;
    expect(compile(text, cuda ?? "")).toBe("");
    expect(compile(text.replace("DRIVER_CALLS(X)", "X(cuInit, (int flags))"), cuda ?? "")).toMatch(/cuInit/);
  });

  it.skipIf(cublasLt === undefined)("of cuBLASLt: its numbers, and the records that it fills", () => {
    const numbers = {
      LT_SUCCESS: "CUBLAS_STATUS_SUCCESS",
      LT_NOT_SUPPORTED: "CUBLAS_STATUS_NOT_SUPPORTED",
      LT_R_32F: "CUDA_R_32F",
      LT_R_16F: "CUDA_R_16F",
      LT_R_16BF: "CUDA_R_16BF",
      LT_COMPUTE_32F: "CUBLAS_COMPUTE_32F",
      LT_OP_T: "CUBLAS_OP_T",
      LT_DESC_TRANSA: "CUBLASLT_MATMUL_DESC_TRANSA",
      LT_DESC_EPILOGUE: "CUBLASLT_MATMUL_DESC_EPILOGUE",
      LT_DESC_BIAS: "CUBLASLT_MATMUL_DESC_BIAS_POINTER",
      LT_DESC_BIAS_TYPE: "CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE",
      LT_EPILOGUE_NONE: "CUBLASLT_EPILOGUE_DEFAULT",
      LT_EPILOGUE_RELU: "CUBLASLT_EPILOGUE_RELU",
      LT_EPILOGUE_BIAS: "CUBLASLT_EPILOGUE_BIAS",
      "(LT_EPILOGUE_RELU | LT_EPILOGUE_BIAS)": "CUBLASLT_EPILOGUE_RELU_BIAS",
      LT_PREF_WORKSPACE: "CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES",
      "sizeof(LtAlgo)": "sizeof(cublasLtMatmulAlgo_t)",
      "sizeof(LtHeuristic)": "sizeof(cublasLtMatmulHeuristicResult_t)",
      "offsetof(LtHeuristic, workspaceSize)": "offsetof(cublasLtMatmulHeuristicResult_t, workspaceSize)",
      "offsetof(LtHeuristic, state)": "offsetof(cublasLtMatmulHeuristicResult_t, state)",
    };
    const same = Object.entries(numbers).map(
      ([ours, theirs]) => `_Static_assert((long)${ours} == (long)${theirs}, "${ours}");`,
    );
    const text = `#include <stddef.h>\n#include <cublasLt.h>\n#include "runtime/native/cublaslt.h"\n${same.join("\n")}\n`;
    expect(compile(text, cublasLt ?? "")).toBe("");
    expect(compile(text.replace("LT_OP_T ==", "LT_OP_T + 1 =="), cublasLt ?? "")).toMatch(/LT_OP_T/);
  });

  it.skipIf(nvrtc === undefined)("of NVRTC", () => {
    const text = `#include <nvrtc.h>\n#include "nvrtc.h"\n${compare("NVRTC_CALLS(X)", "nvrtcResult")}
_Static_assert((int)NVRTC_STATUS_COMPILATION == (int)NVRTC_ERROR_COMPILATION, "status");\n`;
    expect(compile(text.replace('"nvrtc.h"', '"runtime/native/nvrtc.h"'), nvrtc ?? "")).toBe("");
  });
});
