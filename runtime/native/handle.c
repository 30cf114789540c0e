/* Handles: a tree (driver, contexts, what lies in them) whose records outlive the driver's objects, so that a late use
 * can be told. */
#include <stdlib.h>
#include "shim.h"

/* Random numbers: what makes an object one of ours, and of which kind. */
#define TAG(kind)                                                                                                      \
  { 0x9d3f6b1e5c7a4802ULL, 0xb8e147d20f93a650ULL + (kind) }
static const struct {
  const char *name;
  napi_type_tag tag;
  void (*release)(Handle *handle, Failure *failure);
} kinds[KINDS] = {
    [KIND_DRIVER] = {"driver", TAG(KIND_DRIVER), NULL}, /* a library is never closed: threads of it may run */
    [KIND_NVRTC] = {"NVRTC", TAG(KIND_NVRTC), NULL},
    [KIND_CUBLASLT] = {"cuBLASLt", TAG(KIND_CUBLASLT), NULL},
    [KIND_CONTEXT] = {"context", TAG(KIND_CONTEXT), context_release},
    [KIND_MODULE] = {"module", TAG(KIND_MODULE), module_release},
    [KIND_FUNCTION] = {"function", TAG(KIND_FUNCTION), NULL}, /* goes with its module */
    [KIND_STREAM] = {"stream", TAG(KIND_STREAM), stream_release},
    [KIND_EVENT] = {"event", TAG(KIND_EVENT), event_release},
    [KIND_MEMORY] = {"device memory", TAG(KIND_MEMORY), memory_release},
    [KIND_PINNED] = {"pinned memory", TAG(KIND_PINNED), pinned_release},
    [KIND_GRAPH] = {"graph", TAG(KIND_GRAPH), graph_release},
    [KIND_PRODUCTS] = {"products", TAG(KIND_PRODUCTS), products_release},
    [KIND_PRODUCT] = {"product", TAG(KIND_PRODUCT), product_release},
};

const char *kind_name(Kind kind) { return kinds[kind].name; }

Handle *handle_new(Kind kind, Handle *parent) {
  Handle *handle = calloc(1, sizeof *handle);
  if (handle == NULL) return NULL;
  handle->kind = kind;
  handle->refs = 1;
  handle->parent = parent;
  if (parent == NULL) return handle;
  parent->uses++;
  parent->refs++;
  handle->older = parent->children;
  if (handle->older != NULL) handle->older->newer = handle;
  parent->children = handle;
  return handle;
}

static void settle(Handle *handle, Failure *failure);

static void release(Handle *handle, Failure *failure) {
  handle->released = true;
  if (kinds[handle->kind].release != NULL) {
    /* A context's own release takes it away, so it is not current then. Where it cannot be entered, the driver refuses
       each call, but what the handle keeps must be let go all the same. */
    bool inside = handle->kind != KIND_CONTEXT && context_enter(handle, failure);
    kinds[handle->kind].release(handle, failure);
    if (inside) context_leave(handle);
  }
  Handle *parent = handle->parent;
  if (parent == NULL) return;
  if (handle->newer != NULL) handle->newer->older = handle->older;
  else parent->children = handle->older;
  if (handle->older != NULL) handle->older->newer = handle->newer;
  handle->older = handle->newer = NULL;
  parent->uses--;
  settle(parent, failure);
}

/* Releasing memory during a capture would break it. The stream that is captured is what ends it. */
static bool postponed(Handle *handle) {
  if (handle->kind == KIND_STREAM || handle->kind == KIND_CONTEXT) return false;
  const Handle *context = context_of(handle);
  return context != NULL && context->as.context.captures > 0;
}

static bool due(Handle *handle) {
  return !handle->released && (handle->disposed || handle->unreachable) && handle->uses == 0 && !postponed(handle);
}

/* Releases and frees what may be. `handle` may be gone afterwards. */
static void settle(Handle *handle, Failure *failure) {
  if (due(handle)) release(handle, failure);
  if (handle->refs > 0 || !handle->released) return;
  Handle *parent = handle->parent;
  free(handle);
  if (parent == NULL) return;
  parent->refs--;
  settle(parent, failure);
}

void handle_hold(Handle *handle) {
  handle->uses++;
  handle->refs++;
}

void handle_drop(Handle *handle, Failure *failure) {
  handle->uses--;
  handle->refs--;
  settle(handle, failure);
}

void handle_dispose(napi_env env, Handle *handle, Failure *failure) {
  if (handle->disposed) return;
  handle->disposed = true;
  handle->refs++;
  if (handle->kind == KIND_PINNED) pinned_detach(env, handle);
  for (;;) {
    Handle *child = handle->children;
    while (child != NULL && child->disposed) child = child->older;
    if (child == NULL) break;
    handle_dispose(env, child, failure);
  }
  handle->refs--;
  settle(handle, failure);
}

void handle_sweep(Handle *context, Failure *failure) {
  if (context->as.context.captures > 0) return;
  context->refs++;
  for (;;) {
    Handle *child = context->children;
    while (child != NULL && !due(child)) child = child->older;
    if (child == NULL) break;
    settle(child, failure);
  }
  context->refs--;
  settle(context, failure);
}

void handle_abandon(Handle *handle) {
  handle->unreachable = true;
  handle->refs--;
  settle(handle, NULL);
}

static void finalize(napi_env env, void *data, void *hint) {
  (void)env;
  (void)hint;
  handle_abandon(data);
}

napi_value handle_wrap(napi_env env, Handle *handle) {
  napi_value object;
  if (napi_create_object(env, &object) != napi_ok ||
      napi_type_tag_object(env, object, &kinds[handle->kind].tag) != napi_ok ||
      napi_wrap(env, object, handle, finalize, NULL, NULL) != napi_ok) {
    handle_abandon(handle);
    return NULL;
  }
  return object;
}

napi_value handle_publish(napi_env env, Handle *handle, const char *call, Failure *failure) {
  if (!handle->parent->disposed) return handle_wrap(env, handle);
  failure_set(failure, call, "DISPOSED", "the %s was disposed meanwhile", kind_name(handle->parent->kind));
  handle_abandon(handle);
  return NULL;
}

Handle *handle_in(napi_env env, napi_value value, Kind kind) {
  napi_valuetype type;
  bool ours = false;
  void *data = NULL;
  if (napi_typeof(env, value, &type) != napi_ok || type != napi_object) return NULL;
  if (napi_check_object_type_tag(env, value, &kinds[kind].tag, &ours) != napi_ok || !ours) return NULL;
  return napi_unwrap(env, value, &data) == napi_ok ? data : NULL;
}

bool holds_add(Holds *holds, Handle *handle, const char *call, Failure *failure) {
  if (holds->count == holds->room) {
    size_t room = holds->room == 0 ? 64 : 2 * holds->room;
    Handle **items = realloc(holds->items, room * sizeof *items);
    if (items == NULL) return failure_set(failure, call, "OUT_OF_MEMORY", "no memory for what a graph keeps");
    holds->items = items;
    holds->room = room;
  }
  holds->items[holds->count++] = handle;
  handle_hold(handle);
  return true;
}

void holds_drop(Holds *holds, Failure *failure) {
  Holds all = *holds;
  *holds = (Holds){NULL, 0, 0};
  for (size_t i = 0; i < all.count; i++) handle_drop(all.items[i], failure);
  free(all.items);
}

Handle *context_of(Handle *handle) {
  while (handle != NULL && handle->kind != KIND_CONTEXT) handle = handle->parent;
  return handle;
}

const Driver *driver_of(const Handle *handle) {
  while (handle->kind != KIND_DRIVER) handle = handle->parent;
  return &handle->as.driver;
}

bool context_enter(const Handle *handle, Failure *failure) {
  const Handle *context = handle;
  while (context->kind != KIND_CONTEXT) context = context->parent;
  return DRIVER(failure, driver_of(context), cuCtxPushCurrent_v2, context->as.context.context);
}

void context_leave(const Handle *handle) {
  CUcontext ignored;
  driver_of(handle)->cuCtxPopCurrent_v2(&ignored);
}
