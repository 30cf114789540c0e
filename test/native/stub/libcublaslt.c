/*
 * A stub of libcublasLt beside the stub of the driver: it logs its calls, fails when ordered to (stub.h), minds what the library
 * minds, and computes products where the stream has come to them. Its declarations are its own: rows and columns as the
 * library's documentation has them, in f32 with one rounding at the end.
 */
#include <dlfcn.h>
#include <math.h>
#include "stub.h"

enum { OK = 0, NOT_INITIALIZED = 1, INVALID_VALUE = 7, NOT_SUPPORTED = 15 };
typedef struct Handle {
  int unused;
} Handle;
typedef struct Desc {
  int transA;
  unsigned epilogue;
  const float *bias;
  int biasType;
} Desc;
typedef struct Layout {
  int type;
  uint64_t rows, cols;
  int64_t ld;
} Layout;
typedef struct Preference {
  size_t workspace;
} Preference;
typedef struct Heuristic {
  uint64_t algo[8];
  size_t workspace;
  int state;
  float waves;
  int reserved[4];
} Heuristic;

#define CALL(name)                                                                                                     \
  int ordered = stub_called(#name);                                                                                    \
  if (ordered != 0) return ordered;
/* Of the driver, which is open already, under this name. */
#define DRIVERS(result, name, ...)                                                                                     \
  void *name##_of = dlopen("libcuda-heddle-stub.so", RTLD_NOW | RTLD_NOLOAD);                                          \
  if (name##_of == NULL) return NOT_INITIALIZED;                                                                       \
  result (*name)(__VA_ARGS__) = (result (*)(__VA_ARGS__))dlsym(name##_of, #name);                                      \
  dlclose(name##_of);

size_t cublasLtGetVersion(void) { return 130102; }
const char *cublasLtGetStatusName(int status) {
  return status == INVALID_VALUE   ? "CUBLAS_STATUS_INVALID_VALUE"
         : status == 13            ? "CUBLAS_STATUS_EXECUTION_FAILED"
         : status == NOT_SUPPORTED ? "CUBLAS_STATUS_NOT_SUPPORTED"
         : status == 3             ? "CUBLAS_STATUS_ALLOC_FAILED"
                                   : "CUBLAS_STATUS_NOT_INITIALIZED";
}
const char *cublasLtGetStatusString(int status) {
  return status == 13 ? "the program failed to execute" : "the stub was told to say so";
}
int cublasLtCreate(Handle **handle) {
  CALL(cublasLtCreate)
  *handle = stub_add("cublaslt", calloc(1, sizeof **handle), sizeof **handle);
  return OK;
}
int cublasLtDestroy(Handle *handle) {
  CALL(cublasLtDestroy)
  if (!stub_has("cublaslt", handle, true)) return INVALID_VALUE;
  free(handle);
  return OK;
}
int cublasLtMatmulDescCreate(Desc **desc, int compute, int scale) {
  CALL(cublasLtMatmulDescCreate)
  if (compute != 68 || scale != 0) return INVALID_VALUE;
  Desc *made = calloc(1, sizeof *made);
  *made = (Desc){.epilogue = 1, .biasType = -1};
  *desc = stub_add("desc", made, sizeof *made);
  return OK;
}
int cublasLtMatmulDescDestroy(Desc *desc) {
  CALL(cublasLtMatmulDescDestroy)
  if (!stub_has("desc", desc, true)) return INVALID_VALUE;
  free(desc);
  return OK;
}
int cublasLtMatmulDescSetAttribute(Desc *desc, int attribute, const void *value, size_t bytes) {
  CALL(cublasLtMatmulDescSetAttribute)
  if (!stub_has("desc", desc, false) || bytes != (attribute == 8 ? 8 : 4)) return INVALID_VALUE;
  switch (attribute) {
  case 3: memcpy(&desc->transA, value, 4); return OK;
  case 7: memcpy(&desc->epilogue, value, 4); return OK;
  case 8: memcpy(&desc->bias, value, 8); return OK;
  case 26: memcpy(&desc->biasType, value, 4); return OK;
  }
  return INVALID_VALUE;
}
int cublasLtMatrixLayoutCreate(Layout **layout, int type, uint64_t rows, uint64_t cols, int64_t ld) {
  CALL(cublasLtMatrixLayoutCreate)
  if ((type != 0 && type != 2 && type != 14) || ld < (int64_t)rows) return INVALID_VALUE;
  Layout *made = malloc(sizeof *made);
  *made = (Layout){type, rows, cols, ld};
  *layout = stub_add("layout", made, sizeof *made);
  return OK;
}
int cublasLtMatrixLayoutDestroy(Layout *layout) {
  CALL(cublasLtMatrixLayoutDestroy)
  if (!stub_has("layout", layout, true)) return INVALID_VALUE;
  free(layout);
  return OK;
}
int cublasLtMatmulPreferenceCreate(Preference **preference) {
  CALL(cublasLtMatmulPreferenceCreate)
  *preference = stub_add("preference", calloc(1, sizeof **preference), sizeof **preference);
  return OK;
}
int cublasLtMatmulPreferenceDestroy(Preference *preference) {
  CALL(cublasLtMatmulPreferenceDestroy)
  if (!stub_has("preference", preference, true)) return INVALID_VALUE;
  free(preference);
  return OK;
}
int cublasLtMatmulPreferenceSetAttribute(Preference *preference, int attribute, const void *value, size_t bytes) {
  CALL(cublasLtMatmulPreferenceSetAttribute)
  if (attribute != 1 || bytes != sizeof(size_t)) return INVALID_VALUE;
  memcpy(&preference->workspace, value, bytes);
  return OK;
}

static size_t size_of(int type) { return type == 0 ? 4 : 2; }
static bool fits(const Desc *desc, const Layout *a, const Layout *b, const Layout *c, const Layout *d) {
  bool bias = (desc->epilogue & 4) != 0;
  return desc->transA == 1 && (desc->epilogue == 1 || (desc->epilogue & ~6u) == 0) && a->rows == b->rows &&
         a->cols == d->rows && b->cols == d->cols && a->type == b->type && c->type == d->type &&
         (d->type == 0 || d->type == a->type) && c->rows == d->rows && c->cols == d->cols &&
         (!bias || desc->biasType == d->type || (desc->biasType == -1 && d->type == 0));
}
/* Any product takes some workspace of what it may, so that tests see it used. */
enum { WORKSPACE = 4096 };
int cublasLtMatmulAlgoGetHeuristic(Handle *handle, const Desc *desc, const Layout *a, const Layout *b, const Layout *c,
                                   const Layout *d, const Preference *preference, int requested, Heuristic *results,
                                   int *returned) {
  CALL(cublasLtMatmulAlgoGetHeuristic)
  *returned = 0;
  if (!stub_has("cublaslt", handle, false) || requested < 1) return INVALID_VALUE;
  if (!fits(desc, a, b, c, d)) return NOT_SUPPORTED;
  /* One shape may be refused by its number of outputs, as a library has no algorithm for some. */
  if (stub_order("refuse", "outs") == (int)d->rows || stub_order("refuse", "rows") == (int)d->cols) return NOT_SUPPORTED;
  memset(results, 0, sizeof *results);
  results->algo[0] = 0x5eed;
  results->workspace = preference->workspace < WORKSPACE ? 0 : WORKSPACE;
  return *returned = 1, OK;
}

typedef struct Job {
  Layout a, d;
  uint64_t depth;
  const void *A, *B, *C;
  void *D, *workspace;
  const float *bias;
  float alpha, beta;
  bool relu;
} Job;

static float number(const void *at, int type, uint64_t index) {
  if (type == 0) return ((const float *)at)[index];
  uint16_t bits = ((const uint16_t *)at)[index];
  uint32_t wide = (uint32_t)bits << 16;
  float value;
  if (type == 14) return memcpy(&value, &wide, 4), value;
  int exponent = bits >> 10 & 31, fraction = bits & 1023;
  value = exponent == 0    ? ldexpf((float)fraction, -24)
          : exponent == 31 ? (fraction == 0 ? INFINITY : NAN)
                           : ldexpf((float)(1024 + fraction), exponent - 25);
  return (bits & 0x8000) != 0 ? -value : value;
}
static void put(void *at, int type, uint64_t index, float value) {
  if (type == 0) {
    ((float *)at)[index] = value;
    return;
  }
  /* The nearest of the two that are next to it, to even. */
  uint16_t bits;
  if (type == 14) {
    uint32_t wide;
    memcpy(&wide, &value, 4);
    bits = (uint16_t)((wide + 0x7fff + (wide >> 16 & 1)) >> 16);
  } else {
    int exponent;
    float size = fabsf(value);
    frexpf(size, &exponent);
    float unit = ldexpf(1, exponent - 11 < -24 ? -24 : exponent - 11), rounded = rintf(size / unit) * unit;
    frexpf(rounded, &exponent);
    bits = rounded == 0       ? 0
           : rounded >= 65520 ? 0x7c00
           : exponent < -13   ? (uint16_t)ldexpf(rounded, 24)
                              : (uint16_t)(((exponent + 14) << 10) + (int)ldexpf(rounded, 11 - exponent) - 1024);
    if (value < 0) bits |= 0x8000;
  }
  ((uint16_t *)at)[index] = bits;
}
static void perform(void *data) {
  const Job *job = data;
  /* What a product may use it does. */
  if (job->workspace != NULL) memset(job->workspace, 0xff, WORKSPACE);
  for (uint64_t col = 0; col < job->d.cols; col++)
    for (uint64_t row = 0; row < job->d.rows; row++) {
      float sum = 0;
      for (uint64_t k = 0; k < job->depth; k++)
        sum += number(job->A, job->a.type, row * (uint64_t)job->a.ld + k) *
               number(job->B, job->a.type, col * job->depth + k);
      uint64_t at = col * (uint64_t)job->d.ld + row;
      sum = job->alpha * sum + (job->beta == 0 ? 0 : job->beta * number(job->C, job->d.type, at));
      if (job->bias != NULL) sum += job->bias[row];
      put(job->D, job->d.type, at, job->relu && sum < 0 ? 0 : sum);
    }
}

int cublasLtMatmul(Handle *handle, const Desc *desc, const float *alpha, const void *A, const Layout *a, const void *B,
                   const Layout *b, const float *beta, const void *C, const Layout *c, void *D, const Layout *d,
                   const uint64_t *algo, void *workspace, size_t workspaceBytes, void *stream) {
  CALL(cublasLtMatmul)
  DRIVERS(int, stub_enqueue, void *, void (*)(void *), const void *, size_t)
  DRIVERS(bool, stub_memory, const void *, size_t)
  if (!stub_has("cublaslt", handle, false) || !stub_has("desc", (void *)(uintptr_t)desc, false)) return INVALID_VALUE;
  if (!fits(desc, a, b, c, d) || algo[0] != 0x5eed || (workspace != NULL && workspaceBytes < WORKSPACE))
    return INVALID_VALUE;
  bool bias = (desc->epilogue & 4) != 0;
  const void *all[] = {A, B, C, D, workspace, desc->bias};
  for (int i = 0; i < 6; i++)
    if ((uintptr_t)all[i] % 16 != 0) return INVALID_VALUE;
  if (!stub_memory(A, a->rows * a->cols * size_of(a->type)) || !stub_memory(B, b->rows * b->cols * size_of(b->type)) ||
      !stub_memory(D, d->rows * d->cols * size_of(d->type)) ||
      (*beta != 0 && !stub_memory(C, d->rows * d->cols * size_of(d->type))) ||
      (bias && !stub_memory(desc->bias, 4 * d->rows)) || (workspace != NULL && !stub_memory(workspace, workspaceBytes)))
    return INVALID_VALUE;
  stub_log("multiply %zu x %zu x %zu, type %d to %d, epilogue %u, beta %g", (size_t)d->cols, (size_t)d->rows,
           (size_t)a->rows, a->type, d->type, desc->epilogue, (double)*beta);
  const Job job = {*a, *d, a->rows, A, B, C, D, workspace, bias ? desc->bias : NULL, *alpha, *beta,
                   (desc->epilogue & 2) != 0};
  return stub_enqueue(stream, perform, &job, sizeof job);
}
