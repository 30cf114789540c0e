/* Works: a call that takes long runs on libuv's pool and becomes a promise. */
#include <stdlib.h>
#include "shim.h"

static void execute(napi_env env, void *data) {
  (void)env;
  Work *work = data;
  work->run(work);
}

static void let_go(napi_env env, Work *work) {
  for (size_t i = 0; i < MAX_HOLDS; i++)
    if (work->holds[i] != NULL) handle_drop(work->holds[i], NULL);
  if (work->array != NULL) napi_delete_reference(env, work->array);
  if (work->async != NULL) napi_delete_async_work(env, work->async);
  if (work->drop != NULL) work->drop(work);
  free(work->failure.log);
  free(work);
}

static void complete(napi_env env, napi_status status, void *data) {
  Work *work = data;
  napi_handle_scope scope;
  bool scoped = napi_open_handle_scope(env, &scope) == napi_ok;
  if (status != napi_ok) failure_set(&work->failure, "work", "CANCELLED", "this environment of Node is closing");
  napi_value value = work->failure.call == NULL ? work->finish(env, work) : NULL;
  if (value != NULL) {
    napi_resolve_deferred(env, work->deferred, value);
  } else {
    failure_set(&work->failure, "work", "OUT_OF_MEMORY", "JavaScript could not make the result");
    napi_value error = failure_value(env, &work->failure);
    if (error != NULL) napi_reject_deferred(env, work->deferred, error);
  }
  let_go(env, work);
  if (scoped) napi_close_handle_scope(env, scope);
}

void *work_new(Call *call, size_t bytes, void (*run)(Work *)) {
  if (call->failed) return NULL;
  Work *work = calloc(1, bytes);
  if (work == NULL) call_fail(call, "OUT_OF_MEMORY", "no memory");
  else work->run = run;
  return work;
}

napi_value work_nothing(napi_env env, Work *work) {
  (void)work;
  napi_value value;
  return napi_get_undefined(env, &value) == napi_ok ? value : NULL;
}

void work_hold(Work *work, Handle *handle) {
  handle_hold(handle);
  for (size_t i = 0; i < MAX_HOLDS; i++)
    if (work->holds[i] == NULL) {
      work->holds[i] = handle;
      return;
    }
}

napi_value work_start(Call *call, Work *work, napi_value array) {
  napi_env env = call->env;
  napi_value name, promise = NULL;
  if ((array == NULL || napi_create_reference(env, array, 1, &work->array) == napi_ok) &&
      napi_create_string_utf8(env, call->name, NAPI_AUTO_LENGTH, &name) == napi_ok &&
      napi_create_async_work(env, NULL, name, execute, complete, work, &work->async) == napi_ok &&
      napi_create_promise(env, &work->deferred, &promise) == napi_ok &&
      napi_queue_async_work(env, work->async) == napi_ok)
    return promise;
  call_fail(call, "OUT_OF_MEMORY", "the work could not be started");
  let_go(env, work);
  return NULL;
}
