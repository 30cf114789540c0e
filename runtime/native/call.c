/* Arguments: read once, checked, and thrown about in one place. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "shim.h"

Call call_begin(napi_env env, napi_callback_info info, const char *name) {
  Call call = {.env = env, .name = name};
  size_t count = MAX_ARGUMENTS;
  /* Arguments that are not given become undefined. */
  if (napi_get_cb_info(env, info, &count, call.arguments, NULL, NULL) != napi_ok)
    call_fail(&call, "INVALID_ARGUMENT", "the arguments cannot be read");
  return call;
}

void call_fail(Call *call, const char *code, const char *format, ...) {
  if (call->failed) return;
  call->failed = true;
  bool pending = false;
  /* What JavaScript threw (a getter, say) goes on its way. */
  if (napi_is_exception_pending(call->env, &pending) == napi_ok && pending) return;
  char sentence[512];
  va_list list;
  va_start(list, format);
  vsnprintf(sentence, sizeof sentence, format, list);
  va_end(list);
  Failure failure = {0};
  failure_set(&failure, call->name, code, "%s", sentence);
  failure_throw(call->env, &failure);
}

napi_value call_throw(Call *call, Failure *failure) {
  call->failed = true;
  failure_throw(call->env, failure);
  return NULL;
}

Handle *handle_at(Call *call, napi_value value, const char *what, Kind kind) {
  if (call->failed) return NULL;
  Handle *handle = handle_in(call->env, value, kind);
  if (handle == NULL) {
    const char *got = "something else";
    for (Kind other = 0; other < KINDS; other++)
      if (handle_in(call->env, value, other) != NULL) got = kind_name(other);
    call_fail(call, "INVALID_HANDLE", "%s: expected a handle of kind %s, got %s", what, kind_name(kind), got);
    return NULL;
  }
  if (handle->disposed) {
    call_fail(call, "DISPOSED", "the %s was disposed%s", kind_name(kind),
              handle->parent == NULL ? "" : ", or what it lay in");
    return NULL;
  }
  return handle;
}

napi_value handle_made(Call *call, Handle *handle, Failure *failure) {
  if (failure->call != NULL) {
    handle_abandon(handle);
    return call_throw(call, failure);
  }
  napi_value object = handle_wrap(call->env, handle);
  if (object == NULL) call_fail(call, "OUT_OF_MEMORY", "JavaScript could not make the handle");
  return object;
}

Handle *take_handle(Call *call, size_t index, Kind kind) {
  return call->failed ? NULL : handle_at(call, call->arguments[index], kind_name(kind), kind);
}

uint64_t take_whole(Call *call, size_t index, const char *what, uint64_t least, uint64_t most) {
  if (call->failed) return 0;
  double value = -1;
  napi_valuetype type;
  if (napi_typeof(call->env, call->arguments[index], &type) != napi_ok || type != napi_number ||
      napi_get_value_double(call->env, call->arguments[index], &value) != napi_ok)
    call_fail(call, "INVALID_ARGUMENT", "%s: expected a number", what);
  /* Not a number fails the first comparison. */
  else if (!(value >= 0 && value <= (double)MOST_BYTES) || value != (double)(uint64_t)value ||
           (uint64_t)value < least || (uint64_t)value > most)
    call_fail(call, "INVALID_ARGUMENT", "%s: expected a whole number from %llu to %llu, got %.17g", what,
              (unsigned long long)least, (unsigned long long)most, value);
  return call->failed ? 0 : (uint64_t)value;
}

static char *text_of(Call *call, napi_value value, const char *what) {
  napi_valuetype type;
  size_t length = 0;
  if (napi_typeof(call->env, value, &type) != napi_ok || type != napi_string ||
      napi_get_value_string_utf8(call->env, value, NULL, 0, &length) != napi_ok) {
    call_fail(call, "INVALID_ARGUMENT", "%s: expected a string", what);
    return NULL;
  }
  char *text = malloc(length + 1);
  if (text == NULL) {
    call_fail(call, "OUT_OF_MEMORY", "%s: no memory for %zu bytes", what, length);
  } else if (napi_get_value_string_utf8(call->env, value, text, length + 1, &length) != napi_ok) {
    call_fail(call, "INVALID_ARGUMENT", "%s: cannot be read", what);
  } else if (strlen(text) != length) {
    call_fail(call, "INVALID_ARGUMENT", "%s: has a zero character inside", what);
  }
  if (!call->failed) return text;
  free(text);
  return NULL;
}

char *take_text(Call *call, size_t index, const char *what) {
  return call->failed ? NULL : text_of(call, call->arguments[index], what);
}

bool is_absent(Call *call, size_t index) {
  napi_valuetype type;
  return napi_typeof(call->env, call->arguments[index], &type) == napi_ok &&
         (type == napi_null || type == napi_undefined);
}

size_t take_list(Call *call, size_t index, const char *what, napi_value *items, size_t most) {
  if (call->failed) return 0;
  bool is_array = false;
  uint32_t count = 0;
  napi_value list = call->arguments[index];
  if (napi_is_array(call->env, list, &is_array) != napi_ok || !is_array ||
      napi_get_array_length(call->env, list, &count) != napi_ok) {
    call_fail(call, "INVALID_ARGUMENT", "%s: expected an array", what);
    return 0;
  }
  if (count > most) {
    call_fail(call, "INVALID_ARGUMENT", "%s: %u of them, at most %zu are taken", what, count, most);
    return 0;
  }
  for (uint32_t i = 0; i < count; i++)
    if (napi_get_element(call->env, list, i, &items[i]) != napi_ok) {
      call_fail(call, "INVALID_ARGUMENT", "%s: element %u cannot be read", what, i);
      return 0;
    }
  return count;
}

#define MOST_TEXTS 256
char **take_texts(Call *call, size_t index, const char *what, size_t *count) {
  napi_value items[MOST_TEXTS];
  *count = 0;
  size_t length = take_list(call, index, what, items, MOST_TEXTS);
  if (call->failed) return NULL;
  char **texts = calloc(length + 1, sizeof *texts);
  if (texts == NULL) call_fail(call, "OUT_OF_MEMORY", "%s: no memory", what);
  for (size_t i = 0; i < length && !call->failed; i++) texts[i] = text_of(call, items[i], what);
  if (!call->failed) {
    *count = length;
    return texts;
  }
  if (texts != NULL) free_texts(texts, length);
  return NULL;
}

void free_texts(char **texts, size_t count) {
  if (texts == NULL) return;
  for (size_t i = 0; i < count; i++) free(texts[i]);
  free(texts);
}

Bytes take_array(Call *call, size_t index, const char *what, napi_typedarray_type type) {
  static const char *const names[] = {"Int8Array",    "Uint8Array",    "Uint8ClampedArray", "Int16Array",
                                      "Uint16Array",  "Int32Array",    "Uint32Array",       "Float32Array",
                                      "Float64Array", "BigInt64Array", "BigUint64Array"};
  static const size_t sizes[] = {1, 1, 1, 2, 2, 4, 4, 4, 8, 8, 8};
  Bytes bytes = {NULL, 0};
  if (call->failed) return bytes;
  bool is_array = false;
  napi_typedarray_type actual;
  size_t length = 0;
  void *data = NULL;
  if (napi_is_typedarray(call->env, call->arguments[index], &is_array) != napi_ok || !is_array ||
      napi_get_typedarray_info(call->env, call->arguments[index], &actual, &length, &data, NULL, NULL) != napi_ok ||
      actual != type) {
    call_fail(call, "INVALID_ARGUMENT", "%s: expected a %s", what, names[type]);
    return bytes;
  }
  bytes.data = data;
  bytes.length = data == NULL ? 0 : length * sizes[type];
  return bytes;
}

void same_context(Call *call, Handle *a, Handle *b) {
  if (call->failed || context_of(a) == context_of(b)) return;
  call_fail(call, "INVALID_HANDLE", "the %s and the %s lie in different contexts", kind_name(a->kind),
            kind_name(b->kind));
}

void within(Call *call, const char *what, uint64_t offset, uint64_t bytes, uint64_t of) {
  if (call->failed || (offset <= of && bytes <= of - offset)) return;
  call_fail(call, "INVALID_ARGUMENT", "%s: bytes %llu to %llu do not lie in its %llu", what, (unsigned long long)offset,
            (unsigned long long)(offset + bytes), (unsigned long long)of);
}

napi_value number_value(napi_env env, double value) {
  napi_value number;
  return napi_create_double(env, value, &number) == napi_ok ? number : NULL;
}

bool set_number(napi_env env, napi_value object, const char *name, double value) {
  napi_value number = number_value(env, value);
  return number != NULL && napi_set_named_property(env, object, name, number) == napi_ok;
}

napi_value bytes_value(napi_env env, const void *data, size_t bytes) {
  napi_value buffer, array;
  void *to = NULL;
  if (napi_create_arraybuffer(env, bytes, &to, &buffer) != napi_ok) return NULL;
  if (bytes > 0) memcpy(to, data, bytes);
  return napi_create_typedarray(env, napi_uint8_array, bytes, buffer, 0, &array) == napi_ok ? array : NULL;
}
