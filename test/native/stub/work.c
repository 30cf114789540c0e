/* Part of libcuda.c: memory, what streams do, events and graphs. */

CUresult cuMemGetInfo_v2(size_t *available, size_t *total) {
  CALL_IN_CONTEXT(cuMemGetInfo_v2)
  *available = 1000;
  *total = 2000;
  return OK;
}
CUresult cuMemAlloc_v2(unsigned long long *address, size_t bytes) {
  CALL_IN_CONTEXT(cuMemAlloc_v2)
  BREAKS_CAPTURE()
  if (bytes == 0) return INVALID_VALUE;
  if (bytes > (size_t)1 << 30) return OUT_OF_MEMORY;
  void *memory = malloc(bytes);
#ifdef EXECUTE
  memset(memory, 0xff, bytes);
#else
  memset(memory, 0xa5, bytes);
#endif
  *address = (unsigned long long)(uintptr_t)stub_add("memory", memory, bytes);
  return OK;
}
CUresult cuMemFree_v2(unsigned long long address) {
  CALL_IN_CONTEXT(cuMemFree_v2)
  BREAKS_CAPTURE()
  drain(NULL);
  if (!stub_has("memory", (void *)(uintptr_t)address, true)) return INVALID_VALUE;
  free((void *)(uintptr_t)address);
  return OK;
}
CUresult cuMemHostAlloc(void **address, size_t bytes, unsigned flags) {
  CALL_IN_CONTEXT(cuMemHostAlloc)
  BREAKS_CAPTURE()
  if (flags > 7) return INVALID_VALUE;
  if (bytes > (size_t)1 << 30) return OUT_OF_MEMORY;
  *address = stub_add("pinned", calloc(1, bytes), bytes);
  return OK;
}
CUresult cuMemFreeHost(void *address) {
  CALL_IN_CONTEXT(cuMemFreeHost)
  BREAKS_CAPTURE()
  drain(NULL);
  if (!stub_has("pinned", address, true)) return INVALID_VALUE;
  free(address);
  return OK;
}

/* --- work --- */
static void axpy(const unsigned char *parameters) {
  float *x, *y, a;
  int n;
  memcpy(&x, parameters, 8);
  memcpy(&y, parameters + 8, 8);
  memcpy(&a, parameters + 16, 4);
  memcpy(&n, parameters + 20, 4);
  if (!stub_within("memory", x, (size_t)n * 4) || !stub_within("memory", y, (size_t)n * 4)) return;
  for (int i = 0; i < n; i++) y[i] += a * x[i];
}
static double now = 0;
static void perform(const Node *node) {
  if (node->kind == COPY) memcpy(node->to, node->from, node->bytes);
  else if (node->kind == EVENT) node->event->at = now += 1.5;
  else if (node->kind == CALLED) node->run((void *)(uintptr_t)node->parameters);
#ifdef EXECUTE
  else if (node->kind == LAUNCH) {
    const Launched launched = {node->grid, node->block, node->shared, node->parameters, node->bytes};
    const char *why = execute_launch(node->function->library, &launched);
    if (why == NULL) return;
    stub_log("!%s", why);
    /* As a device does that finds a wrong address. */
    stub_sticky = 700;
  }
#endif
  else if (node->kind == LAUNCH && strcmp(node->name, "axpy") == 0) axpy(node->parameters);
  else if (node->kind == FILL)
    for (size_t i = 0; i < node->bytes; i += (size_t)node->width)
      memcpy((char *)node->to + i, &node->value, (size_t)node->width);
}
static pthread_mutex_t work_lock = PTHREAD_MUTEX_INITIALIZER;
static void append(Graph *graph, Node node);
static CUresult enqueue(Stream *stream, Node node) {
  KNOWN("stream", stream)
  Graph *graph = stream->capture;
#ifdef EXECUTE
  if (graph == NULL) graph = &stream->queue;
#endif
  if (graph == NULL) return perform(&node), OK;
  return append(graph, node), OK;
}
static void append(Graph *graph, Node node) {
  pthread_mutex_lock(&work_lock);
  Node *kept = malloc(sizeof *kept);
  *kept = node;
  kept->next = NULL;
  if (graph->last == NULL) graph->first = kept;
  else graph->last->next = kept;
  graph->last = kept;
  graph->count++;
  pthread_mutex_unlock(&work_lock);
}
/* One after another: the stub computes on one processor, and the threads of the pool may wait for several streams. */
static void drain_one(Stream *stream) {
  pthread_mutex_lock(&work_lock);
  Graph work = stream->queue;
  stream->queue = (Graph){NULL, NULL, 0};
  for (Node *next, *node = work.first; node != NULL; node = next) {
    next = node->next;
    if (stub_sticky == 0) perform(node);
    free(node);
  }
  pthread_mutex_unlock(&work_lock);
}
static void drain(Stream *stream) {
  if (stream != NULL) {
    if (stub_alive("stream", stream)) drain_one(stream);
    return;
  }
  Stream *all[256];
  size_t count = 0;
  pthread_mutex_lock(&stub_lock);
  for (Live *live = stub_live; live != NULL && count < 256; live = live->next)
    if (strcmp(live->kind, "stream") == 0) all[count++] = live->object;
  pthread_mutex_unlock(&stub_lock);
  for (size_t i = 0; i < count; i++) drain_one(all[i]);
}
/* For the stubs of libraries that give a stream work of their own; it may be captured like any other. */
CUresult stub_enqueue(Object stream, void (*run)(void *), const void *data, size_t bytes) {
  Node node = {.kind = CALLED, .bytes = bytes, .run = run};
  if (bytes > sizeof node.parameters) return INVALID_VALUE;
  memcpy(node.parameters, data, bytes);
  return enqueue(stream, node);
}
/* Whether they lie in one allocation. */
bool stub_memory(const void *address, size_t bytes) { return stub_within("memory", address, bytes); }

static Node copy_of(void *to, const void *from, size_t bytes) {
  return (Node){.kind = COPY, .to = to, .from = from, .bytes = bytes};
}
#define DEVICE(address) ((void *)(uintptr_t)(address))

CUresult cuMemcpyHtoDAsync_v2(unsigned long long to, const void *from, size_t bytes, Object stream) {
  CALL_IN_CONTEXT(cuMemcpyHtoDAsync_v2)
  if (!stub_within("memory", DEVICE(to), bytes)) return INVALID_VALUE;
  return enqueue(stream, copy_of(DEVICE(to), from, bytes));
}
CUresult cuMemcpyDtoHAsync_v2(void *to, unsigned long long from, size_t bytes, Object stream) {
  CALL_IN_CONTEXT(cuMemcpyDtoHAsync_v2)
  if (!stub_within("memory", DEVICE(from), bytes)) return INVALID_VALUE;
  return enqueue(stream, copy_of(to, DEVICE(from), bytes));
}
CUresult cuMemcpyDtoDAsync_v2(unsigned long long to, unsigned long long from, size_t bytes, Object stream) {
  CALL_IN_CONTEXT(cuMemcpyDtoDAsync_v2)
  if (!stub_within("memory", DEVICE(from), bytes) || !stub_within("memory", DEVICE(to), bytes)) return INVALID_VALUE;
  return enqueue(stream, copy_of(DEVICE(to), DEVICE(from), bytes));
}
static CUresult fill(unsigned long long to, uint32_t value, int width, size_t count, Object stream) {
  if (!stub_within("memory", DEVICE(to), count * (size_t)width)) return INVALID_VALUE;
  return enqueue(
      stream, (Node){.kind = FILL, .to = DEVICE(to), .bytes = count * (size_t)width, .value = value, .width = width});
}
CUresult cuMemsetD8Async(unsigned long long to, unsigned char value, size_t count, Object stream) {
  CALL_IN_CONTEXT(cuMemsetD8Async)
  return fill(to, value, 1, count, stream);
}
CUresult cuMemsetD32Async(unsigned long long to, unsigned value, size_t count, Object stream) {
  CALL_IN_CONTEXT(cuMemsetD32Async)
  return fill(to, value, 4, count, stream);
}

/* --- streams and events --- */
CUresult cuStreamCreate(Object *stream, unsigned flags) {
  CALL_IN_CONTEXT(cuStreamCreate)
  if (flags != 1) return INVALID_VALUE;
  *stream = stub_add("stream", calloc(1, sizeof(Stream)), sizeof(Stream));
  return OK;
}
CUresult cuStreamDestroy_v2(Object stream) {
  CALL_IN_CONTEXT(cuStreamDestroy_v2)
  KNOWN("stream", stream)
  if (((Stream *)stream)->capture != NULL) stub_log("!destroyed while captured");
  drain(stream);
  stub_has("stream", stream, true);
  free(stream);
  return OK;
}
CUresult cuStreamSynchronize(Object stream) {
  CALL_IN_CONTEXT(cuStreamSynchronize)
  KNOWN("stream", stream)
  BREAKS_CAPTURE()
  drain(stream);
  return stub_sticky;
}
CUresult cuStreamWaitEvent(Object stream, Object event, unsigned flags) {
  CALL_IN_CONTEXT(cuStreamWaitEvent)
  KNOWN("stream", stream)
  KNOWN("event", event)
  if (((Event *)event)->stream != NULL) drain(((Event *)event)->stream);
  return flags == 0 ? OK : INVALID_VALUE;
}
CUresult cuEventCreate(Object *event, unsigned flags) {
  CALL_IN_CONTEXT(cuEventCreate)
  if (flags != 0) return INVALID_VALUE;
  *event = stub_add("event", calloc(1, sizeof(Event)), sizeof(Event));
  return OK;
}
CUresult cuEventDestroy_v2(Object event) {
  CALL_IN_CONTEXT(cuEventDestroy_v2)
  drain(NULL);
  if (!stub_has("event", event, true)) return INVALID_HANDLE;
  free(event);
  return OK;
}
CUresult cuEventRecord(Object event, Object stream) {
  CALL_IN_CONTEXT(cuEventRecord)
  KNOWN("event", event)
  KNOWN("stream", stream)
  ((Event *)event)->at = 0;
  ((Event *)event)->stream = stream;
  return enqueue(stream, (Node){.kind = EVENT, .event = event});
}
CUresult cuEventSynchronize(Object event) {
  CALL_IN_CONTEXT(cuEventSynchronize)
  KNOWN("event", event)
  if (((Event *)event)->stream != NULL && ((Event *)event)->at == 0) drain(((Event *)event)->stream);
  return stub_sticky;
}
CUresult cuEventElapsedTime(float *milliseconds, Object start, Object end) {
  CALL_IN_CONTEXT(cuEventElapsedTime)
  KNOWN("event", start)
  KNOWN("event", end)
  if (((Event *)start)->stream == NULL || ((Event *)end)->stream == NULL) return INVALID_HANDLE;
  if (((Event *)start)->at == 0 || ((Event *)end)->at == 0) return NOT_READY;
  *milliseconds = (float)(((Event *)end)->at - ((Event *)start)->at);
  return OK;
}

/* --- graphs --- */
static void graph_free(Graph *graph) {
  for (Node *next, *node = graph->first; node != NULL; node = next) {
    next = node->next;
    free(node);
  }
  free(graph);
}
CUresult cuStreamBeginCapture_v2(Object stream, int mode) {
  CALL_IN_CONTEXT(cuStreamBeginCapture_v2)
  KNOWN("stream", stream)
  if (mode != 1 || ((Stream *)stream)->capture != NULL) return INVALID_VALUE;
  ((Stream *)stream)->capture = calloc(1, sizeof(Graph));
  capturing++;
  return OK;
}
CUresult cuStreamEndCapture(Object stream, Object *graph) {
  int ordered = stub_called("cuStreamEndCapture");
  KNOWN("stream", stream)
  Graph *captured = ((Stream *)stream)->capture;
  *graph = NULL;
  if (captured == NULL) return INVALID_VALUE;
  ((Stream *)stream)->capture = NULL;
  capturing--;
  if (broken || ordered != 0) {
    broken = false;
    graph_free(captured);
    return ordered != 0 ? ordered : CAPTURE_INVALIDATED;
  }
  *graph = stub_add("plan", captured, sizeof *captured);
  return OK;
}
CUresult cuGraphGetNodes(Object graph, Object *nodes, size_t *count) {
  CALL(cuGraphGetNodes)
  KNOWN("plan", graph)
  if (nodes != NULL) return INVALID_VALUE;
  *count = ((Graph *)graph)->count;
  return OK;
}
CUresult cuGraphInstantiateWithFlags(Object *exec, Object graph, unsigned long long flags) {
  CALL_IN_CONTEXT(cuGraphInstantiateWithFlags)
  KNOWN("plan", graph)
  if (flags != 0) return INVALID_VALUE;
  Graph *copy = calloc(1, sizeof *copy);
  Node **at = &copy->first;
  for (Node *node = ((Graph *)graph)->first; node != NULL; node = node->next, at = &(*at)->next) {
    *at = malloc(sizeof **at);
    **at = *node;
    (*at)->next = NULL;
  }
  *exec = stub_add("graph", copy, sizeof *copy);
  return OK;
}
CUresult cuGraphLaunch(Object exec, Object stream) {
  CALL_IN_CONTEXT(cuGraphLaunch)
  KNOWN("graph", exec)
  KNOWN("stream", stream)
  CUresult given = OK;
  for (Node *node = ((Graph *)exec)->first; node != NULL && given == OK; node = node->next)
    given = enqueue(stream, *node);
  return given;
}
CUresult cuGraphDestroy(Object graph) {
  CALL(cuGraphDestroy)
  if (!stub_has("plan", graph, true)) return INVALID_VALUE;
  graph_free(graph);
  return OK;
}
CUresult cuGraphExecDestroy(Object exec) {
  CALL(cuGraphExecDestroy)
  if (!stub_has("graph", exec, true)) return INVALID_VALUE;
  graph_free(exec);
  return OK;
}
