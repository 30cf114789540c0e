/*
 * The part of cuBLASLt that the shim calls, the same in cuBLAS 12 and 13; see driver.h. Written down from the section "Using the
 * cuBLASLt API" of https://docs.nvidia.com/cuda/cublas/ and held against cublasLt.h of 13.1, where its numbers have these names.
 */
#ifndef HEDDLE_CUBLASLT_H
#define HEDDLE_CUBLASLT_H
#include <stddef.h>
#include <stdint.h>
#include "driver.h"

typedef int LtStatus; /* cublasStatus_t */
/* Pointers to what only the library sees. */
typedef struct cublasLtContext *LtHandle;
typedef struct LtDescOpaque *LtDesc;             /* cublasLtMatmulDesc_t */
typedef struct LtLayoutOpaque *LtLayout;         /* cublasLtMatrixLayout_t */
typedef struct LtPreferenceOpaque *LtPreference; /* cublasLtMatmulPreference_t */
typedef struct LtAlgo {
  uint64_t data[8];
} LtAlgo; /* cublasLtMatmulAlgo_t */
typedef struct LtHeuristic {
  LtAlgo algo;
  size_t workspaceSize;
  LtStatus state;
  float wavesCount;
  int reserved[4];
} LtHeuristic; /* cublasLtMatmulHeuristicResult_t */

enum {
  LT_SUCCESS = 0,         /* CUBLAS_STATUS_SUCCESS */
  LT_NOT_SUPPORTED = 15,  /* CUBLAS_STATUS_NOT_SUPPORTED */
  LT_R_32F = 0,           /* CUDA_R_32F, of library_types.h as the next two */
  LT_R_16F = 2,           /* CUDA_R_16F */
  LT_R_16BF = 14,         /* CUDA_R_16BF */
  LT_COMPUTE_32F = 68,    /* CUBLAS_COMPUTE_32F: products and sums in f32, no TF32 */
  LT_OP_T = 1,            /* CUBLAS_OP_T */
  LT_DESC_TRANSA = 3,     /* CUBLASLT_MATMUL_DESC_TRANSA: int32_t */
  LT_DESC_EPILOGUE = 7,   /* CUBLASLT_MATMUL_DESC_EPILOGUE: uint32_t */
  LT_DESC_BIAS = 8,       /* CUBLASLT_MATMUL_DESC_BIAS_POINTER: a pointer */
  LT_DESC_BIAS_TYPE = 26, /* CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE: int32_t */
  LT_EPILOGUE_NONE = 1,   /* CUBLASLT_EPILOGUE_DEFAULT */
  LT_EPILOGUE_RELU = 2,   /* CUBLASLT_EPILOGUE_RELU */
  LT_EPILOGUE_BIAS = 4,   /* CUBLASLT_EPILOGUE_BIAS; RELU_BIAS is both */
  LT_PREF_WORKSPACE = 1,  /* CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES: size_t */
};

#define CUBLASLT_CALLS(X)                                                                                              \
  X(cublasLtCreate, (LtHandle * handle))                                                                               \
  X(cublasLtDestroy, (LtHandle handle))                                                                                \
  X(cublasLtMatmulDescCreate, (LtDesc * desc, int computeType, int scaleType))                                         \
  X(cublasLtMatmulDescDestroy, (LtDesc desc))                                                                          \
  X(cublasLtMatmulDescSetAttribute, (LtDesc desc, int attribute, const void *value, size_t bytes))                     \
  X(cublasLtMatrixLayoutCreate, (LtLayout * layout, int type, uint64_t rows, uint64_t cols, int64_t ld))               \
  X(cublasLtMatrixLayoutDestroy, (LtLayout layout))                                                                    \
  X(cublasLtMatmulPreferenceCreate, (LtPreference * preference))                                                       \
  X(cublasLtMatmulPreferenceDestroy, (LtPreference preference))                                                        \
  X(cublasLtMatmulPreferenceSetAttribute,                                                                              \
    (LtPreference preference, int attribute, const void *value, size_t bytes))                                         \
  X(cublasLtMatmulAlgoGetHeuristic,                                                                                    \
    (LtHandle handle, LtDesc desc, LtLayout a, LtLayout b, LtLayout c, LtLayout d, LtPreference preference,            \
     int requested, LtHeuristic *results, int *returned))                                                              \
  X(cublasLtMatmul, (LtHandle handle, LtDesc desc, const void *alpha, const void *a, LtLayout aLayout, const void *b,  \
                     LtLayout bLayout, const void *beta, const void *c, LtLayout cLayout, void *d, LtLayout dLayout,   \
                     const LtAlgo *algo, void *workspace, size_t workspaceBytes, CUstream stream))

typedef struct Cublaslt {
  void *library;
  /* Apart from the rest, for they give no status. The texts came with 11.4. */
  size_t (*cublasLtGetVersion)(void);
  const char *(*cublasLtGetStatusName)(LtStatus status);
  const char *(*cublasLtGetStatusString)(LtStatus status);
#define X(symbol, parameters) LtStatus(*symbol) parameters;
  CUBLASLT_CALLS(X)
#undef X
} Cublaslt;

#endif
