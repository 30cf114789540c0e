/*
 * What the files of the shim share: failures, handles, arguments, works.
 *
 * Everything here runs on the JavaScript thread of one Node environment, except the `run` of a Work, which runs on a
 * thread of libuv's pool and sees neither N-API nor a handle's counters. Nothing is global: two environments (worker
 * threads) share nothing but the libraries themselves.
 */
#ifndef HEDDLE_SHIM_H
#define HEDDLE_SHIM_H
#include <stdbool.h>
#include <stdint.h>
#include <node_api.h>
#include "cublaslt.h"
#include "driver.h"
#include "nvrtc.h"

/* --- failure.c: what went wrong, as data, so that any thread can note it
 * ------------------------------------------------ */

typedef struct Failure {
  /* The call that failed, ours or the driver's; null while nothing has. */
  const char *call;
  /* CUDA's, NVRTC's or cuBLASLt's symbolic name, or one of INVALID_ARGUMENT, INVALID_HANDLE, DISPOSED, OUT_OF_MEMORY, NO_LIBRARY,
     NO_SYMBOL, CANCELLED. Text that lives as long as the process. */
  const char *code;
  char sentence[1024];
  /* A compiler's log; owned. */
  char *log;
} Failure;

/* Notes a failure, unless there is one already: the first is the cause. Always false, for `return failure_set(…)`. */
bool failure_set(Failure *failure, const char *call, const char *code, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
/* Adds to the sentence: what was asked for. Always false. */
bool failure_add(Failure *failure, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Whether `status` is success; otherwise notes it with the driver's own name and sentence. */
bool driver_ok(Failure *failure, const Driver *driver, const char *call, CUresult status);
bool nvrtc_ok(Failure *failure, const Nvrtc *nvrtc, const char *call, nvrtcResult status);
bool cublaslt_ok(Failure *failure, const Cublaslt *lt, const char *call, LtStatus status);
/* A JavaScript CudaError. Empties `failure`. Null where JavaScript cannot run any more. */
napi_value failure_value(napi_env env, Failure *failure);
void failure_throw(napi_env env, Failure *failure);

#define DRIVER(failure, driver, symbol, ...) driver_ok(failure, driver, #symbol, (driver)->symbol(__VA_ARGS__))
#define NVRTC(failure, nvrtc, symbol, ...) nvrtc_ok(failure, nvrtc, #symbol, (nvrtc)->symbol(__VA_ARGS__))
#define CUBLASLT(failure, lt, symbol, ...) cublaslt_ok(failure, lt, #symbol, (lt)->symbol(__VA_ARGS__))

/* --- handle.c: the driver's objects as JavaScript sees them
 * -------------------------------------------------------------- */

typedef enum Kind {
  KIND_DRIVER,
  KIND_NVRTC,
  KIND_CUBLASLT,
  KIND_CONTEXT,
  KIND_MODULE,
  KIND_FUNCTION,
  KIND_STREAM,
  KIND_EVENT,
  KIND_MEMORY,
  KIND_PINNED,
  KIND_GRAPH,
  KIND_PRODUCTS,
  KIND_PRODUCT,
  KINDS,
} Kind;

typedef struct Handle Handle;

/* Handles that something keeps. */
typedef struct Holds {
  Handle **items;
  size_t count, room;
} Holds;

struct Handle {
  Kind kind;
  bool disposed;    /* by the caller: every later use of it throws */
  bool unreachable; /* JavaScript does not hold it any more; what was made from it may still be used */
  bool released;    /* the driver's object is gone */
  /* What needs the driver's object: unreleased children, works under way, graphs, an ArrayBuffer. It is released when
     it is disposed or unreachable and this is 0. */
  unsigned uses;
  /* Who may still read this record: the JavaScript object, children, and all that count in `uses`. It is freed at 0. */
  unsigned refs;
  Handle *parent, *children, *older, *newer;
  union {
    Driver driver;
    Nvrtc nvrtc;
    Cublaslt cublaslt;
    struct {
      CUdevice device;
      CUcontext context;
      unsigned captures; /* streams that are being captured; nothing is released meanwhile, for that would break the
                            capture */
    } context;
    struct {
      CUmodule module;
      bool launched;
    } module;
    struct {
      CUfunction function;
      int64_t bytes; /* of its parameters; -1 where the driver cannot say */
    } function;
    struct {
      CUstream stream;
      bool capturing;
      Holds held;
    } stream;
    CUevent event;
    struct {
      CUdeviceptr address;
      uint64_t bytes;
    } memory;
    struct {
      void *address;
      uint64_t bytes;
      napi_env env;
      napi_ref buffer; /* weak */
      bool copied;
    } pinned;
    struct {
      CUgraphExec exec;
      Holds held;
    } graph;
    struct {
      LtHandle handle;
      Handle *library;
    } products;
    struct {
      LtDesc desc;
      LtLayout weight, x, out;
      LtAlgo algo;
      size_t workspace;
      bool bias;
      float beta;        /* of the residual; 0: there is none */
      uint64_t bytes[3]; /* of x, W and out */
      uint64_t outs;
    } product;
  } as;
};

/* A new record under `parent` (or null), not yet seen by JavaScript: `refs` is 1. Null where memory is out. */
Handle *handle_new(Kind kind, Handle *parent);
/* The JavaScript object of a new handle. Where JavaScript cannot make one, releases the handle and gives null. */
napi_value handle_wrap(napi_env env, Handle *handle);
/* Ends a handle that JavaScript never saw. */
void handle_abandon(Handle *handle);
/* handle_wrap for what a work has made, unless its parent was disposed meanwhile: then it is released and a failure
 * noted. */
napi_value handle_publish(napi_env env, Handle *handle, const char *call, Failure *failure);
/* The handle in a JavaScript object, or null where it is none of this kind. */
Handle *handle_in(napi_env env, napi_value value, Kind kind);
const char *kind_name(Kind kind);

/* Keeps the driver's object of `handle` until `handle_drop`. */
void handle_hold(Handle *handle);
void handle_drop(Handle *handle, Failure *failure);
/* Ends a handle and all that was made from it; what is in use is released when its use ends. Harmless when repeated. */
void handle_dispose(napi_env env, Handle *handle, Failure *failure);
/* Releases what waited for the end of the captures of a context. */
void handle_sweep(Handle *context, Failure *failure);

bool holds_add(Holds *holds, Handle *handle, const char *call, Failure *failure);
void holds_drop(Holds *holds, Failure *failure);

Handle *context_of(Handle *handle);
const Driver *driver_of(const Handle *handle);
/* Makes the context of a handle current on this thread, as a stack, so that other users of CUDA in this process see no
 * change. */
bool context_enter(const Handle *handle, Failure *failure);
void context_leave(const Handle *handle);

/* How each kind is released; the context is current where there is one. */
void context_release(Handle *handle, Failure *failure);
void module_release(Handle *handle, Failure *failure);
void stream_release(Handle *handle, Failure *failure);
void event_release(Handle *handle, Failure *failure);
void memory_release(Handle *handle, Failure *failure);
void pinned_release(Handle *handle, Failure *failure);
void graph_release(Handle *handle, Failure *failure);
void products_release(Handle *handle, Failure *failure);
void product_release(Handle *handle, Failure *failure);
/* Takes the memory away from JavaScript's ArrayBuffer. */
void pinned_detach(napi_env env, Handle *handle);
/* The pinned memory under a driver that an address lies in, or null. */
Handle *pinned_at(Handle *context, const void *address);
/* Keeps what a captured call uses for the graph to come. */
bool stream_keep(Handle *stream, Handle *used, const char *call, Failure *failure);
/* Ends a capture and throws away what it gathered; the context is current. */
void capture_abort(Handle *stream, Failure *failure);

/* --- call.c: the arguments of a call. Each reader throws a CudaError and sets `failed`; after that all of them do
 * nothing --- */

#define MAX_ARGUMENTS 7
typedef struct Call {
  napi_env env;
  const char *name;
  napi_value arguments[MAX_ARGUMENTS];
  bool failed;
} Call;

typedef struct Bytes {
  unsigned char *data;
  size_t length;
} Bytes;

Call call_begin(napi_env env, napi_callback_info info, const char *name);
void call_fail(Call *call, const char *code, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* Throws what a driver's call noted; null, for `return call_throw(…)`. */
napi_value call_throw(Call *call, Failure *failure);
Handle *take_handle(Call *call, size_t index, Kind kind);
/* A whole number from `least` to `most`. */
uint64_t take_whole(Call *call, size_t index, const char *what, uint64_t least, uint64_t most);
/* UTF-8 without zeros inside, to be freed. */
char *take_text(Call *call, size_t index, const char *what);
char **take_texts(Call *call, size_t index, const char *what, size_t *count);
void free_texts(char **texts, size_t count);
bool is_absent(Call *call, size_t index);
/* The memory of a typed array of that type; it stays where it is while the array is alive and not detached. */
Bytes take_array(Call *call, size_t index, const char *what, napi_typedarray_type type);
/* The elements of an array. Reading them can run JavaScript: take them before anything else. */
size_t take_list(Call *call, size_t index, const char *what, napi_value *items, size_t most);
Handle *handle_at(Call *call, napi_value value, const char *what, Kind kind);
/* handle_wrap for what a call has made; where `failure` says that it was not made, throws that. */
napi_value handle_made(Call *call, Handle *handle, Failure *failure);
/* Throws unless both lie in one context. */
void same_context(Call *call, Handle *a, Handle *b);
/* Throws unless offset + bytes lie within `of`. */
void within(Call *call, const char *what, uint64_t offset, uint64_t bytes, uint64_t of);

#define MOST_BYTES ((uint64_t)1 << 53)

/* --- work.c: calls that take long, as promises
 * ---------------------------------------------------------------------------- */

#define MAX_HOLDS 3
typedef struct Work Work;
struct Work {
  /* On a thread of the pool. */
  void (*run)(Work *work);
  /* On the JavaScript thread where `run` noted no failure. Null with a failure noted rejects. */
  napi_value (*finish)(napi_env env, Work *work);
  /* Frees what the work owns, but not the work; may be null. */
  void (*drop)(Work *work);
  Failure failure;
  /* Set by work_start. */
  napi_async_work async;
  napi_deferred deferred;
  Handle *holds[MAX_HOLDS];
  napi_ref array;
};

/* A zeroed work of `bytes`, a struct that begins with a Work. Throws and gives null where memory is out. */
void *work_new(Call *call, size_t bytes, void (*run)(Work *));
/* Keeps a handle until the work has ended; MAX_HOLDS of them. */
void work_hold(Work *work, Handle *handle);
/* Starts the work and gives its promise, keeping the array (or null) until it has ended. Owns `work` from here on. */
napi_value work_start(Call *call, Work *work, napi_value array);
/* A `finish` without a result. */
napi_value work_nothing(napi_env env, Work *work);

/* --- the functions of the module; shim.c has the table
 * ------------------------------------------------------------------------ */

#define SHIM_FUNCTIONS(X)                                                                                              \
  X(openDriver)                                                                                                        \
  X(openNvrtc) X(compile) X(deviceCount) X(deviceInfo) X(openContext) X(memoryInfo) X(synchronizeContext)              \
      X(loadModule) X(moduleFunction) X(functionUsage) X(occupancy) X(setSharedLimit) X(launch) X(createStream)        \
          X(synchronizeStream) X(createEvent) X(recordEvent) X(waitEvent) X(synchronizeEvent) X(elapsed) X(allocate)   \
              X(allocatePinned) X(fill) X(upload) X(download) X(copy) X(write) X(read) X(beginCapture) X(endCapture)   \
                  X(launchGraph) X(openCublasLt) X(openProducts) X(product) X(multiply) X(dispose)
#define X(name) napi_value shim_##name(napi_env env, napi_callback_info info);
SHIM_FUNCTIONS(X)
#undef X

/* Whether an image is a cubin whose parts lie inside it, or PTX text; a driver reads past a torn one. */
bool image_ok(const unsigned char *image, size_t bytes, const char *call, Failure *failure);
/* Numbers and objects for results; null where JavaScript cannot run. */
napi_value number_value(napi_env env, double value);
bool set_number(napi_env env, napi_value object, const char *name, double value);
napi_value bytes_value(napi_env env, const void *data, size_t bytes);

#endif
