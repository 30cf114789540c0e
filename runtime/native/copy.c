/* Copies and fills. Those of pinned memory are enqueued and done by the device; those of any array wait on a thread of
 * the pool. */
#include "shim.h"

/* fill(stream, memory, offset, count, value, width: 1 | 4); `count` values of `width` bytes. */
napi_value shim_fill(napi_env env, napi_callback_info info) {
  Call call = call_begin(env, info, "fill");
  Handle *stream = take_handle(&call, 0, KIND_STREAM);
  Handle *memory = take_handle(&call, 1, KIND_MEMORY);
  uint64_t offset = take_whole(&call, 2, "offset", 0, MOST_BYTES);
  uint64_t count = take_whole(&call, 3, "count", 0, MOST_BYTES / 4);
  uint64_t value = take_whole(&call, 4, "value", 0, UINT32_MAX);
  uint64_t width = take_whole(&call, 5, "width", 1, 4);
  same_context(&call, stream, memory);
  if (call.failed) return NULL;
  if ((width != 1 && width != 4) || offset % width != 0 || (width == 1 && value > 255))
    call_fail(&call, "INVALID_ARGUMENT", "value %llu of %llu bytes at %llu: expected 1 or 4 bytes, aligned",
              (unsigned long long)value, (unsigned long long)width, (unsigned long long)offset);
  else within(&call, "device memory", offset, count * width, memory->as.memory.bytes);
  if (call.failed || count == 0) return NULL;
  Failure failure = {0};
  const Driver *driver = driver_of(stream);
  CUdeviceptr at = memory->as.memory.address + offset;
  if (context_enter(stream, &failure)) {
    if (width == 1)
      DRIVER(&failure, driver, cuMemsetD8Async, at, (unsigned char)value, (size_t)count, stream->as.stream.stream);
    else DRIVER(&failure, driver, cuMemsetD32Async, at, (unsigned int)value, (size_t)count, stream->as.stream.stream);
    stream_keep(stream, memory, call.name, &failure);
    context_leave(stream);
  }
  return failure.call == NULL ? NULL : call_throw(&call, &failure);
}

/* Between memory and pinned memory, either way. */
static napi_value copy_pinned(Call *call, bool up) {
  Handle *stream = take_handle(call, 0, KIND_STREAM);
  Handle *memory = take_handle(call, 1, KIND_MEMORY);
  uint64_t offset = take_whole(call, 2, "offset", 0, MOST_BYTES);
  Handle *pinned = take_handle(call, 3, KIND_PINNED);
  uint64_t hostOffset = take_whole(call, 4, "offset of pinned memory", 0, MOST_BYTES);
  uint64_t bytes = take_whole(call, 5, "bytes", 0, MOST_BYTES);
  same_context(call, stream, memory);
  same_context(call, stream, pinned);
  if (call->failed) return NULL;
  within(call, "device memory", offset, bytes, memory->as.memory.bytes);
  within(call, "pinned memory", hostOffset, bytes, pinned->as.pinned.bytes);
  if (call->failed || bytes == 0) return NULL;
  Failure failure = {0};
  const Driver *driver = driver_of(stream);
  CUdeviceptr device = memory->as.memory.address + offset;
  unsigned char *host = (unsigned char *)pinned->as.pinned.address + hostOffset;
  if (context_enter(stream, &failure)) {
    if (up) DRIVER(&failure, driver, cuMemcpyHtoDAsync_v2, device, host, (size_t)bytes, stream->as.stream.stream);
    else DRIVER(&failure, driver, cuMemcpyDtoHAsync_v2, host, device, (size_t)bytes, stream->as.stream.stream);
    pinned->as.pinned.copied = true;
    stream_keep(stream, memory, call->name, &failure);
    stream_keep(stream, pinned, call->name, &failure);
    context_leave(stream);
  }
  return failure.call == NULL ? NULL : call_throw(call, &failure);
}

/* upload(stream, memory, offset, pinned, offset, bytes). */
napi_value shim_upload(napi_env env, napi_callback_info info) {
  Call call = call_begin(env, info, "upload");
  return copy_pinned(&call, true);
}

/* download(stream, memory, offset, pinned, offset, bytes); the buffer holds it once the stream has been waited for. */
napi_value shim_download(napi_env env, napi_callback_info info) {
  Call call = call_begin(env, info, "download");
  return copy_pinned(&call, false);
}

/* copy(stream, to, offset, from, offset, bytes), on the device. */
napi_value shim_copy(napi_env env, napi_callback_info info) {
  Call call = call_begin(env, info, "copy");
  Handle *stream = take_handle(&call, 0, KIND_STREAM);
  Handle *to = take_handle(&call, 1, KIND_MEMORY);
  uint64_t toOffset = take_whole(&call, 2, "offset to", 0, MOST_BYTES);
  Handle *from = take_handle(&call, 3, KIND_MEMORY);
  uint64_t fromOffset = take_whole(&call, 4, "offset from", 0, MOST_BYTES);
  uint64_t bytes = take_whole(&call, 5, "bytes", 0, MOST_BYTES);
  same_context(&call, stream, to);
  same_context(&call, stream, from);
  if (call.failed) return NULL;
  within(&call, "device memory written", toOffset, bytes, to->as.memory.bytes);
  within(&call, "device memory read", fromOffset, bytes, from->as.memory.bytes);
  uint64_t apart = toOffset > fromOffset ? toOffset - fromOffset : fromOffset - toOffset;
  if (to == from && apart < bytes) call_fail(&call, "INVALID_ARGUMENT", "a copy onto itself overlaps");
  if (call.failed || bytes == 0) return NULL;
  Failure failure = {0};
  if (context_enter(stream, &failure)) {
    DRIVER(&failure, driver_of(stream), cuMemcpyDtoDAsync_v2, to->as.memory.address + toOffset,
           from->as.memory.address + fromOffset, (size_t)bytes, stream->as.stream.stream);
    stream_keep(stream, to, call.name, &failure);
    stream_keep(stream, from, call.name, &failure);
    context_leave(stream);
  }
  return failure.call == NULL ? NULL : call_throw(&call, &failure);
}

typedef struct Transfer {
  Work work;
  Handle *stream;
  CUdeviceptr device;
  Bytes host;
  bool up;
} Transfer;

static void transfer_run(Work *work) {
  Transfer *t = (Transfer *)work;
  Failure *failure = &work->failure;
  const Driver *driver = driver_of(t->stream);
  CUstream stream = t->stream->as.stream.stream;
  if (t->host.length == 0 || !context_enter(t->stream, failure)) return;
  bool ok = t->up ? DRIVER(failure, driver, cuMemcpyHtoDAsync_v2, t->device, t->host.data, t->host.length, stream)
                  : DRIVER(failure, driver, cuMemcpyDtoHAsync_v2, t->host.data, t->device, t->host.length, stream);
  /* The array is the caller's again when the promise is kept, so the copy must have ended, not only been taken up. */
  if (ok) DRIVER(failure, driver, cuStreamSynchronize, stream);
  context_leave(t->stream);
}

static napi_value transfer_start(Call *call, bool up) {
  Handle *stream = take_handle(call, 0, KIND_STREAM);
  Handle *memory = take_handle(call, 1, KIND_MEMORY);
  uint64_t offset = take_whole(call, 2, "offset", 0, MOST_BYTES);
  Bytes host = take_array(call, 3, "array", napi_uint8_array);
  same_context(call, stream, memory);
  if (call->failed) return NULL;
  within(call, "device memory", offset, host.length, memory->as.memory.bytes);
  if (stream->as.stream.capturing)
    call_fail(call, "INVALID_ARGUMENT", "the stream is being captured: copy pinned memory instead");
  Transfer *t = work_new(call, sizeof *t, transfer_run);
  if (t == NULL) return NULL;
  t->work.finish = work_nothing;
  t->stream = stream;
  t->device = memory->as.memory.address + offset;
  t->host = host;
  t->up = up;
  work_hold(&t->work, stream);
  work_hold(&t->work, memory);
  /* An array over pinned memory keeps its ArrayBuffer, but disposing would take the memory from under that. */
  Handle *pinned = pinned_at(context_of(stream), host.data);
  if (pinned != NULL) work_hold(&t->work, pinned);
  return work_start(call, &t->work, call->arguments[3]);
}

/* write(stream, memory, offset, from: Uint8Array): Promise<void>. */
napi_value shim_write(napi_env env, napi_callback_info info) {
  Call call = call_begin(env, info, "write");
  return transfer_start(&call, true);
}

/* read(stream, memory, offset, into: Uint8Array): Promise<void>. */
napi_value shim_read(napi_env env, napi_callback_info info) {
  Call call = call_begin(env, info, "read");
  return transfer_start(&call, false);
}
