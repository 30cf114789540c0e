/* Opening libcuda, libnvrtc and libcublasLt. A library stays open for good: its own threads may still run in it. */
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include "shim.h"

typedef struct Opening {
  Work work;
  char *path, *builtins;
  Handle *handle;
  int version, minor;
  int archs[64], archCount;
} Opening;

static void opening_drop(Work *work) {
  Opening *o = (Opening *)work;
  free(o->path);
  free(o->builtins);
  if (o->handle != NULL) handle_abandon(o->handle);
}

static void *library_open(const char *path, Failure *failure) {
  void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  if (library == NULL) {
    const char *why = dlerror();
    failure_set(failure, "dlopen", "NO_LIBRARY", "%s", why == NULL ? path : why);
  }
  return library;
}

/* Function pointers come as void * from dlsym; POSIX promises that they fit, C does not. */
static bool symbol_find(void *library, const char *path, const char *name, void *into, Failure *failure) {
  void *symbol = dlsym(library, name);
  memcpy(into, &symbol, sizeof symbol);
  return symbol != NULL || failure_set(failure, "dlsym", "NO_SYMBOL",
                                       "%s has no function %s: it is too old, or another library", path, name);
}

static void driver_run(Work *work) {
  Opening *o = (Opening *)work;
  Driver *driver = &o->handle->as.driver;
  Failure *failure = &work->failure;
  driver->library = library_open(o->path, failure);
  if (driver->library == NULL) return;
#define X(symbol, parameters)                                                                                          \
  if (!symbol_find(driver->library, o->path, #symbol, &driver->symbol, failure)) return;
  DRIVER_CALLS(X)
#undef X
#define X(symbol, parameters) symbol_find(driver->library, o->path, #symbol, &driver->symbol, NULL);
  DRIVER_OPTIONAL(X)
#undef X
  /* The version can be asked before the driver is initialised, so that it is known where there is no device. */
  if (!DRIVER(failure, driver, cuDriverGetVersion, &o->version)) return;
  if (!DRIVER(failure, driver, cuInit, 0))
    failure_add(failure, " (driver for CUDA %d.%d, %s)", o->version / 1000, o->version % 1000 / 10, o->path);
}

static napi_value opened(napi_env env, Opening *o) {
  napi_value result, handle = handle_wrap(env, o->handle);
  o->handle = NULL;
  return handle != NULL && napi_create_object(env, &result) == napi_ok &&
                 napi_set_named_property(env, result, "handle", handle) == napi_ok
             ? result
             : NULL;
}

static napi_value driver_finish(napi_env env, Work *work) {
  Opening *o = (Opening *)work;
  napi_value result = opened(env, o);
  return result != NULL && set_number(env, result, "version", o->version) ? result : NULL;
}

static void nvrtc_run(Work *work) {
  Opening *o = (Opening *)work;
  Nvrtc *nvrtc = &o->handle->as.nvrtc;
  Failure *failure = &work->failure;
  /* NVRTC asks the loader for its builtins by their bare name, which finds them outside the loader's path only when
     they are loaded already. */
  if (o->builtins != NULL && library_open(o->builtins, failure) == NULL) return;
  nvrtc->library = library_open(o->path, failure);
  if (nvrtc->library == NULL) return;
  if (!symbol_find(nvrtc->library, o->path, "nvrtcGetErrorString", &nvrtc->nvrtcGetErrorString, failure)) return;
#define X(symbol, parameters)                                                                                          \
  if (!symbol_find(nvrtc->library, o->path, #symbol, &nvrtc->symbol, failure)) return;
  NVRTC_CALLS(X)
#undef X
  if (!NVRTC(failure, nvrtc, nvrtcVersion, &o->version, &o->minor)) return;
  int count = 0, most = (int)(sizeof o->archs / sizeof *o->archs);
  if (!NVRTC(failure, nvrtc, nvrtcGetNumSupportedArchs, &count)) return;
  if (count < 0 || count > most) {
    failure_set(failure, "nvrtcGetNumSupportedArchs", "NVRTC_ERROR_INTERNAL_ERROR", "%d architectures", count);
    return;
  }
  if (count == 0 || NVRTC(failure, nvrtc, nvrtcGetSupportedArchs, o->archs)) o->archCount = count;
}

static napi_value nvrtc_finish(napi_env env, Work *work) {
  Opening *o = (Opening *)work;
  napi_value archs, result = opened(env, o);
  if (result == NULL || !set_number(env, result, "major", o->version) || !set_number(env, result, "minor", o->minor) ||
      napi_create_array_with_length(env, (size_t)o->archCount, &archs) != napi_ok)
    return NULL;
  for (int i = 0; i < o->archCount; i++) {
    napi_value arch = number_value(env, o->archs[i]);
    if (arch == NULL || napi_set_element(env, archs, (uint32_t)i, arch) != napi_ok) return NULL;
  }
  return napi_set_named_property(env, result, "archs", archs) == napi_ok ? result : NULL;
}

static void cublaslt_run(Work *work) {
  Opening *o = (Opening *)work;
  Cublaslt *lt = &o->handle->as.cublaslt;
  Failure *failure = &work->failure;
  lt->library = library_open(o->path, failure);
  if (lt->library == NULL ||
      !symbol_find(lt->library, o->path, "cublasLtGetVersion", &lt->cublasLtGetVersion, failure) ||
      !symbol_find(lt->library, o->path, "cublasLtGetStatusName", &lt->cublasLtGetStatusName, failure) ||
      !symbol_find(lt->library, o->path, "cublasLtGetStatusString", &lt->cublasLtGetStatusString, failure))
    return;
#define X(symbol, parameters)                                                                                          \
  if (!symbol_find(lt->library, o->path, #symbol, &lt->symbol, failure)) return;
  CUBLASLT_CALLS(X)
#undef X
  o->version = (int)lt->cublasLtGetVersion();
}

static napi_value opening_start(Call *call, Kind kind, bool builtins, void (*run)(Work *),
                                napi_value (*finish)(napi_env, Work *)) {
  Opening *o = work_new(call, sizeof *o, run);
  if (o == NULL) return NULL;
  o->work.finish = finish;
  o->work.drop = opening_drop;
  o->path = take_text(call, 0, "path");
  if (builtins && !is_absent(call, 1)) o->builtins = take_text(call, 1, "builtins");
  o->handle = call->failed ? NULL : handle_new(kind, NULL);
  if (o->handle == NULL) {
    call_fail(call, "OUT_OF_MEMORY", "no memory");
    opening_drop(&o->work);
    free(o);
    return NULL;
  }
  return work_start(call, &o->work, NULL);
}

/* openDriver(path: string): Promise<{ handle, version }>; version as CUDA writes it, 12040 for 12.4. */
napi_value shim_openDriver(napi_env env, napi_callback_info info) {
  Call call = call_begin(env, info, "openDriver");
  return opening_start(&call, KIND_DRIVER, false, driver_run, driver_finish);
}

/* openNvrtc(path: string, builtins: string | null): Promise<{ handle, major, minor, archs: number[] }>. */
napi_value shim_openNvrtc(napi_env env, napi_callback_info info) {
  Call call = call_begin(env, info, "openNvrtc");
  return opening_start(&call, KIND_NVRTC, true, nvrtc_run, nvrtc_finish);
}

/* openCublasLt(path: string): Promise<{ handle, version }>; version as the library writes it, 130101 for 13.1.1. */
napi_value shim_openCublasLt(napi_env env, napi_callback_info info) {
  Call call = call_begin(env, info, "openCublasLt");
  return opening_start(&call, KIND_CUBLASLT, false, cublaslt_run, driver_finish);
}
