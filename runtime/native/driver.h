/*
 * The part of CUDA's driver interface that the shim calls, written down from its public documentation, so that no CUDA
 * header is needed to build. A test compares every line with cuda.h where that lies on the machine; then cuda.h's own
 * types are used.
 */
#ifndef HEDDLE_DRIVER_H
#define HEDDLE_DRIVER_H
#include <stddef.h>

#ifndef CUDA_VERSION
typedef int CUresult;
typedef int CUdevice;
typedef int CUdevice_attribute;
typedef int CUfunction_attribute;
typedef int CUjit_option;
typedef int CUstreamCaptureMode;
typedef unsigned long long CUdeviceptr;
typedef struct CUctx_st *CUcontext;
typedef struct CUmod_st *CUmodule;
typedef struct CUfunc_st *CUfunction;
typedef struct CUstream_st *CUstream;
typedef struct CUevent_st *CUevent;
typedef struct CUgraph_st *CUgraph;
typedef struct CUgraphNode_st *CUgraphNode;
typedef struct CUgraphExec_st *CUgraphExec;
#endif

/* Values of CUDA's enumerations, by the names that they have there. */
enum {
  STATUS_SUCCESS = 0,              /* CUDA_SUCCESS */
  JIT_INFO_LOG_BUFFER = 3,         /* CU_JIT_INFO_LOG_BUFFER */
  JIT_INFO_LOG_BUFFER_SIZE = 4,    /* CU_JIT_INFO_LOG_BUFFER_SIZE_BYTES */
  JIT_ERROR_LOG_BUFFER = 5,        /* CU_JIT_ERROR_LOG_BUFFER */
  JIT_ERROR_LOG_BUFFER_SIZE = 6,   /* CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES */
  FUNCTION_MAX_THREADS = 0,        /* CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK */
  FUNCTION_SHARED_BYTES = 1,       /* CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES */
  FUNCTION_CONSTANT_BYTES = 2,     /* CU_FUNC_ATTRIBUTE_CONST_SIZE_BYTES */
  FUNCTION_LOCAL_BYTES = 3,        /* CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES */
  FUNCTION_REGISTERS = 4,          /* CU_FUNC_ATTRIBUTE_NUM_REGS */
  FUNCTION_PTX_VERSION = 5,        /* CU_FUNC_ATTRIBUTE_PTX_VERSION */
  FUNCTION_BINARY_VERSION = 6,     /* CU_FUNC_ATTRIBUTE_BINARY_VERSION */
  FUNCTION_MAX_DYNAMIC_SHARED = 8, /* CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES */
  STREAM_NON_BLOCKING = 1,         /* CU_STREAM_NON_BLOCKING */
  CAPTURE_THREAD_LOCAL = 1,        /* CU_STREAM_CAPTURE_MODE_THREAD_LOCAL */
  HOST_ALLOC_PORTABLE = 1,         /* CU_MEMHOSTALLOC_PORTABLE */
};
/* CU_LAUNCH_PARAM_END, _BUFFER_POINTER, _BUFFER_SIZE: the keys of cuLaunchKernel's `extra`. */
#define LAUNCH_PARAM_END ((void *)0x00)
#define LAUNCH_PARAM_BUFFER_POINTER ((void *)0x01)
#define LAUNCH_PARAM_BUFFER_SIZE ((void *)0x02)

/*
 * X(symbol, parameters). The symbols are those of the library: a plain name stays what it was when CUDA first had it,
 * so where CUDA's header means a later one, its suffix stands here.
 */
#define DRIVER_CALLS(X)                                                                                                \
  X(cuInit, (unsigned int flags))                                                                                      \
  X(cuDriverGetVersion, (int *version))                                                                                \
  X(cuGetErrorName, (CUresult status, const char **text))                                                              \
  X(cuGetErrorString, (CUresult status, const char **text))                                                            \
  X(cuDeviceGetCount, (int *count))                                                                                    \
  X(cuDeviceGet, (CUdevice * device, int ordinal))                                                                     \
  X(cuDeviceGetName, (char *name, int bytes, CUdevice device))                                                         \
  X(cuDeviceTotalMem_v2, (size_t * bytes, CUdevice device))                                                            \
  X(cuDeviceGetAttribute, (int *value, CUdevice_attribute attribute, CUdevice device))                                 \
  X(cuDevicePrimaryCtxRetain, (CUcontext * context, CUdevice device))                                                  \
  X(cuDevicePrimaryCtxRelease_v2, (CUdevice device))                                                                   \
  X(cuCtxPushCurrent_v2, (CUcontext context))                                                                          \
  X(cuCtxPopCurrent_v2, (CUcontext * context))                                                                         \
  X(cuCtxSynchronize, (void))                                                                                          \
  X(cuMemGetInfo_v2, (size_t * available, size_t * total))                                                             \
  X(cuMemAlloc_v2, (CUdeviceptr * address, size_t bytes))                                                              \
  X(cuMemFree_v2, (CUdeviceptr address))                                                                               \
  X(cuMemHostAlloc, (void **address, size_t bytes, unsigned int flags))                                                \
  X(cuMemFreeHost, (void *address))                                                                                    \
  X(cuMemcpyHtoDAsync_v2, (CUdeviceptr to, const void *from, size_t bytes, CUstream stream))                           \
  X(cuMemcpyDtoHAsync_v2, (void *to, CUdeviceptr from, size_t bytes, CUstream stream))                                 \
  X(cuMemcpyDtoDAsync_v2, (CUdeviceptr to, CUdeviceptr from, size_t bytes, CUstream stream))                           \
  X(cuMemsetD8Async, (CUdeviceptr to, unsigned char value, size_t count, CUstream stream))                             \
  X(cuMemsetD32Async, (CUdeviceptr to, unsigned int value, size_t count, CUstream stream))                             \
  X(cuModuleLoadDataEx,                                                                                                \
    (CUmodule * module, const void *image, unsigned int count, CUjit_option *options, void **values))                  \
  X(cuModuleUnload, (CUmodule module))                                                                                 \
  X(cuModuleGetFunction, (CUfunction * function, CUmodule module, const char *name))                                   \
  X(cuFuncGetAttribute, (int *value, CUfunction_attribute attribute, CUfunction function))                             \
  X(cuFuncSetAttribute, (CUfunction function, CUfunction_attribute attribute, int value))                              \
  X(cuOccupancyMaxActiveBlocksPerMultiprocessor, (int *blocks, CUfunction function, int threads, size_t sharedBytes))  \
  X(cuLaunchKernel, (CUfunction function, unsigned int gridX, unsigned int gridY, unsigned int gridZ,                  \
                     unsigned int blockX, unsigned int blockY, unsigned int blockZ, unsigned int sharedBytes,          \
                     CUstream stream, void **parameters, void **extra))                                                \
  X(cuStreamCreate, (CUstream * stream, unsigned int flags))                                                           \
  X(cuStreamDestroy_v2, (CUstream stream))                                                                             \
  X(cuStreamSynchronize, (CUstream stream))                                                                            \
  X(cuStreamWaitEvent, (CUstream stream, CUevent event, unsigned int flags))                                           \
  X(cuEventCreate, (CUevent * event, unsigned int flags))                                                              \
  X(cuEventDestroy_v2, (CUevent event))                                                                                \
  X(cuEventRecord, (CUevent event, CUstream stream))                                                                   \
  X(cuEventSynchronize, (CUevent event))                                                                               \
  X(cuEventElapsedTime, (float *milliseconds, CUevent start, CUevent end))                                             \
  X(cuStreamBeginCapture_v2, (CUstream stream, CUstreamCaptureMode mode))                                              \
  X(cuStreamEndCapture, (CUstream stream, CUgraph * graph))                                                            \
  X(cuGraphGetNodes, (CUgraph graph, CUgraphNode * nodes, size_t * count))                                             \
  X(cuGraphInstantiateWithFlags, (CUgraphExec * exec, CUgraph graph, unsigned long long flags))                        \
  X(cuGraphLaunch, (CUgraphExec exec, CUstream stream))                                                                \
  X(cuGraphDestroy, (CUgraph graph))                                                                                   \
  X(cuGraphExecDestroy, (CUgraphExec exec))

/* Null where the driver is older than them. cuFuncGetParamInfo came with CUDA 12.4. */
#define DRIVER_OPTIONAL(X) X(cuFuncGetParamInfo, (CUfunction function, size_t index, size_t * offset, size_t * bytes))

typedef struct Driver {
  void *library;
#define X(symbol, parameters) CUresult(*symbol) parameters;
  DRIVER_CALLS(X)
  DRIVER_OPTIONAL(X)
#undef X
} Driver;

#endif
