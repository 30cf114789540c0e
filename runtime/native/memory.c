/* Memory: on the device, and pinned on the host as an ArrayBuffer that the device copies from and to by itself. */
#include "shim.h"

typedef struct Allocation {
  Work work;
  Handle *context;
  uint64_t bytes;
  bool pinned;
  CUdeviceptr device;
  void *host;
} Allocation;

static void allocate_run(Work *work) {
  Allocation *a = (Allocation *)work;
  const Driver *driver = driver_of(a->context);
  if (!context_enter(a->context, &work->failure)) return;
  bool ok = a->pinned ? DRIVER(&work->failure, driver, cuMemHostAlloc, &a->host, (size_t)a->bytes, HOST_ALLOC_PORTABLE)
                      : DRIVER(&work->failure, driver, cuMemAlloc_v2, &a->device, (size_t)a->bytes);
  if (!ok) failure_add(&work->failure, " (%llu bytes)", (unsigned long long)a->bytes);
  context_leave(a->context);
}

/* The ArrayBuffer over pinned memory is gone, and with it every other that its memory may have been moved to. */
static void buffer_gone(napi_env env, void *data, void *hint) {
  (void)env;
  (void)data;
  handle_drop(hint, NULL);
}

static napi_value pinned_publish(napi_env env, Handle *handle, Failure *failure) {
  napi_value buffer, object, result;
  handle->as.pinned.env = env;
  handle_hold(handle);
  if (napi_create_external_arraybuffer(env, handle->as.pinned.address, (size_t)handle->as.pinned.bytes, buffer_gone,
                                       handle, &buffer) != napi_ok) {
    failure_set(failure, "allocatePinned", "OUT_OF_MEMORY", "this JavaScript engine takes no memory from outside");
    handle_drop(handle, NULL);
    handle_abandon(handle);
    return NULL;
  }
  if (napi_create_reference(env, buffer, 0, &handle->as.pinned.buffer) != napi_ok) handle->as.pinned.buffer = NULL;
  /* Disposed together with its context meanwhile: the buffer must go too. */
  if (context_of(handle)->disposed) pinned_detach(env, handle);
  object = handle_publish(env, handle, "allocatePinned", failure);
  return object != NULL && napi_create_object(env, &result) == napi_ok &&
                 napi_set_named_property(env, result, "handle", object) == napi_ok &&
                 napi_set_named_property(env, result, "buffer", buffer) == napi_ok
             ? result
             : NULL;
}

static napi_value allocate_finish(napi_env env, Work *work) {
  Allocation *a = (Allocation *)work;
  Handle *handle = handle_new(a->pinned ? KIND_PINNED : KIND_MEMORY, a->context);
  if (handle == NULL) {
    if (context_enter(a->context, NULL)) {
      if (a->pinned) driver_of(a->context)->cuMemFreeHost(a->host);
      else driver_of(a->context)->cuMemFree_v2(a->device);
      context_leave(a->context);
    }
    return NULL;
  }
  if (a->pinned) {
    handle->as.pinned.address = a->host;
    handle->as.pinned.bytes = a->bytes;
    return pinned_publish(env, handle, &work->failure);
  }
  handle->as.memory.address = a->device;
  handle->as.memory.bytes = a->bytes;
  return handle_publish(env, handle, "allocate", &work->failure);
}

static napi_value allocate_start(Call *call, bool pinned) {
  Handle *context = take_handle(call, 0, KIND_CONTEXT);
  uint64_t bytes = take_whole(call, 1, "bytes", 1, MOST_BYTES);
  Allocation *a = work_new(call, sizeof *a, allocate_run);
  if (a == NULL) return NULL;
  a->work.finish = allocate_finish;
  a->context = context;
  a->bytes = bytes;
  a->pinned = pinned;
  work_hold(&a->work, context);
  return work_start(call, &a->work, NULL);
}

/* allocate(context, bytes): Promise<memory>; what it holds is undefined. */
napi_value shim_allocate(napi_env env, napi_callback_info info) {
  Call call = call_begin(env, info, "allocate");
  return allocate_start(&call, false);
}

/* allocatePinned(context, bytes): Promise<{ handle, buffer: ArrayBuffer }>; disposing detaches the buffer. */
napi_value shim_allocatePinned(napi_env env, napi_callback_info info) {
  Call call = call_begin(env, info, "allocatePinned");
  return allocate_start(&call, true);
}

/* The driver waits itself until the device does not use memory any more, before it frees it. */
void memory_release(Handle *handle, Failure *failure) {
  DRIVER(failure, driver_of(handle), cuMemFree_v2, handle->as.memory.address);
}

void pinned_detach(napi_env env, Handle *handle) {
  napi_value buffer = NULL;
  napi_handle_scope scope;
  if (handle->as.pinned.buffer == NULL || napi_open_handle_scope(env, &scope) != napi_ok) return;
  /* Its memory is freed when the engine tells that no ArrayBuffer has it any more; here that is soon. */
  if (napi_get_reference_value(env, handle->as.pinned.buffer, &buffer) == napi_ok && buffer != NULL)
    napi_detach_arraybuffer(env, buffer);
  napi_close_handle_scope(env, scope);
}

void pinned_release(Handle *handle, Failure *failure) {
  const Driver *driver = driver_of(handle);
  if (handle->as.pinned.buffer != NULL) napi_delete_reference(handle->as.pinned.env, handle->as.pinned.buffer);
  /* No copy of it may be under way; CUDA does not promise to wait for that here. */
  if (handle->as.pinned.copied) driver->cuCtxSynchronize();
  DRIVER(failure, driver, cuMemFreeHost, handle->as.pinned.address);
}

Handle *pinned_at(Handle *context, const void *address) {
  const unsigned char *at = address;
  for (Handle *other = context->parent->children; other != NULL; other = other->older)
    for (Handle *child = other->children; child != NULL; child = child->older) {
      if (child->kind != KIND_PINNED) continue;
      const unsigned char *start = child->as.pinned.address;
      if (at >= start && at < start + child->as.pinned.bytes) return child;
    }
  return NULL;
}
