/* The part of NVRTC's interface that the shim calls, the same in NVRTC 12 and 13; see driver.h. */
#ifndef HEDDLE_NVRTC_H
#define HEDDLE_NVRTC_H
#include <stddef.h>

#ifndef __NVRTC_H__
typedef int nvrtcResult;
typedef struct _nvrtcProgram *nvrtcProgram;
#endif

enum { NVRTC_STATUS_SUCCESS = 0, NVRTC_STATUS_COMPILATION = 6 };

#define NVRTC_CALLS(X)                                                                                                 \
  X(nvrtcVersion, (int *major, int *minor))                                                                            \
  X(nvrtcGetNumSupportedArchs, (int *count))                                                                           \
  X(nvrtcGetSupportedArchs, (int *archs))                                                                              \
  X(nvrtcCreateProgram, (nvrtcProgram * program, const char *source, const char *name, int headerCount,                \
                         const char *const *headers, const char *const *headerNames))                                  \
  X(nvrtcDestroyProgram, (nvrtcProgram * program))                                                                     \
  X(nvrtcCompileProgram, (nvrtcProgram program, int count, const char *const *options))                                \
  X(nvrtcGetProgramLogSize, (nvrtcProgram program, size_t * bytes))                                                    \
  X(nvrtcGetProgramLog, (nvrtcProgram program, char *log))                                                             \
  X(nvrtcGetPTXSize, (nvrtcProgram program, size_t * bytes))                                                           \
  X(nvrtcGetPTX, (nvrtcProgram program, char *ptx))                                                                    \
  X(nvrtcGetCUBINSize, (nvrtcProgram program, size_t * bytes))                                                         \
  X(nvrtcGetCUBIN, (nvrtcProgram program, char *cubin))

typedef struct Nvrtc {
  void *library;
  /* Apart from the rest, for it gives no result. */
  const char *(*nvrtcGetErrorString)(nvrtcResult status);
#define X(symbol, parameters) nvrtcResult(*symbol) parameters;
  NVRTC_CALLS(X)
#undef X
} Nvrtc;

#endif
