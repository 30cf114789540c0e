/* Modules and functions: loading an image, and what a function takes of the device. */
#include <stdlib.h>
#include <string.h>
#include "shim.h"

enum { LOG_BYTES = 8192 };

typedef struct Loading {
  Work work;
  Handle *context;
  unsigned char *image;
  size_t bytes;
  CUmodule module;
} Loading;

static void loading_drop(Work *work) { free(((Loading *)work)->image); }

static void load_run(Work *work) {
  Loading *l = (Loading *)work;
  if (!context_enter(l->context, &work->failure)) return;
  /* PTX is compiled by the driver, which says what it minds only here. */
  char *log = calloc(1, LOG_BYTES);
  CUjit_option options[] = {JIT_ERROR_LOG_BUFFER, JIT_ERROR_LOG_BUFFER_SIZE};
  void *values[] = {log, (void *)(uintptr_t)LOG_BYTES};
  DRIVER(&work->failure, driver_of(l->context), cuModuleLoadDataEx, &l->module, l->image, log == NULL ? 0 : 2, options,
         values);
  context_leave(l->context);
  if (work->failure.call != NULL && log != NULL && *log != 0) {
    log[LOG_BYTES - 1] = 0;
    work->failure.log = log;
  } else free(log);
}

static napi_value load_finish(napi_env env, Work *work) {
  Loading *l = (Loading *)work;
  Handle *handle = handle_new(KIND_MODULE, l->context);
  if (handle == NULL) {
    if (context_enter(l->context, NULL)) {
      driver_of(l->context)->cuModuleUnload(l->module);
      context_leave(l->context);
    }
    return NULL;
  }
  handle->as.module.module = l->module;
  return handle_publish(env, handle, "loadModule", &work->failure);
}

/* loadModule(context, image: Uint8Array): Promise<module>; a cubin or PTX text. */
napi_value shim_loadModule(napi_env env, napi_callback_info info) {
  Call call = call_begin(env, info, "loadModule");
  Handle *context = take_handle(&call, 0, KIND_CONTEXT);
  Bytes image = take_array(&call, 1, "image", napi_uint8_array);
  if (call.failed) return NULL;
  Failure failure = {0};
  if (!image_ok(image.data, image.length, call.name, &failure)) return call_throw(&call, &failure);
  Loading *l = work_new(&call, sizeof *l, load_run);
  if (l == NULL) return NULL;
  l->work.finish = load_finish;
  l->work.drop = loading_drop;
  l->context = context;
  /* A copy: it has a zero behind it, and what was checked stays what is loaded. */
  l->image = malloc(image.length + 1);
  if (l->image == NULL) {
    call_fail(&call, "OUT_OF_MEMORY", "no memory for %zu bytes", image.length);
    free(l);
    return NULL;
  }
  memcpy(l->image, image.data, image.length);
  l->image[image.length] = 0;
  work_hold(&l->work, context);
  return work_start(&call, &l->work, NULL);
}

void module_release(Handle *handle, Failure *failure) {
  const Driver *driver = driver_of(handle);
  /* Its code must not be running. What fails of this is said where that work is waited for. */
  if (handle->as.module.launched) driver->cuCtxSynchronize();
  DRIVER(failure, driver, cuModuleUnload, handle->as.module.module);
}

/* Bytes of a function's parameters, which a launch must give exactly; −1 where the driver is too old to say. */
static int64_t parameter_bytes(const Driver *driver, CUfunction function) {
  if (driver->cuFuncGetParamInfo == NULL) return -1;
  int64_t bytes = 0;
  size_t offset, size;
  /* The first index that does not exist is refused. */
  for (size_t i = 0; i < 1024 && driver->cuFuncGetParamInfo(function, i, &offset, &size) == STATUS_SUCCESS; i++)
    bytes = (int64_t)(offset + size);
  return bytes;
}

/* moduleFunction(module, name): function. */
napi_value shim_moduleFunction(napi_env env, napi_callback_info info) {
  Call call = call_begin(env, info, "moduleFunction");
  Handle *module = take_handle(&call, 0, KIND_MODULE);
  char *name = take_text(&call, 1, "name");
  if (call.failed) return NULL;
  const Driver *driver = driver_of(module);
  Failure failure = {0};
  CUfunction function = NULL;
  int64_t bytes = -1;
  if (context_enter(module, &failure)) {
    if (DRIVER(&failure, driver, cuModuleGetFunction, &function, module->as.module.module, name))
      bytes = parameter_bytes(driver, function);
    else failure_add(&failure, " (function '%s')", name);
    context_leave(module);
  }
  free(name);
  if (failure.call != NULL) return call_throw(&call, &failure);
  Handle *handle = handle_new(KIND_FUNCTION, module);
  if (handle == NULL) {
    call_fail(&call, "OUT_OF_MEMORY", "no memory");
    return NULL;
  }
  handle->as.function.function = function;
  handle->as.function.bytes = bytes;
  return handle_wrap(env, handle);
}

/* functionUsage(function): { registers, sharedBytes, constantBytes, localBytes, maxThreads, maxDynamicShared,
   ptxVersion, binaryVersion, parameterBytes }. */
napi_value shim_functionUsage(napi_env env, napi_callback_info info) {
  static const struct {
    const char *name;
    int attribute;
  } rows[] = {
      {"registers", FUNCTION_REGISTERS},          {"sharedBytes", FUNCTION_SHARED_BYTES},
      {"constantBytes", FUNCTION_CONSTANT_BYTES}, {"localBytes", FUNCTION_LOCAL_BYTES},
      {"maxThreads", FUNCTION_MAX_THREADS},       {"maxDynamicShared", FUNCTION_MAX_DYNAMIC_SHARED},
      {"ptxVersion", FUNCTION_PTX_VERSION},       {"binaryVersion", FUNCTION_BINARY_VERSION},
  };
  enum { ROWS = sizeof rows / sizeof *rows };
  Call call = call_begin(env, info, "functionUsage");
  Handle *function = take_handle(&call, 0, KIND_FUNCTION);
  if (call.failed) return NULL;
  Failure failure = {0};
  int values[ROWS] = {0};
  if (context_enter(function, &failure)) {
    for (size_t i = 0; i < ROWS && failure.call == NULL; i++)
      if (!DRIVER(&failure, driver_of(function), cuFuncGetAttribute, &values[i],
                  (CUfunction_attribute)rows[i].attribute, function->as.function.function))
        failure_add(&failure, " (%s)", rows[i].name);
    context_leave(function);
  }
  if (failure.call != NULL) return call_throw(&call, &failure);
  napi_value result;
  if (napi_create_object(env, &result) != napi_ok) return NULL;
  for (size_t i = 0; i < ROWS; i++)
    if (!set_number(env, result, rows[i].name, values[i])) return NULL;
  return set_number(env, result, "parameterBytes", (double)function->as.function.bytes) ? result : NULL;
}

/* occupancy(function, threads, sharedBytes): number; blocks of one multiprocessor at a time. */
napi_value shim_occupancy(napi_env env, napi_callback_info info) {
  Call call = call_begin(env, info, "occupancy");
  Handle *function = take_handle(&call, 0, KIND_FUNCTION);
  int threads = (int)take_whole(&call, 1, "threads", 1, INT32_MAX);
  size_t shared = (size_t)take_whole(&call, 2, "shared bytes", 0, INT32_MAX);
  if (call.failed) return NULL;
  Failure failure = {0};
  int blocks = 0;
  if (context_enter(function, &failure)) {
    DRIVER(&failure, driver_of(function), cuOccupancyMaxActiveBlocksPerMultiprocessor, &blocks,
           function->as.function.function, threads, shared);
    context_leave(function);
  }
  return failure.call == NULL ? number_value(env, blocks) : call_throw(&call, &failure);
}

/* setSharedLimit(function, bytes); what a launch may ask for beyond 48 KiB. */
napi_value shim_setSharedLimit(napi_env env, napi_callback_info info) {
  Call call = call_begin(env, info, "setSharedLimit");
  Handle *function = take_handle(&call, 0, KIND_FUNCTION);
  int bytes = (int)take_whole(&call, 1, "bytes", 0, INT32_MAX);
  if (call.failed) return NULL;
  Failure failure = {0};
  if (context_enter(function, &failure)) {
    if (!DRIVER(&failure, driver_of(function), cuFuncSetAttribute, function->as.function.function,
                (CUfunction_attribute)FUNCTION_MAX_DYNAMIC_SHARED, bytes))
      failure_add(&failure, " (%d bytes of shared memory)", bytes);
    context_leave(function);
  }
  return failure.call == NULL ? NULL : call_throw(&call, &failure);
}
