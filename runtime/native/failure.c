/* Failures: noted on any thread, turned into a CudaError on JavaScript's. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "shim.h"

bool failure_set(Failure *failure, const char *call, const char *code, const char *format, ...) {
  if (failure == NULL || failure->call != NULL) return false;
  failure->call = call;
  failure->code = code;
  va_list list;
  va_start(list, format);
  vsnprintf(failure->sentence, sizeof failure->sentence, format, list);
  va_end(list);
  return false;
}

bool failure_add(Failure *failure, const char *format, ...) {
  size_t length = strlen(failure->sentence);
  va_list list;
  va_start(list, format);
  vsnprintf(failure->sentence + length, sizeof failure->sentence - length, format, list);
  va_end(list);
  return false;
}

bool driver_ok(Failure *failure, const Driver *driver, const char *call, CUresult status) {
  if (status == STATUS_SUCCESS) return true;
  const char *name = NULL, *sentence = NULL;
  /* A driver does not know the codes of a later one. */
  if (driver->cuGetErrorName(status, &name) != STATUS_SUCCESS || name == NULL) name = "CUDA_ERROR_UNKNOWN";
  if (driver->cuGetErrorString(status, &sentence) != STATUS_SUCCESS || sentence == NULL)
    return failure_set(failure, call, name, "status %d, which this driver has no name for", (int)status);
  return failure_set(failure, call, name, "%s", sentence);
}

/* NVRTC has names for its statuses but no sentences. */
static const char *nvrtc_sentence(const char *name) {
  static const char *const sentences[][2] = {
      {"NVRTC_ERROR_OUT_OF_MEMORY", "out of memory"},
      {"NVRTC_ERROR_PROGRAM_CREATION_FAILURE", "the program could not be made"},
      {"NVRTC_ERROR_INVALID_INPUT", "an input is not valid"},
      {"NVRTC_ERROR_INVALID_PROGRAM", "the program is not valid"},
      {"NVRTC_ERROR_INVALID_OPTION", "an option is not valid"},
      {"NVRTC_ERROR_COMPILATION", "the source does not compile"},
      {"NVRTC_ERROR_BUILTIN_OPERATION_FAILURE", "libnvrtc-builtins was not found or does not fit libnvrtc"},
  };
  for (size_t i = 0; i < sizeof sentences / sizeof *sentences; i++)
    if (strcmp(name, sentences[i][0]) == 0) return sentences[i][1];
  return "NVRTC failed";
}

bool nvrtc_ok(Failure *failure, const Nvrtc *nvrtc, const char *call, nvrtcResult status) {
  if (status == NVRTC_STATUS_SUCCESS) return true;
  const char *name = nvrtc->nvrtcGetErrorString(status);
  if (name == NULL) name = "NVRTC_ERROR_INTERNAL_ERROR";
  return failure_set(failure, call, name, "%s (status %d)", nvrtc_sentence(name), (int)status);
}

bool cublaslt_ok(Failure *failure, const Cublaslt *lt, const char *call, LtStatus status) {
  if (status == LT_SUCCESS) return true;
  const char *name = lt->cublasLtGetStatusName(status), *sentence = lt->cublasLtGetStatusString(status);
  return failure_set(failure, call, name == NULL ? "CUBLAS_STATUS_UNKNOWN" : name, "%s (status %d)",
                     sentence == NULL ? "cuBLASLt failed" : sentence, (int)status);
}

static bool set_text(napi_env env, napi_value object, const char *name, const char *text) {
  napi_value value;
  return napi_create_string_utf8(env, text, NAPI_AUTO_LENGTH, &value) == napi_ok &&
         napi_set_named_property(env, object, name, value) == napi_ok;
}

napi_value failure_value(napi_env env, Failure *failure) {
  /* Ours say all in their sentence; the driver's need their code. */
  bool ours = strncmp(failure->code, "CUDA_", 5) != 0 && strncmp(failure->code, "NVRTC_", 6) != 0 &&
              strncmp(failure->code, "CUBLAS_", 7) != 0;
  char text[sizeof failure->sentence + 256];
  snprintf(text, sizeof text, "%s: %s%s%s", failure->call, ours ? "" : failure->code, ours ? "" : ": ",
           failure->sentence);
  napi_value message, code, error = NULL;
  bool made = napi_create_string_utf8(env, text, NAPI_AUTO_LENGTH, &message) == napi_ok &&
              napi_create_string_utf8(env, failure->code, NAPI_AUTO_LENGTH, &code) == napi_ok &&
              napi_create_error(env, code, message, &error) == napi_ok && set_text(env, error, "name", "CudaError") &&
              set_text(env, error, "call", failure->call) &&
              (failure->log == NULL || set_text(env, error, "log", failure->log));
  free(failure->log);
  memset(failure, 0, sizeof *failure);
  return made ? error : NULL;
}

void failure_throw(napi_env env, Failure *failure) {
  napi_value error = failure_value(env, failure);
  if (error != NULL) napi_throw(env, error);
}
