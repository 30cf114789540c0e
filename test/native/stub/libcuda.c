/*
 * A stub of libcuda.so.1: device memory is the host's, a stream does at once what it is given, and the one kernel that
 * computes, `axpy`, does so here. It minds what the driver minds: a current context, live objects, bytes inside
 * allocations, and calls that break a capture.
 *
 * With EXECUTE it runs kernels: modules are what the stub of NVRTC makes of CUDA C++ (test/cuda-runtime/stub). A stream
 * then does nothing before somebody waits for it, so that whoever does not wait is found out, and new memory is NaN.
 */
#include "stub.h"
#ifdef EXECUTE
#include "execute.h"
#endif

typedef int CUresult;
typedef void *Object;
enum { OK = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, INVALID_CONTEXT = 201, INVALID_PTX = 218, INVALID_HANDLE = 400 };
enum { NOT_FOUND = 500, NOT_READY = 600, CAPTURE_UNSUPPORTED = 900, CAPTURE_INVALIDATED = 901 };

/* Calls of the interface begin so: log, orders, and whether a context is current where one is needed. */
#define CALL(name)                                                                                                     \
  int ordered = stub_called(#name);                                                                                    \
  if (ordered != 0) return ordered;
#define CALL_IN_CONTEXT(name)                                                                                          \
  CALL(name)                                                                                                           \
  if (stub_sticky != 0) return stub_sticky;                                                                            \
  if (depth == 0) {                                                                                                    \
    stub_log("!no context is current in " #name);                                                                      \
    return INVALID_CONTEXT;                                                                                            \
  }
#define KNOWN(kind, object)                                                                                            \
  if (!stub_has(kind, object, false)) return INVALID_HANDLE;

static __thread int depth;
static __thread Object stack[16];
/* Captures that this thread has begun; what is not allowed meanwhile breaks them. */
static __thread int capturing;
static __thread bool broken;
#define BREAKS_CAPTURE()                                                                                               \
  if (capturing > 0) {                                                                                                 \
    stub_log("!breaks a capture");                                                                                     \
    broken = true;                                                                                                     \
    return CAPTURE_UNSUPPORTED;                                                                                        \
  }

struct Function;
struct Event;
typedef struct Node {
  enum { COPY, FILL, LAUNCH, EVENT, CALLED } kind;
  void *to;
  const void *from;
  size_t bytes;
  uint32_t value;
  int width;
  unsigned char parameters[4096];
  char name[32];
  struct Function *function;
  unsigned grid, block, shared;
  struct Event *event;
  void (*run)(void *);
  struct Node *next;
} Node;
typedef struct Graph {
  Node *first, *last;
  size_t count;
} Graph;
typedef struct Stream {
  Graph *capture;
  /* What it was given and has not done. */
  Graph queue;
} Stream;
typedef struct Function {
  char name[32];
  int limit;
  void *library;
  struct Function *next;
} Function;
typedef struct Module {
  Function *functions;
  void *library;
} Module;
typedef struct Event {
  double at;
  Stream *stream;
} Event;
/* Does what streams were given: one, or all where it is null. */
static void drain(Stream *stream);

static const struct {
  int status;
  const char *name, *sentence;
} statuses[] = {
    {0, "CUDA_SUCCESS", "no error"},
    {1, "CUDA_ERROR_INVALID_VALUE", "invalid argument"},
    {2, "CUDA_ERROR_OUT_OF_MEMORY", "out of memory"},
    {3, "CUDA_ERROR_NOT_INITIALIZED", "initialization error"},
    {100, "CUDA_ERROR_NO_DEVICE", "no CUDA-capable device is detected"},
    {101, "CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal"},
    {201, "CUDA_ERROR_INVALID_CONTEXT", "invalid device context"},
    {218, "CUDA_ERROR_INVALID_PTX", "a PTX JIT compilation failed"},
    {400, "CUDA_ERROR_INVALID_HANDLE", "invalid resource handle"},
    {500, "CUDA_ERROR_NOT_FOUND", "named symbol not found"},
    {600, "CUDA_ERROR_NOT_READY", "device not ready"},
    {700, "CUDA_ERROR_ILLEGAL_ADDRESS", "an illegal memory access was encountered"},
    {719, "CUDA_ERROR_LAUNCH_FAILED", "unspecified launch failure"},
    {803, "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH", "system has unsupported display driver / cuda driver combination"},
    {900, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED", "operation not permitted when stream is capturing"},
    {901, "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED", "operation failed due to a previous error during capture"},
};

/* Of statuses that it does not know, it says so, as an old driver does of new ones. */
CUresult cuGetErrorName(int status, const char **text) {
  for (size_t i = 0; i < sizeof statuses / sizeof *statuses; i++)
    if (statuses[i].status == status) return *text = statuses[i].name, OK;
  return *text = NULL, INVALID_VALUE;
}
CUresult cuGetErrorString(int status, const char **text) {
  for (size_t i = 0; i < sizeof statuses / sizeof *statuses; i++)
    if (statuses[i].status == status) return *text = statuses[i].sentence, OK;
  return *text = NULL, INVALID_VALUE;
}

CUresult cuInit(unsigned flags) {
  CALL(cuInit)
  return flags == 0 ? OK : INVALID_VALUE;
}
CUresult cuDriverGetVersion(int *version) {
  CALL(cuDriverGetVersion)
  const char *asked = getenv("HEDDLE_STUB_VERSION");
  *version = asked == NULL ? 13000 : atoi(asked);
  return OK;
}

/* --- devices and contexts --- */
enum { DEVICES = 2 };
static int retained[DEVICES];
static char contexts[DEVICES];

CUresult cuDeviceGetCount(int *count) {
  CALL(cuDeviceGetCount)
  *count = DEVICES;
  return OK;
}
CUresult cuDeviceGet(int *device, int ordinal) {
  CALL(cuDeviceGet)
  if (ordinal < 0 || ordinal >= DEVICES) return 101;
  *device = ordinal;
  return OK;
}
CUresult cuDeviceGetName(char *name, int bytes, int device) {
  CALL(cuDeviceGetName)
  snprintf(name, (size_t)bytes, "Stub GPU %d", device);
  return OK;
}
CUresult cuDeviceTotalMem_v2(size_t *bytes, int device) {
  CALL(cuDeviceTotalMem_v2)
  *bytes = (size_t)(device + 1) << 36;
  return OK;
}
CUresult cuDeviceGetAttribute(int *value, int attribute, int device) {
  CALL(cuDeviceGetAttribute)
  if (attribute < 1 || attribute > 145) return INVALID_VALUE;
#ifdef EXECUTE
  static const int known[][2] = {{1, 1024},       {5, 0x7fffffff}, {8, 49152}, {10, 32}, {12, 65536},
                                 {39, 2048},      {81, 233472},    {82, 65536}, {106, 32}, {111, 1024}};
  for (size_t i = 0; i < sizeof known / sizeof *known; i++)
    if (known[i][0] == attribute) return *value = known[i][1], OK;
#endif
  *value = attribute == 75   ? 9
           : attribute == 76 ? 0
           : attribute == 16 ? 132
           : attribute == 97 ? 232448
                             : 1000 * device + attribute;
  return OK;
}
CUresult cuDevicePrimaryCtxRetain(Object *context, int device) {
  CALL(cuDevicePrimaryCtxRetain)
  pthread_mutex_lock(&stub_lock);
  retained[device]++;
  pthread_mutex_unlock(&stub_lock);
  *context = &contexts[device];
  stub_log("+context");
  return OK;
}
CUresult cuDevicePrimaryCtxRelease_v2(int device) {
  CALL(cuDevicePrimaryCtxRelease_v2)
  pthread_mutex_lock(&stub_lock);
  int left = --retained[device];
  pthread_mutex_unlock(&stub_lock);
  if (left <= 0 && stub_sticky != 0) {
    /* What it held goes with a context, whatever the calls that were to free it have answered. */
    stub_sticky = 0;
    stub_clear();
  }
  stub_log(left < 0 ? "!release of a context that is not retained" : "-context");
  return left < 0 ? INVALID_CONTEXT : OK;
}
/* These two happen around every call: only their failures are worth a line. */
CUresult cuCtxPushCurrent_v2(Object context) {
  int ordered = stub_order("fail", "cuCtxPushCurrent_v2");
  if (ordered > 0) return ordered;
  if ((char *)context < contexts || (char *)context >= contexts + DEVICES ||
      retained[(char *)context - contexts] <= 0) {
    stub_log("!push of a context that is not retained");
    return INVALID_CONTEXT;
  }
  stack[depth++] = context;
  return OK;
}
CUresult cuCtxPopCurrent_v2(Object *context) {
  if (depth == 0) {
    stub_log("!pop without push");
    return INVALID_CONTEXT;
  }
  *context = stack[--depth];
  return OK;
}
CUresult cuCtxSynchronize(void) {
  CALL_IN_CONTEXT(cuCtxSynchronize)
  BREAKS_CAPTURE()
  drain(NULL);
  return stub_sticky;
}

#include "work.c"

#ifdef EXECUTE
void *execute_allocation(const void *address, size_t *bytes) { return stub_around("memory", address, bytes); }
#endif

/* --- modules --- */
CUresult cuModuleLoadDataEx(Object *module, const void *image, unsigned count, int *options, void **values) {
  CALL_IN_CONTEXT(cuModuleLoadDataEx)
  if (strstr(image, "syntax error") != NULL) {
    for (unsigned i = 0; i < count; i++)
      if (options[i] == 5) snprintf(values[i], 100, "ptxas error   : Parsing error near 'syntax'");
    return INVALID_PTX;
  }
  Module *made = calloc(1, sizeof *made);
#ifdef EXECUTE
  made->library = execute_load(image);
  if (made->library == NULL) {
    free(made);
    return INVALID_PTX;
  }
#endif
  *module = stub_add("module", made, sizeof *made);
  return OK;
}
CUresult cuModuleUnload(Object module) {
  CALL_IN_CONTEXT(cuModuleUnload)
  BREAKS_CAPTURE()
  drain(NULL);
  if (!stub_has("module", module, true)) return INVALID_HANDLE;
#ifdef EXECUTE
  execute_unload(((Module *)module)->library);
#endif
  for (Function *next, *f = ((Module *)module)->functions; f != NULL; f = next) {
    next = f->next;
    stub_has("function", f, true);
    free(f);
  }
  free(module);
  return OK;
}
CUresult cuModuleGetFunction(Object *function, Object module, const char *name) {
  CALL_IN_CONTEXT(cuModuleGetFunction)
  KNOWN("module", module)
  if (strcmp(name, "missing") == 0) return NOT_FOUND;
#ifdef EXECUTE
  if (strcmp(name, execute_name(((Module *)module)->library)) != 0) return NOT_FOUND;
#endif
  Function *made = calloc(1, sizeof *made);
  snprintf(made->name, sizeof made->name, "%s", name);
  made->limit = 49152;
  made->library = ((Module *)module)->library;
  made->next = ((Module *)module)->functions;
  ((Module *)module)->functions = made;
  *function = stub_add("function", made, sizeof *made);
  return OK;
}
CUresult cuFuncGetAttribute(int *value, int attribute, Object function) {
  CALL_IN_CONTEXT(cuFuncGetAttribute)
  KNOWN("function", function)
  *value = attribute == 8 ? ((Function *)function)->limit : 100 + attribute;
  return OK;
}
CUresult cuFuncSetAttribute(Object function, int attribute, int value) {
  CALL_IN_CONTEXT(cuFuncSetAttribute)
  KNOWN("function", function)
  if (attribute != 8 || value > 232448) return INVALID_VALUE;
  ((Function *)function)->limit = value;
  return OK;
}
CUresult cuOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, Object function, int threads, size_t shared) {
  CALL_IN_CONTEXT(cuOccupancyMaxActiveBlocksPerMultiprocessor)
  KNOWN("function", function)
  *blocks = 2048 / threads - (shared > 100000);
  return OK;
}
#ifdef EXECUTE
CUresult cuFuncGetParamInfo(Object function, size_t index, size_t *offset, size_t *bytes) {
  KNOWN("function", function)
  return execute_parameter(((Function *)function)->library, index, offset, bytes) ? OK : INVALID_VALUE;
}
#elif !defined OLD_DRIVER
/* axpy(const float *x, float *y, float a, int n); every other kernel has no parameters. */
CUresult cuFuncGetParamInfo(Object function, size_t index, size_t *offset, size_t *bytes) {
  static const size_t offsets[] = {0, 8, 16, 20}, sizes[] = {8, 8, 4, 4};
  KNOWN("function", function)
  if (strcmp(((Function *)function)->name, "axpy") != 0 || index >= 4) return INVALID_VALUE;
  *offset = offsets[index];
  *bytes = sizes[index];
  return OK;
}
#endif
CUresult cuLaunchKernel(Object function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                        unsigned shared, Object stream, void **parameters, void **extra) {
  CALL_IN_CONTEXT(cuLaunchKernel)
  KNOWN("function", function)
  Function *called = function;
  if (parameters != NULL) return INVALID_VALUE;
  if (extra != NULL && (extra[0] != (void *)1 || extra[2] != (void *)2 || extra[4] != NULL)) return INVALID_VALUE;
  if (bx * by * bz > 1024 || gy > 65535 || gz > 65535 || (int)shared > called->limit) return INVALID_VALUE;
  size_t bytes = extra == NULL ? 0 : *(size_t *)extra[3];
  Node node = {.kind = LAUNCH, .bytes = bytes, .function = called, .grid = gx, .block = bx, .shared = shared};
  if (bytes > sizeof node.parameters) return INVALID_VALUE;
  if (bytes > 0) memcpy(node.parameters, extra[1], bytes);
  memcpy(node.name, called->name, sizeof node.name);
  stub_log("launch %s %u %u %u %u %u %u %u, %zu bytes", called->name, gx, gy, gz, bx, by, bz, shared, bytes);
  return enqueue(stream, node);
}
