/* NVRTC: CUDA C++ to PTX and cubin, on a thread of the pool. */
#include <stdlib.h>
#include <string.h>
#include "shim.h"

typedef struct Compilation {
  Work work;
  const Nvrtc *nvrtc;
  char *name, *source, **options;
  size_t optionCount;
  char *ptx, *cubin, *log;
  size_t ptxBytes, cubinBytes;
} Compilation;

static void compilation_drop(Work *work) {
  Compilation *c = (Compilation *)work;
  free(c->name);
  free(c->source);
  free_texts(c->options, c->optionCount);
  free(c->ptx);
  free(c->cubin);
  free(c->log);
}

typedef nvrtcResult (*SizeOf)(nvrtcProgram, size_t *);
typedef nvrtcResult (*Fetch)(nvrtcProgram, char *);

/* One result of a program; null where it has none or where that failed. There is a zero behind it. */
static char *fetch(Compilation *c, nvrtcProgram program, const char *sizeName, SizeOf size, const char *name, Fetch get,
                   size_t *bytes, Failure *failure) {
  *bytes = 0;
  if (!nvrtc_ok(failure, c->nvrtc, sizeName, size(program, bytes)) || *bytes == 0) return NULL;
  char *text = calloc(1, *bytes + 1);
  if (text == NULL) {
    failure_set(failure, name, "OUT_OF_MEMORY", "no memory for %zu bytes", *bytes);
    return NULL;
  }
  if (nvrtc_ok(failure, c->nvrtc, name, get(program, text))) return text;
  free(text);
  return NULL;
}
#define FETCH(c, program, what, bytes, failure)                                                                        \
  fetch(c, program, "nvrtcGet" #what "Size", (c)->nvrtc->nvrtcGet##what##Size, "nvrtcGet" #what,                       \
        (c)->nvrtc->nvrtcGet##what, bytes, failure)

static void compile_run(Work *work) {
  Compilation *c = (Compilation *)work;
  const Nvrtc *nvrtc = c->nvrtc;
  Failure *failure = &work->failure;
  nvrtcProgram program = NULL;
  size_t logBytes;
  if (!NVRTC(failure, nvrtc, nvrtcCreateProgram, &program, c->source, c->name, 0, NULL, NULL)) return;
  bool ok = NVRTC(failure, nvrtc, nvrtcCompileProgram, program, (int)c->optionCount, (const char *const *)c->options);
  /* A failed compilation is worth its log; that the log failed then is not worth hiding the compilation. */
  c->log = FETCH(c, program, ProgramLog, &logBytes, failure);
  if (ok) c->ptx = FETCH(c, program, PTX, &c->ptxBytes, failure);
  if (ok && failure->call == NULL) c->cubin = FETCH(c, program, CUBIN, &c->cubinBytes, failure);
  NVRTC(failure, nvrtc, nvrtcDestroyProgram, &program);
  if (failure->call != NULL) {
    failure->log = c->log;
    c->log = NULL;
  }
}

static bool set_result(napi_env env, napi_value result, const char *name, const char *data, size_t bytes) {
  if (data == NULL) return true;
  napi_value value = bytes_value(env, data, bytes);
  return value != NULL && napi_set_named_property(env, result, name, value) == napi_ok;
}

static napi_value compile_finish(napi_env env, Work *work) {
  Compilation *c = (Compilation *)work;
  napi_value result, log;
  /* NVRTC counts the zero behind a text. */
  while (c->ptxBytes > 0 && c->ptx[c->ptxBytes - 1] == 0) c->ptxBytes--;
  return napi_create_object(env, &result) == napi_ok && set_result(env, result, "ptx", c->ptx, c->ptxBytes) &&
                 set_result(env, result, "cubin", c->cubin, c->cubinBytes) &&
                 napi_create_string_utf8(env, c->log == NULL ? "" : c->log, NAPI_AUTO_LENGTH, &log) == napi_ok &&
                 napi_set_named_property(env, result, "log", log) == napi_ok
             ? result
             : NULL;
}

/* compile(nvrtc, name, source, options: string[]): Promise<{ ptx?, cubin?, log }>; rejects with a `log`. */
napi_value shim_compile(napi_env env, napi_callback_info info) {
  Call call = call_begin(env, info, "compile");
  Compilation *c = work_new(&call, sizeof *c, compile_run);
  if (c == NULL) return NULL;
  c->work.finish = compile_finish;
  c->work.drop = compilation_drop;
  /* The options first: reading an array can run JavaScript, which could dispose. */
  c->options = take_texts(&call, 3, "options", &c->optionCount);
  c->name = take_text(&call, 1, "name");
  c->source = take_text(&call, 2, "source");
  Handle *nvrtc = take_handle(&call, 0, KIND_NVRTC);
  if (call.failed) {
    compilation_drop(&c->work);
    free(c);
    return NULL;
  }
  c->nvrtc = &nvrtc->as.nvrtc;
  work_hold(&c->work, nvrtc);
  return work_start(&call, &c->work, NULL);
}
