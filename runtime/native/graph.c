/* Graphs: what a stream was given between two calls, to be launched again at once. A graph keeps the memory and code it
 * uses. */
#include "shim.h"

bool stream_keep(Handle *stream, Handle *used, const char *call, Failure *failure) {
  return !stream->as.stream.capturing || holds_add(&stream->as.stream.held, used, call, failure);
}

/* beginCapture(stream). */
napi_value shim_beginCapture(napi_env env, napi_callback_info info) {
  Call call = call_begin(env, info, "beginCapture");
  Handle *stream = take_handle(&call, 0, KIND_STREAM);
  if (call.failed) return NULL;
  if (stream->as.stream.capturing) call_fail(&call, "INVALID_ARGUMENT", "the stream is being captured already");
  else if (stream->uses > 0) call_fail(&call, "INVALID_ARGUMENT", "a read, write or wait of the stream is under way");
  if (call.failed) return NULL;
  Failure failure = {0};
  if (context_enter(stream, &failure)) {
    /* Only this thread's calls must keep still: works of other threads do not touch the captured stream. */
    if (DRIVER(&failure, driver_of(stream), cuStreamBeginCapture_v2, stream->as.stream.stream,
               (CUstreamCaptureMode)CAPTURE_THREAD_LOCAL)) {
      stream->as.stream.capturing = true;
      context_of(stream)->as.context.captures++;
    }
    context_leave(stream);
  }
  return failure.call == NULL ? NULL : call_throw(&call, &failure);
}

/* Takes the stream out of its capture; the graph is null where that failed. */
static CUgraph capture_end(Handle *stream, Failure *failure) {
  CUgraph graph = NULL;
  DRIVER(failure, driver_of(stream), cuStreamEndCapture, stream->as.stream.stream, &graph);
  stream->as.stream.capturing = false;
  context_of(stream)->as.context.captures--;
  return graph;
}

void capture_abort(Handle *stream, Failure *failure) {
  CUgraph graph = capture_end(stream, failure);
  if (graph != NULL) DRIVER(failure, driver_of(stream), cuGraphDestroy, graph);
  holds_drop(&stream->as.stream.held, failure);
  handle_sweep(context_of(stream), failure);
}

/* Makes the captured graph executable; its plan is not needed then. */
static void instantiate(const Driver *driver, CUgraph graph, CUgraphExec *exec, size_t *nodes, Failure *failure) {
  if (DRIVER(failure, driver, cuGraphGetNodes, graph, NULL, nodes))
    DRIVER(failure, driver, cuGraphInstantiateWithFlags, exec, graph, 0);
  DRIVER(failure, driver, cuGraphDestroy, graph);
}

/* endCapture(stream, discard: 0 | 1): { handle, nodes }, or undefined where it is thrown away. */
napi_value shim_endCapture(napi_env env, napi_callback_info info) {
  Call call = call_begin(env, info, "endCapture");
  Handle *stream = take_handle(&call, 0, KIND_STREAM);
  bool discard = take_whole(&call, 1, "discard", 0, 1) == 1;
  if (call.failed) return NULL;
  if (!stream->as.stream.capturing) {
    call_fail(&call, "INVALID_ARGUMENT", "the stream is not being captured");
    return NULL;
  }
  Failure failure = {0};
  Handle *context = context_of(stream);
  if (!context_enter(stream, &failure)) return call_throw(&call, &failure);
  if (discard) {
    capture_abort(stream, &failure);
    context_leave(stream);
    return failure.call == NULL ? NULL : call_throw(&call, &failure);
  }
  CUgraph graph = capture_end(stream, &failure);
  Handle *handle = handle_new(KIND_GRAPH, context);
  size_t nodes = 0;
  if (handle == NULL) failure_set(&failure, call.name, "OUT_OF_MEMORY", "no memory");
  if (graph == NULL)
    failure_set(&failure, "cuStreamEndCapture", "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED",
                "no graph came of the capture");
  if (graph != NULL && handle != NULL) instantiate(driver_of(stream), graph, &handle->as.graph.exec, &nodes, &failure);
  else if (graph != NULL) driver_of(stream)->cuGraphDestroy(graph);
  if (handle != NULL) {
    handle->as.graph.held = stream->as.stream.held;
    stream->as.stream.held = (Holds){NULL, 0, 0};
  } else holds_drop(&stream->as.stream.held, NULL);
  context_leave(stream);
  napi_value result = NULL, object = handle == NULL ? NULL : handle_made(&call, handle, &failure);
  /* The stream holds the context, so that it is still there. */
  if (handle == NULL) failure_throw(env, &failure);
  else if (object != NULL && napi_create_object(env, &result) == napi_ok) {
    if (napi_set_named_property(env, result, "handle", object) != napi_ok ||
        !set_number(env, result, "nodes", (double)nodes))
      result = NULL;
  }
  handle_sweep(context, NULL);
  return result;
}

/* launchGraph(graph, stream). */
napi_value shim_launchGraph(napi_env env, napi_callback_info info) {
  Call call = call_begin(env, info, "launchGraph");
  Handle *graph = take_handle(&call, 0, KIND_GRAPH);
  Handle *stream = take_handle(&call, 1, KIND_STREAM);
  same_context(&call, graph, stream);
  if (call.failed) return NULL;
  if (stream->as.stream.capturing) {
    call_fail(&call, "INVALID_ARGUMENT", "the stream is being captured, and a graph does not hold another");
    return NULL;
  }
  Failure failure = {0};
  if (context_enter(stream, &failure)) {
    DRIVER(&failure, driver_of(stream), cuGraphLaunch, graph->as.graph.exec, stream->as.stream.stream);
    context_leave(stream);
  }
  return failure.call == NULL ? NULL : call_throw(&call, &failure);
}

/* What runs of it is let finish by the driver; freeing the memory that it used waits for that. */
void graph_release(Handle *handle, Failure *failure) {
  if (handle->as.graph.exec != NULL) DRIVER(failure, driver_of(handle), cuGraphExecDestroy, handle->as.graph.exec);
  holds_drop(&handle->as.graph.held, failure);
}
