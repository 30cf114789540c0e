/*
 * Products of cuBLASLt: out = relu?(x Wᵀ + bias) or x Wᵀ + bias + alpha · residual, all row by row. cuBLASLt counts by columns, so to it
 * the rows of x, W and out are columns: out' = W'ᵀ · x', and its bias, one number for each row of out', is ours.
 */
#include <stdlib.h>
#include "shim.h"

static const Cublaslt *library_of(const Handle *handle) {
  while (handle->kind != KIND_PRODUCTS) handle = handle->parent;
  return &handle->as.products.library->as.cublaslt;
}

/* --- openProducts: one handle of the library in a context */

typedef struct Starting {
  Work work;
  Handle *context, *library;
  LtHandle handle;
} Starting;

static void products_run(Work *work) {
  Starting *s = (Starting *)work;
  if (!context_enter(s->context, &work->failure)) return;
  CUBLASLT(&work->failure, &s->library->as.cublaslt, cublasLtCreate, &s->handle);
  context_leave(s->context);
}

static napi_value products_finish(napi_env env, Work *work) {
  Starting *s = (Starting *)work;
  Handle *handle = handle_new(KIND_PRODUCTS, s->context);
  if (handle == NULL) {
    if (context_enter(s->context, NULL)) {
      s->library->as.cublaslt.cublasLtDestroy(s->handle);
      context_leave(s->context);
    }
    return NULL;
  }
  handle->as.products.handle = s->handle;
  handle->as.products.library = s->library;
  handle_hold(s->library);
  return handle_publish(env, handle, "openProducts", &work->failure);
}

/* openProducts(context, cublaslt): Promise<products>. */
napi_value shim_openProducts(napi_env env, napi_callback_info info) {
  Call call = call_begin(env, info, "openProducts");
  Handle *context = take_handle(&call, 0, KIND_CONTEXT);
  Handle *library = take_handle(&call, 1, KIND_CUBLASLT);
  if (call.failed) return NULL;
  Starting *s = work_new(&call, sizeof *s, products_run);
  if (s == NULL) return NULL;
  s->work.finish = products_finish;
  s->context = context;
  s->library = library;
  work_hold(&s->work, context);
  work_hold(&s->work, library);
  return work_start(&call, &s->work, NULL);
}

void products_release(Handle *handle, Failure *failure) {
  Handle *library = handle->as.products.library;
  CUBLASLT(failure, &library->as.cublaslt, cublasLtDestroy, handle->as.products.handle);
  handle_drop(library, failure);
}

/* --- product: shapes and the algorithm for them */

enum { SHAPE = 9 };

void product_release(Handle *handle, Failure *failure) {
  const Cublaslt *lt = library_of(handle);
  LtLayout layouts[] = {handle->as.product.weight, handle->as.product.x, handle->as.product.out};
  for (int i = 0; i < 3; i++)
    if (layouts[i] != NULL) CUBLASLT(failure, lt, cublasLtMatrixLayoutDestroy, layouts[i]);
  if (handle->as.product.desc != NULL) CUBLASLT(failure, lt, cublasLtMatmulDescDestroy, handle->as.product.desc);
}

static bool describe(Handle *handle, const Cublaslt *lt, uint64_t ins, uint64_t outs, uint64_t rows, int type,
                     int outType, bool relu, Failure *failure) {
  int32_t transposed = LT_OP_T, biasType = LT_R_32F;
  uint32_t epilogue = (relu ? LT_EPILOGUE_RELU : 0) | (handle->as.product.bias ? LT_EPILOGUE_BIAS : 0);
  if (epilogue == 0) epilogue = LT_EPILOGUE_NONE;
  return CUBLASLT(failure, lt, cublasLtMatmulDescCreate, &handle->as.product.desc, LT_COMPUTE_32F, LT_R_32F) &&
         CUBLASLT(failure, lt, cublasLtMatmulDescSetAttribute, handle->as.product.desc, LT_DESC_TRANSA, &transposed,
                  sizeof transposed) &&
         CUBLASLT(failure, lt, cublasLtMatmulDescSetAttribute, handle->as.product.desc, LT_DESC_EPILOGUE, &epilogue,
                  sizeof epilogue) &&
         (!handle->as.product.bias || CUBLASLT(failure, lt, cublasLtMatmulDescSetAttribute, handle->as.product.desc,
                                               LT_DESC_BIAS_TYPE, &biasType, sizeof biasType)) &&
         CUBLASLT(failure, lt, cublasLtMatrixLayoutCreate, &handle->as.product.weight, type, ins, outs,
                  (int64_t)ins) &&
         CUBLASLT(failure, lt, cublasLtMatrixLayoutCreate, &handle->as.product.x, type, ins, rows, (int64_t)ins) &&
         CUBLASLT(failure, lt, cublasLtMatrixLayoutCreate, &handle->as.product.out, outType, outs, rows,
                  (int64_t)outs);
}

/* Whether there is an algorithm; false without a failure where the library has none. */
static bool choose(Handle *handle, const Cublaslt *lt, size_t workspace, Failure *failure) {
  LtPreference preference = NULL;
  LtHeuristic found = {0};
  int count = 0;
  bool ok = CUBLASLT(failure, lt, cublasLtMatmulPreferenceCreate, &preference) &&
            CUBLASLT(failure, lt, cublasLtMatmulPreferenceSetAttribute, preference, LT_PREF_WORKSPACE, &workspace,
                     sizeof workspace);
  if (ok) {
    LtStatus status = lt->cublasLtMatmulAlgoGetHeuristic(
        handle->parent->as.products.handle, handle->as.product.desc, handle->as.product.weight, handle->as.product.x,
        handle->as.product.out, handle->as.product.out, preference, 1, &found, &count);
    ok = status != LT_NOT_SUPPORTED && cublaslt_ok(failure, lt, "cublasLtMatmulAlgoGetHeuristic", status) &&
         count == 1 && found.state == LT_SUCCESS;
  }
  if (preference != NULL && lt->cublasLtMatmulPreferenceDestroy(preference) != LT_SUCCESS) ok = false;
  handle->as.product.algo = found.algo;
  handle->as.product.workspace = found.workspaceSize;
  return ok && found.workspaceSize <= workspace;
}

/*
 * product(products, shape: Float64Array): { handle, workspaceBytes } | undefined, where the library has no algorithm. shape: ins, outs,
 * rows, type of x and W, type of out (0 f32, 1 f16, 2 bf16), 1 for relu, 1 for a bias of f32, alpha (0: no residual), bytes of workspace.
 */
napi_value shim_product(napi_env env, napi_callback_info info) {
  static const int types[] = {LT_R_32F, LT_R_16F, LT_R_16BF};
  Call call = call_begin(env, info, "product");
  Handle *products = take_handle(&call, 0, KIND_PRODUCTS);
  Bytes given = take_array(&call, 1, "shape", napi_float64_array);
  double shape[SHAPE];
  if (call.failed) return NULL;
  if (given.length != sizeof shape) {
    call_fail(&call, "INVALID_ARGUMENT", "shape: expected %d numbers", SHAPE);
    return NULL;
  }
  for (int i = 0; i < SHAPE; i++) {
    shape[i] = ((const double *)(const void *)given.data)[i];
    double most = i < 3 ? 2147483647.0 : i < 5 ? 2 : i < 7 ? 1 : (double)MOST_BYTES;
    /* Not a number fails the comparisons; alpha may be any other. */
    bool whole = shape[i] >= (i < 3 ? 1 : 0) && shape[i] <= most && shape[i] == (double)(uint64_t)shape[i];
    if (i == 7 ? shape[i] - shape[i] != 0 : !whole) {
      call_fail(&call, "INVALID_ARGUMENT", "shape: number %d cannot be %.17g", i, shape[i]);
      return NULL;
    }
  }
  Failure failure = {0};
  Handle *handle = handle_new(KIND_PRODUCT, products);
  if (handle == NULL) {
    call_fail(&call, "OUT_OF_MEMORY", "no memory");
    return NULL;
  }
  uint64_t ins = (uint64_t)shape[0], outs = (uint64_t)shape[1], rows = (uint64_t)shape[2];
  int type = (int)shape[3], outType = (int)shape[4];
  handle->as.product.bias = shape[6] == 1;
  handle->as.product.beta = (float)shape[7];
  handle->as.product.bytes[0] = rows * ins * (type == 0 ? 4 : 2);
  handle->as.product.bytes[1] = outs * ins * (type == 0 ? 4 : 2);
  handle->as.product.bytes[2] = rows * outs * (outType == 0 ? 4 : 2);
  handle->as.product.outs = outs;
  bool chosen = false;
  if (context_enter(products, &failure)) {
    const Cublaslt *lt = library_of(handle);
    chosen = describe(handle, lt, ins, outs, rows, types[type], types[outType], shape[5] == 1, &failure) &&
             choose(handle, lt, (size_t)shape[8], &failure);
    context_leave(products);
  }
  double workspace = (double)handle->as.product.workspace;
  if (failure.call != NULL || !chosen) {
    handle_abandon(handle);
    return failure.call == NULL ? NULL : call_throw(&call, &failure);
  }
  napi_value result, object = handle_made(&call, handle, &failure);
  return object != NULL && napi_create_object(env, &result) == napi_ok &&
                 napi_set_named_property(env, result, "handle", object) == napi_ok &&
                 set_number(env, result, "workspaceBytes", workspace)
             ? result
             : NULL;
}

/*
 * multiply(product, stream, memories: memory[]): x, W, out, then the bias, the residual and the workspace, as far as the product has
 * them. Each is used from its first byte on, where the driver's alignment of 256 bytes is what algorithms are chosen for.
 */
napi_value shim_multiply(napi_env env, napi_callback_info info) {
  Call call = call_begin(env, info, "multiply");
  napi_value values[6];
  Handle *memories[6] = {NULL};
  size_t count = take_list(&call, 2, "memories", values, 6);
  Handle *product = take_handle(&call, 0, KIND_PRODUCT);
  Handle *stream = take_handle(&call, 1, KIND_STREAM);
  same_context(&call, product, stream);
  if (call.failed) return NULL;
  bool bias = product->as.product.bias, residual = product->as.product.beta != 0;
  size_t workspace = product->as.product.workspace, expected = 3u + bias + residual + (workspace > 0);
  if (count != expected)
    call_fail(&call, "INVALID_ARGUMENT", "memories: %zu of them, this product takes %zu", count, expected);
  uint64_t bytes[6] = {product->as.product.bytes[0], product->as.product.bytes[1], product->as.product.bytes[2]};
  size_t next = 3;
  if (bias) bytes[next++] = 4 * product->as.product.outs;
  if (residual) bytes[next++] = product->as.product.bytes[2];
  if (workspace > 0) bytes[next++] = workspace;
  for (size_t i = 0; i < count && !call.failed; i++) {
    memories[i] = handle_at(&call, values[i], "memories", KIND_MEMORY);
    if (memories[i] == NULL) break;
    same_context(&call, memories[i], stream);
    within(&call, "memories", 0, bytes[i], memories[i]->as.memory.bytes);
  }
  if (call.failed) return NULL;

  Failure failure = {0};
  void *at[6] = {NULL};
  for (size_t i = 0; i < count; i++) at[i] = (void *)(uintptr_t)memories[i]->as.memory.address;
  float one = 1, beta = product->as.product.beta;
  const Cublaslt *lt = library_of(product);
  if (context_enter(stream, &failure)) {
    if ((!bias || CUBLASLT(&failure, lt, cublasLtMatmulDescSetAttribute, product->as.product.desc, LT_DESC_BIAS,
                           &at[3], sizeof at[3])) &&
        CUBLASLT(&failure, lt, cublasLtMatmul, product->parent->as.products.handle, product->as.product.desc, &one,
                 at[1], product->as.product.weight, at[0], product->as.product.x, &beta,
                 residual ? at[3 + bias] : at[2], product->as.product.out, at[2], product->as.product.out,
                 &product->as.product.algo, workspace > 0 ? at[count - 1] : NULL, workspace,
                 stream->as.stream.stream)) {
      /* A graph runs the library's kernels, which go with its handle. */
      stream_keep(stream, product->parent, call.name, &failure);
      for (size_t i = 0; i < count; i++) stream_keep(stream, memories[i], call.name, &failure);
    }
    context_leave(stream);
  }
  return failure.call == NULL ? NULL : call_throw(&call, &failure);
}
