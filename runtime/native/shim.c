/* The module: its functions, and the end of every handle. */
#include "shim.h"

/* dispose(handle): CudaError | undefined; what the driver said while it released. Harmless when repeated. */
napi_value shim_dispose(napi_env env, napi_callback_info info) {
  Call call = call_begin(env, info, "dispose");
  if (call.failed) return NULL;
  for (Kind kind = 0; kind < KINDS; kind++) {
    Handle *handle = handle_in(env, call.arguments[0], kind);
    if (handle == NULL) continue;
    Failure failure = {0};
    handle_dispose(env, handle, &failure);
    return failure.call == NULL ? NULL : failure_value(env, &failure);
  }
  call_fail(&call, "INVALID_HANDLE", "expected a handle");
  return NULL;
}

NAPI_MODULE_INIT(/* napi_env env, napi_value exports */) {
  static const struct {
    const char *name;
    napi_callback function;
  } functions[] = {
#define X(name) {#name, shim_##name},
      SHIM_FUNCTIONS(X)
#undef X
  };
  for (size_t i = 0; i < sizeof functions / sizeof *functions; i++) {
    napi_value function;
    if (napi_create_function(env, functions[i].name, NAPI_AUTO_LENGTH, functions[i].function, NULL, &function) !=
            napi_ok ||
        napi_set_named_property(env, exports, functions[i].name, function) != napi_ok)
      return NULL;
  }
  return exports;
}
