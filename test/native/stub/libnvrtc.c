/*
 * A stub of libnvrtc: a source that holds `#error` does not compile; the code of any other is its options. MAJOR is the
 * version. With EXECUTE the machine's C++ compiler makes a shared library of the source, against the host of
 * test/cuda/host, and that is the cubin.
 */
#include "stub.h"

enum { OK = 0, OUT_OF_MEMORY = 1, INVALID_INPUT = 3, INVALID_PROGRAM = 4, INVALID_OPTION = 5, COMPILATION = 6 };

#define CALL(name)                                                                                                     \
  int ordered = stub_called(#name);                                                                                    \
  if (ordered != 0) return ordered;

typedef struct Program {
  char name[64], log[4096], ptx[4096];
  bool bad, cubin;
  char *source;
  unsigned char *image;
  size_t imageBytes;
} Program;
#ifdef EXECUTE
#include "compile.c"
#endif

const char *nvrtcGetErrorString(int status) {
  static const char *const names[] = {
      "NVRTC_SUCCESS",
      "NVRTC_ERROR_OUT_OF_MEMORY",
      "NVRTC_ERROR_PROGRAM_CREATION_FAILURE",
      "NVRTC_ERROR_INVALID_INPUT",
      "NVRTC_ERROR_INVALID_PROGRAM",
      "NVRTC_ERROR_INVALID_OPTION",
      "NVRTC_ERROR_COMPILATION",
      "NVRTC_ERROR_BUILTIN_OPERATION_FAILURE",
  };
  return status >= 0 && status < (int)(sizeof names / sizeof *names) ? names[status] : "NVRTC_ERROR unknown";
}
int nvrtcVersion(int *major, int *minor) {
  CALL(nvrtcVersion)
  *major = MAJOR;
  *minor = 4;
  return OK;
}
int nvrtcGetNumSupportedArchs(int *count) {
  CALL(nvrtcGetNumSupportedArchs)
  *count = 2;
  return OK;
}
int nvrtcGetSupportedArchs(int *archs) {
  CALL(nvrtcGetSupportedArchs)
  archs[0] = 80;
  archs[1] = 90;
  return OK;
}
int nvrtcCreateProgram(Program **program, const char *source, const char *name, int headers, const char *const *texts,
                       const char *const *names) {
  CALL(nvrtcCreateProgram)
  if (headers != 0 || texts != NULL || names != NULL) return INVALID_INPUT;
  *program = stub_add("program", calloc(1, sizeof **program), sizeof **program);
  (*program)->bad = strstr(source, "#error") != NULL;
  snprintf((*program)->name, sizeof(*program)->name, "%s", name);
  (*program)->source = strdup(source);
  return OK;
}
int nvrtcDestroyProgram(Program **program) {
  CALL(nvrtcDestroyProgram)
  if (!stub_has("program", *program, true)) return INVALID_PROGRAM;
  free((*program)->source);
  free((*program)->image);
  free(*program);
  *program = NULL;
  return OK;
}
int nvrtcCompileProgram(Program *program, int count, const char *const *options) {
  CALL(nvrtcCompileProgram)
  int length = snprintf(program->ptx, sizeof program->ptx, ".version 8.0\n");
  for (int i = 0; i < count; i++) {
    length += snprintf(program->ptx + length, sizeof program->ptx - (size_t)length, "// %s\n", options[i]);
    program->cubin |= strstr(options[i], "sm_") != NULL;
    if (strcmp(options[i], "--nonsense") == 0) return INVALID_OPTION;
  }
#ifdef EXECUTE
  if (!program->bad) return compile_for_host(program) ? OK : COMPILATION;
#endif
  if (!program->bad) return OK;
  snprintf(program->log, sizeof program->log, "%s(1): warning: w\n%s(2): error: #error directive: no\n", program->name,
           program->name);
  return COMPILATION;
}
int nvrtcGetProgramLogSize(Program *program, size_t *bytes) {
  CALL(nvrtcGetProgramLogSize)
  *bytes = strlen(program->log) + 1;
  return OK;
}
int nvrtcGetProgramLog(Program *program, char *log) {
  CALL(nvrtcGetProgramLog)
  strcpy(log, program->log);
  return OK;
}
int nvrtcGetPTXSize(Program *program, size_t *bytes) {
  CALL(nvrtcGetPTXSize)
  *bytes = strlen(program->ptx) + 1;
  return OK;
}
int nvrtcGetPTX(Program *program, char *ptx) {
  CALL(nvrtcGetPTX)
  strcpy(ptx, program->ptx);
  return OK;
}
/* An ELF header that names no parts. */
int nvrtcGetCUBINSize(Program *program, size_t *bytes) {
  CALL(nvrtcGetCUBINSize)
  if (program->image != NULL) {
    *bytes = program->cubin ? program->imageBytes : 0;
    return OK;
  }
  *bytes = program->cubin ? 64 : 0;
  return OK;
}
int nvrtcGetCUBIN(Program *program, char *cubin) {
  CALL(nvrtcGetCUBIN)
  if (program->image != NULL) {
    memcpy(cubin, program->image, program->imageBytes);
    return OK;
  }
  memcpy(cubin,
         "\x7f"
         "ELF\2\1\1",
         7);
  return OK;
}
