/* Devices and their primary contexts, which the CUDA runtime and other libraries of this process share. */
#include <string.h>
#include "shim.h"

/* deviceCount(driver): number. */
napi_value shim_deviceCount(napi_env env, napi_callback_info info) {
  Call call = call_begin(env, info, "deviceCount");
  Handle *driver = take_handle(&call, 0, KIND_DRIVER);
  if (call.failed) return NULL;
  Failure failure = {0};
  int count = 0;
  if (!DRIVER(&failure, &driver->as.driver, cuDeviceGetCount, &count)) return call_throw(&call, &failure);
  return number_value(env, count);
}

/* deviceInfo(driver, ordinal, attributes: Int32Array): { name, bytes, values: number[] }. */
napi_value shim_deviceInfo(napi_env env, napi_callback_info info) {
  Call call = call_begin(env, info, "deviceInfo");
  Handle *handle = take_handle(&call, 0, KIND_DRIVER);
  int ordinal = (int)take_whole(&call, 1, "ordinal", 0, INT32_MAX);
  Bytes attributes = take_array(&call, 2, "attributes", napi_int32_array);
  if (call.failed) return NULL;
  const Driver *driver = &handle->as.driver;
  Failure failure = {0};
  CUdevice device = 0;
  char name[256] = "";
  size_t bytes = 0;
  if (!DRIVER(&failure, driver, cuDeviceGet, &device, ordinal) ||
      !DRIVER(&failure, driver, cuDeviceGetName, name, (int)sizeof name - 1, device) ||
      !DRIVER(&failure, driver, cuDeviceTotalMem_v2, &bytes, device))
    return call_throw(&call, &failure);
  napi_value result, text, values;
  size_t count = attributes.length / sizeof(int32_t);
  if (napi_create_object(env, &result) != napi_ok ||
      napi_create_string_utf8(env, name, NAPI_AUTO_LENGTH, &text) != napi_ok ||
      napi_set_named_property(env, result, "name", text) != napi_ok ||
      !set_number(env, result, "bytes", (double)bytes) || napi_create_array_with_length(env, count, &values) != napi_ok)
    return NULL;
  for (size_t i = 0; i < count; i++) {
    int32_t attribute;
    int value = 0;
    memcpy(&attribute, attributes.data + i * sizeof attribute, sizeof attribute);
    if (!DRIVER(&failure, driver, cuDeviceGetAttribute, &value, (CUdevice_attribute)attribute, device)) {
      failure_add(&failure, " (attribute %d)", (int)attribute);
      return call_throw(&call, &failure);
    }
    napi_value number = number_value(env, value);
    if (number == NULL || napi_set_element(env, values, (uint32_t)i, number) != napi_ok) return NULL;
  }
  return napi_set_named_property(env, result, "values", values) == napi_ok ? result : NULL;
}

typedef struct Retaining {
  Work work;
  Handle *driver;
  int ordinal;
  CUdevice device;
  CUcontext context;
} Retaining;

static void retain_run(Work *work) {
  Retaining *r = (Retaining *)work;
  const Driver *driver = &r->driver->as.driver;
  if (DRIVER(&work->failure, driver, cuDeviceGet, &r->device, r->ordinal))
    DRIVER(&work->failure, driver, cuDevicePrimaryCtxRetain, &r->context, r->device);
}

static napi_value retain_finish(napi_env env, Work *work) {
  Retaining *r = (Retaining *)work;
  Handle *handle = handle_new(KIND_CONTEXT, r->driver);
  if (handle == NULL) {
    r->driver->as.driver.cuDevicePrimaryCtxRelease_v2(r->device);
    return NULL;
  }
  handle->as.context.device = r->device;
  handle->as.context.context = r->context;
  return handle_publish(env, handle, "openContext", &work->failure);
}

/* openContext(driver, ordinal): Promise<context>. */
napi_value shim_openContext(napi_env env, napi_callback_info info) {
  Call call = call_begin(env, info, "openContext");
  Handle *driver = take_handle(&call, 0, KIND_DRIVER);
  int ordinal = (int)take_whole(&call, 1, "ordinal", 0, INT32_MAX);
  Retaining *r = work_new(&call, sizeof *r, retain_run);
  if (r == NULL) return NULL;
  r->work.finish = retain_finish;
  r->driver = driver;
  r->ordinal = ordinal;
  work_hold(&r->work, driver);
  return work_start(&call, &r->work, NULL);
}

void context_release(Handle *handle, Failure *failure) {
  DRIVER(failure, driver_of(handle), cuDevicePrimaryCtxRelease_v2, handle->as.context.device);
}

/* memoryInfo(context): { free, total }, bytes of the device. */
napi_value shim_memoryInfo(napi_env env, napi_callback_info info) {
  Call call = call_begin(env, info, "memoryInfo");
  Handle *context = take_handle(&call, 0, KIND_CONTEXT);
  if (call.failed) return NULL;
  Failure failure = {0};
  size_t available = 0, total = 0;
  if (context_enter(context, &failure)) {
    DRIVER(&failure, driver_of(context), cuMemGetInfo_v2, &available, &total);
    context_leave(context);
  }
  if (failure.call != NULL) return call_throw(&call, &failure);
  napi_value result;
  return napi_create_object(env, &result) == napi_ok && set_number(env, result, "free", (double)available) &&
                 set_number(env, result, "total", (double)total)
             ? result
             : NULL;
}
