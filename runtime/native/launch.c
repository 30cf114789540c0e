/*
 * Launching a kernel. Its parameters come as one packed buffer, each at its natural alignment; pointers are written
 * into it here, from handles, so that no address crosses into JavaScript and a pointer is always to memory that is
 * alive.
 */
#include <string.h>
#include "shim.h"

/* What every device takes; pointers are eight bytes of it each. */
enum { MOST_PARAMETER_BYTES = 4096, MOST_POINTERS = MOST_PARAMETER_BYTES / 8, DIMENSIONS = 7 };

/*
 * launch(function, stream, shape: Uint32Array, parameters: Uint8Array, memories: memory[], slots: Float64Array).
 * shape: grid x, y, z, block x, y, z, bytes of dynamic shared memory. slots: for each memory where its pointer stands
 * in the parameters, and how many bytes into the memory it points.
 */
napi_value shim_launch(napi_env env, napi_callback_info info) {
  Call call = call_begin(env, info, "launch");
  napi_value values[MOST_POINTERS];
  Handle *memories[MOST_POINTERS];
  uint32_t shape[DIMENSIONS];
  _Alignas(16) unsigned char parameters[MOST_PARAMETER_BYTES];
  size_t count = take_list(&call, 4, "memories", values, MOST_POINTERS);
  Handle *function = take_handle(&call, 0, KIND_FUNCTION);
  Handle *stream = take_handle(&call, 1, KIND_STREAM);
  Bytes dimensions = take_array(&call, 2, "shape", napi_uint32_array);
  Bytes packed = take_array(&call, 3, "parameters", napi_uint8_array);
  Bytes slots = take_array(&call, 5, "slots", napi_float64_array);
  same_context(&call, function, stream);
  if (call.failed) return NULL;

  if (dimensions.length != sizeof shape) call_fail(&call, "INVALID_ARGUMENT", "shape: expected %d numbers", DIMENSIONS);
  else memcpy(shape, dimensions.data, sizeof shape);
  for (int i = 0; i < DIMENSIONS - 1 && !call.failed; i++)
    if (shape[i] == 0) call_fail(&call, "INVALID_ARGUMENT", "shape: %s %c is 0", i < 3 ? "grid" : "block", 'x' + i % 3);
  int64_t expected = function->as.function.bytes;
  if (packed.length > sizeof parameters)
    call_fail(&call, "INVALID_ARGUMENT", "parameters: %zu bytes, at most %d are taken", packed.length,
              MOST_PARAMETER_BYTES);
  else if (expected >= 0 && packed.length != (size_t)expected)
    call_fail(&call, "INVALID_ARGUMENT", "parameters: %zu bytes, the kernel takes %lld", packed.length,
              (long long)expected);
  else if (packed.length > 0) memcpy(parameters, packed.data, packed.length);
  if (slots.length != count * 2 * sizeof(double))
    call_fail(&call, "INVALID_ARGUMENT", "slots: expected two numbers for each of %zu memories", count);

  for (size_t i = 0; i < count && !call.failed; i++) {
    double slot[2];
    memcpy(slot, slots.data + i * sizeof slot, sizeof slot);
    Handle *memory = memories[i] = handle_at(&call, values[i], "memories", KIND_MEMORY);
    if (memory == NULL) break;
    same_context(&call, memory, stream);
    /* Not a number fails the comparisons. */
    if (!(slot[0] >= 0 && slot[0] + 8 <= (double)packed.length) || slot[0] != (double)(8 * (uint64_t)(slot[0] / 8)))
      call_fail(&call, "INVALID_ARGUMENT", "slots: pointer %zu cannot stand at byte %.17g of the parameters", i,
                slot[0]);
    else if (!(slot[1] >= 0 && slot[1] <= (double)memory->as.memory.bytes) || slot[1] != (double)(uint64_t)slot[1])
      call_fail(&call, "INVALID_ARGUMENT", "slots: byte %.17g does not lie in memory %zu of %llu bytes", slot[1], i,
                (unsigned long long)memory->as.memory.bytes);
    if (call.failed) break;
    CUdeviceptr address = memory->as.memory.address + (uint64_t)slot[1];
    memcpy(parameters + (size_t)slot[0], &address, sizeof address);
  }
  if (call.failed) return NULL;

  Failure failure = {0};
  size_t bytes = packed.length;
  void *extra[] = {LAUNCH_PARAM_BUFFER_POINTER, parameters, LAUNCH_PARAM_BUFFER_SIZE, &bytes, LAUNCH_PARAM_END};
  Handle *module = function->parent;
  if (context_enter(stream, &failure)) {
    if (DRIVER(&failure, driver_of(stream), cuLaunchKernel, function->as.function.function, shape[0], shape[1],
               shape[2], shape[3], shape[4], shape[5], shape[6], stream->as.stream.stream, NULL,
               bytes == 0 ? NULL : extra)) {
      module->as.module.launched = true;
      stream_keep(stream, module, call.name, &failure);
      for (size_t i = 0; i < count; i++) stream_keep(stream, memories[i], call.name, &failure);
    } else {
      failure_add(&failure, " (grid %u × %u × %u, block %u × %u × %u, %u bytes of shared memory)", shape[0], shape[1],
                  shape[2], shape[3], shape[4], shape[5], shape[6]);
    }
    context_leave(stream);
  }
  return failure.call == NULL ? NULL : call_throw(&call, &failure);
}
