/* Streams and events, and waiting for them. */
#include "shim.h"

/* createStream(context): stream; it does not wait for the default stream, nor that for it. */
napi_value shim_createStream(napi_env env, napi_callback_info info) {
  Call call = call_begin(env, info, "createStream");
  Handle *context = take_handle(&call, 0, KIND_CONTEXT);
  if (call.failed) return NULL;
  Failure failure = {0};
  Handle *handle = handle_new(KIND_STREAM, context);
  if (handle == NULL) {
    call_fail(&call, "OUT_OF_MEMORY", "no memory");
    return NULL;
  }
  if (context_enter(context, &failure)) {
    DRIVER(&failure, driver_of(context), cuStreamCreate, &handle->as.stream.stream, STREAM_NON_BLOCKING);
    context_leave(context);
  }
  return handle_made(&call, handle, &failure);
}

void stream_release(Handle *handle, Failure *failure) {
  if (handle->as.stream.capturing) capture_abort(handle, failure);
  if (handle->as.stream.stream != NULL)
    DRIVER(failure, driver_of(handle), cuStreamDestroy_v2, handle->as.stream.stream);
}

/* createEvent(context): event; it keeps time. */
napi_value shim_createEvent(napi_env env, napi_callback_info info) {
  Call call = call_begin(env, info, "createEvent");
  Handle *context = take_handle(&call, 0, KIND_CONTEXT);
  if (call.failed) return NULL;
  Failure failure = {0};
  Handle *handle = handle_new(KIND_EVENT, context);
  if (handle == NULL) {
    call_fail(&call, "OUT_OF_MEMORY", "no memory");
    return NULL;
  }
  if (context_enter(context, &failure)) {
    DRIVER(&failure, driver_of(context), cuEventCreate, &handle->as.event, 0);
    context_leave(context);
  }
  return handle_made(&call, handle, &failure);
}

void event_release(Handle *handle, Failure *failure) {
  if (handle->as.event != NULL) DRIVER(failure, driver_of(handle), cuEventDestroy_v2, handle->as.event);
}

/* recordEvent(event, stream); it happens when all that the stream was given before has been done. */
napi_value shim_recordEvent(napi_env env, napi_callback_info info) {
  Call call = call_begin(env, info, "recordEvent");
  Handle *event = take_handle(&call, 0, KIND_EVENT);
  Handle *stream = take_handle(&call, 1, KIND_STREAM);
  same_context(&call, event, stream);
  if (call.failed) return NULL;
  Failure failure = {0};
  if (context_enter(stream, &failure)) {
    DRIVER(&failure, driver_of(stream), cuEventRecord, event->as.event, stream->as.stream.stream);
    context_leave(stream);
  }
  return failure.call == NULL ? NULL : call_throw(&call, &failure);
}

/* waitEvent(stream, event); what the stream is given from now on waits for the event, on the device. */
napi_value shim_waitEvent(napi_env env, napi_callback_info info) {
  Call call = call_begin(env, info, "waitEvent");
  Handle *stream = take_handle(&call, 0, KIND_STREAM);
  Handle *event = take_handle(&call, 1, KIND_EVENT);
  same_context(&call, event, stream);
  if (call.failed) return NULL;
  Failure failure = {0};
  if (context_enter(stream, &failure)) {
    DRIVER(&failure, driver_of(stream), cuStreamWaitEvent, stream->as.stream.stream, event->as.event, 0);
    context_leave(stream);
  }
  return failure.call == NULL ? NULL : call_throw(&call, &failure);
}

/* elapsed(start, end): number; milliseconds between two events that have happened. */
napi_value shim_elapsed(napi_env env, napi_callback_info info) {
  Call call = call_begin(env, info, "elapsed");
  Handle *start = take_handle(&call, 0, KIND_EVENT);
  Handle *end = take_handle(&call, 1, KIND_EVENT);
  same_context(&call, start, end);
  if (call.failed) return NULL;
  Failure failure = {0};
  float milliseconds = 0;
  if (context_enter(start, &failure)) {
    DRIVER(&failure, driver_of(start), cuEventElapsedTime, &milliseconds, start->as.event, end->as.event);
    context_leave(start);
  }
  return failure.call == NULL ? number_value(env, milliseconds) : call_throw(&call, &failure);
}

typedef struct Waiting {
  Work work;
  Handle *on;
} Waiting;

static void wait_run(Work *work) {
  Handle *on = ((Waiting *)work)->on;
  const Driver *driver = driver_of(on);
  if (!context_enter(on, &work->failure)) return;
  if (on->kind == KIND_STREAM) DRIVER(&work->failure, driver, cuStreamSynchronize, on->as.stream.stream);
  else if (on->kind == KIND_EVENT) DRIVER(&work->failure, driver, cuEventSynchronize, on->as.event);
  else DRIVER(&work->failure, driver, cuCtxSynchronize);
  context_leave(on);
}

static napi_value wait_start(Call *call, Kind kind) {
  Handle *on = take_handle(call, 0, kind);
  if (call->failed) return NULL;
  if (kind == KIND_STREAM ? on->as.stream.capturing : kind == KIND_CONTEXT && on->as.context.captures > 0)
    call_fail(call, "INVALID_ARGUMENT", "cannot wait for a %s while it is captured", kind_name(kind));
  Waiting *waiting = work_new(call, sizeof *waiting, wait_run);
  if (waiting == NULL) return NULL;
  waiting->work.finish = work_nothing;
  waiting->on = on;
  work_hold(&waiting->work, on);
  return work_start(call, &waiting->work, NULL);
}

/* synchronizeStream(stream): Promise<void>; all that it was given has been done. What a kernel did wrong shows here. */
napi_value shim_synchronizeStream(napi_env env, napi_callback_info info) {
  Call call = call_begin(env, info, "synchronizeStream");
  return wait_start(&call, KIND_STREAM);
}

/* synchronizeEvent(event): Promise<void>. */
napi_value shim_synchronizeEvent(napi_env env, napi_callback_info info) {
  Call call = call_begin(env, info, "synchronizeEvent");
  return wait_start(&call, KIND_EVENT);
}

/* synchronizeContext(context): Promise<void>; all streams of the device. */
napi_value shim_synchronizeContext(napi_env env, napi_callback_info info) {
  Call call = call_begin(env, info, "synchronizeContext");
  return wait_start(&call, KIND_CONTEXT);
}
