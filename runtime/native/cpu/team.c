/*
 * The shim of target `native`: memory, libraries of kernels, a pool of threads, and runs that no thread of JavaScript waits for.
 *
 * All functions run on the JavaScript thread of one Node environment, except `run_job` and what it calls, which runs on a thread of
 * libuv's pool and on those of the team and sees nothing of N-API. Records are counted: the JavaScript object, jobs and runs under way
 * each hold what they use, so that nothing goes while a kernel may read it, whatever JavaScript disposes of.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <dlfcn.h>
#include <math.h>
#include <node_api.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

typedef union {
  int i;
  float f;
} word;
/* NativeProgram in runtime/plan.ts says what the arguments are. */
typedef void (*KernelFunction)(int begin, int end, char *scratch, void *const *buffers, const word *scalars);

/* --- records
 * ---------------------------------------------------------------------------------------------------------------- */

typedef enum { MEMORY, LIBRARY, TEAM, JOB, KINDS } Kind;
static const char *const kind_names[KINDS] = {"memory", "library", "team", "job"};

typedef struct Record {
  Kind kind;
  bool disposed; /* by the caller: every later use of it throws */
  bool gone;     /* JavaScript does not hold it any more */
  bool released; /* what it stands for is no more */
  /* Jobs that were made of it, runs under way. It is released when it is disposed or gone and this is 0. */
  unsigned uses;
} Record;

typedef struct Memory {
  Record record;
  char *address;
  size_t bytes;
} Memory;

typedef struct Library {
  Record record;
  void *opened;
} Library;

typedef struct Launch {
  KernelFunction kernel;
  int grid, chunk;
  void **buffers;
  word *scalars;
} Launch;

typedef struct Job {
  Record record;
  Library *library;
  Memory **memories;
  size_t memory_count;
  Launch *launches;
  size_t launch_count;
  void **buffers;
  word *scalars;
  char *scratch;
  size_t scratch_stride;
  int threads;
} Job;

typedef struct Team {
  Record record;
  /* The one that runs a job included. */
  int threads;
  int started;
  pthread_t *ids;
  /* Held for a whole job: jobs of one team run one after another. */
  pthread_mutex_t turn;
  pthread_mutex_t mutex;
  pthread_cond_t opened, closed;
  /* Counts launches; workers wait for it to change. */
  atomic_uint opening;
  atomic_int busy;
  atomic_int next;
  const Job *job;
  const Launch *launch;
  bool stop;
} Team;

static void release(Record *record);

static void settle(Record *record) {
  if (record->uses > 0) return;
  if (!record->released && (record->disposed || record->gone)) {
    record->released = true;
    release(record);
  }
  if (record->gone) free(record);
}

static void drop(Record *record) {
  record->uses--;
  settle(record);
}

/* --- threads
 * ---------------------------------------------------------------------------------------------------------------- */

static inline void rest(void) {
#if defined __x86_64__
  __builtin_ia32_pause();
#elif defined __aarch64__
  __asm__ volatile("yield");
#endif
}

/* Some tens of microseconds: what lies between two launches of a job. */
#define SPINS 4000

static void take_part(Team *team, int number) {
  const Job *job = team->job;
  const Launch *launch = team->launch;
  char *scratch = job->scratch == NULL ? NULL : job->scratch + (size_t)number * job->scratch_stride;
  for (;;) {
    /* From the end: causal attention has its longest rows there. */
    const int end = atomic_fetch_sub_explicit(&team->next, launch->chunk, memory_order_relaxed);
    if (end <= 0) return;
    const int begin = end > launch->chunk ? end - launch->chunk : 0;
    launch->kernel(begin, end, scratch, launch->buffers, launch->scalars);
  }
}

typedef struct Start {
  Team *team;
  int number;
} Start;

static void *worker(void *given) {
  Start start = *(Start *)given;
  free(given);
  Team *team = start.team;
  unsigned seen = 0;
  for (;;) {
    unsigned now = seen;
    for (int i = 0; i < SPINS && now == seen; i++) {
      rest();
      now = atomic_load_explicit(&team->opening, memory_order_acquire);
    }
    if (now == seen) {
      pthread_mutex_lock(&team->mutex);
      while ((now = atomic_load_explicit(&team->opening, memory_order_acquire)) == seen)
        pthread_cond_wait(&team->opened, &team->mutex);
      pthread_mutex_unlock(&team->mutex);
    }
    seen = now;
    if (team->stop) return NULL;
    if (start.number < team->job->threads) take_part(team, start.number);
    if (atomic_fetch_sub_explicit(&team->busy, 1, memory_order_acq_rel) == 1) {
      pthread_mutex_lock(&team->mutex);
      pthread_cond_signal(&team->closed);
      pthread_mutex_unlock(&team->mutex);
    }
  }
}

static void open_all(Team *team) {
  pthread_mutex_lock(&team->mutex);
  atomic_fetch_add_explicit(&team->opening, 1, memory_order_release);
  pthread_cond_broadcast(&team->opened);
  pthread_mutex_unlock(&team->mutex);
}

/* The turn is the caller's. */
static void run_launches(Team *team, const Job *job) {
  team->job = job;
  for (size_t i = 0; i < job->launch_count; i++) {
    const Launch *launch = &job->launches[i];
    if (launch->grid <= launch->chunk || team->started == 0 || job->threads == 1) {
      launch->kernel(0, launch->grid, job->scratch, launch->buffers, launch->scalars);
      continue;
    }
    team->launch = launch;
    atomic_store_explicit(&team->next, launch->grid, memory_order_relaxed);
    atomic_store_explicit(&team->busy, team->started, memory_order_relaxed);
    open_all(team);
    take_part(team, 0);
    for (int spin = 0; spin < SPINS && atomic_load_explicit(&team->busy, memory_order_acquire) != 0; spin++) rest();
    if (atomic_load_explicit(&team->busy, memory_order_acquire) != 0) {
      pthread_mutex_lock(&team->mutex);
      while (atomic_load_explicit(&team->busy, memory_order_acquire) != 0)
        pthread_cond_wait(&team->closed, &team->mutex);
      pthread_mutex_unlock(&team->mutex);
    }
  }
}

static void run_job(Team *team, const Job *job) {
  pthread_mutex_lock(&team->turn);
  run_launches(team, job);
  pthread_mutex_unlock(&team->turn);
}

/* Bytes that a thread copies at once. */
#define PIECE ((size_t)256 << 10)

static void copy_pieces(int begin, int end, char *scratch, void *const *buffers, const word *scalars) {
  (void)scratch;
  (void)scalars;
  const size_t bytes = *(const size_t *)buffers[2], from = (size_t)begin * PIECE;
  size_t to = (size_t)end * PIECE;
  if (to > bytes) to = bytes;
  memcpy((char *)buffers[0] + from, (const char *)buffers[1] + from, to - from);
}

/* With the threads of a team, where there is one that has nothing else to do and it pays. The caller waits. */
static void copy(Team *team, void *to, const void *from, size_t bytes) {
  if (team == NULL || team->started == 0 || bytes < 4 * PIECE || bytes / PIECE > INT32_MAX / 2 ||
      pthread_mutex_trylock(&team->turn) != 0) {
    memcpy(to, from, bytes);
    return;
  }
  void *buffers[] = {to, (void *)from, &bytes};
  const Launch launch = {copy_pieces, (int)((bytes + PIECE - 1) / PIECE), 1, buffers, NULL};
  Job job = {.threads = team->threads, .launches = (Launch *)&launch, .launch_count = 1};
  run_launches(team, &job);
  pthread_mutex_unlock(&team->turn);
}

/* --- the end of records
 * ---------------------------------------------------------------------------------------------------------------- */

static void release(Record *record) {
  switch (record->kind) {
    case MEMORY: {
      Memory *memory = (Memory *)record;
      if (memory->address != NULL) munmap(memory->address, memory->bytes);
      break;
    }
    case LIBRARY:
      if (((Library *)record)->opened != NULL) dlclose(((Library *)record)->opened);
      break;
    case TEAM: {
      Team *team = (Team *)record;
      team->stop = true;
      open_all(team);
      for (int i = 0; i < team->started; i++) pthread_join(team->ids[i], NULL);
      pthread_mutex_destroy(&team->turn);
      pthread_mutex_destroy(&team->mutex);
      pthread_cond_destroy(&team->opened);
      pthread_cond_destroy(&team->closed);
      free(team->ids);
      break;
    }
    case JOB: {
      Job *job = (Job *)record;
      if (job->library != NULL) drop(&job->library->record);
      for (size_t i = 0; i < job->memory_count; i++) drop(&job->memories[i]->record);
      free(job->memories);
      free(job->launches);
      free(job->buffers);
      free(job->scalars);
      break;
    }
    case KINDS:
      break;
  }
}

/* --- arguments
 * ---------------------------------------------------------------------------------------------------------------- */

static napi_value throw_error(napi_env env, const char *code, const char *format, ...) {
  bool pending = false;
  if (napi_is_exception_pending(env, &pending) == napi_ok && pending) return NULL;
  char sentence[512];
  va_list list;
  va_start(list, format);
  vsnprintf(sentence, sizeof sentence, format, list);
  va_end(list);
  napi_throw_error(env, code, sentence);
  return NULL;
}

/* Random numbers: what makes an object one of ours, and of which kind. */
static const napi_type_tag tags[KINDS] = {
    {0x4f0b7c2d91e8a653ULL, 0x1d62f0a94c7be801ULL},
    {0x4f0b7c2d91e8a653ULL, 0x1d62f0a94c7be802ULL},
    {0x4f0b7c2d91e8a653ULL, 0x1d62f0a94c7be803ULL},
    {0x4f0b7c2d91e8a653ULL, 0x1d62f0a94c7be804ULL},
};

static void finalize(napi_env env, void *data, void *hint) {
  (void)env;
  (void)hint;
  Record *record = data;
  record->gone = true;
  settle(record);
}

static napi_value wrap(napi_env env, Record *record) {
  napi_value object;
  if (napi_create_object(env, &object) == napi_ok && napi_type_tag_object(env, object, &tags[record->kind]) == napi_ok &&
      napi_wrap(env, object, record, finalize, NULL, NULL) == napi_ok)
    return object;
  record->gone = true;
  settle(record);
  return throw_error(env, "OUT_OF_MEMORY", "JavaScript could not make the object");
}

static Record *record_in(napi_env env, napi_value value, Kind kind) {
  bool is = false;
  void *data = NULL;
  napi_valuetype type;
  if (napi_typeof(env, value, &type) == napi_ok && type == napi_object &&
      napi_check_object_type_tag(env, value, &tags[kind], &is) == napi_ok && is && napi_unwrap(env, value, &data) == napi_ok) {
    Record *record = data;
    if (!record->disposed) return record;
    throw_error(env, "DISPOSED", "the %s was disposed", kind_names[kind]);
    return NULL;
  }
  throw_error(env, "INVALID_ARGUMENT", "expected a %s", kind_names[kind]);
  return NULL;
}

#define MOST ((double)((uint64_t)1 << 53))

static bool whole(napi_env env, napi_value value, const char *what, double least, double most, double *result) {
  double number = -1;
  if (napi_get_value_double(env, value, &number) == napi_ok && number >= least && number <= most &&
      number == floor(number)) {
    *result = number;
    return true;
  }
  throw_error(env, "INVALID_ARGUMENT", "%s: expected a whole number from %.0f to %.0f", what, least, most);
  return false;
}

static char *text(napi_env env, napi_value value, const char *what) {
  size_t length = 0;
  if (napi_get_value_string_utf8(env, value, NULL, 0, &length) != napi_ok) {
    throw_error(env, "INVALID_ARGUMENT", "%s: expected a string", what);
    return NULL;
  }
  char *made = malloc(length + 1);
  if (made == NULL || napi_get_value_string_utf8(env, value, made, length + 1, &length) != napi_ok) {
    free(made);
    throw_error(env, "OUT_OF_MEMORY", "%s: no memory", what);
    return NULL;
  }
  return made;
}

typedef struct Array {
  char *data;
  size_t length, bytes;
} Array;

static bool array(napi_env env, napi_value value, const char *what, Array *result) {
  static const size_t sizes[] = {1, 1, 1, 2, 2, 4, 4, 4, 8, 8, 8};
  bool is = false;
  napi_typedarray_type type;
  void *data = NULL;
  if (napi_is_typedarray(env, value, &is) != napi_ok || !is ||
      napi_get_typedarray_info(env, value, &type, &result->length, &data, NULL, NULL) != napi_ok) {
    throw_error(env, "INVALID_ARGUMENT", "%s: expected a typed array", what);
    return false;
  }
  result->data = data;
  result->bytes = data == NULL ? 0 : result->length * sizes[type];
  return true;
}

#define ARGUMENTS(n)                                                                                                   \
  size_t count = (n);                                                                                                  \
  napi_value given[(n)];                                                                                               \
  if (napi_get_cb_info(env, info, &count, given, NULL, NULL) != napi_ok) return NULL

/* --- the functions
 * ---------------------------------------------------------------------------------------------------------------- */

/* allocate(bytes): memory, all zeros, at a multiple of the page size. */
static napi_value allocate(napi_env env, napi_callback_info info) {
  ARGUMENTS(1);
  double bytes;
  if (!whole(env, given[0], "bytes", 1, MOST, &bytes)) return NULL;
  Memory *memory = calloc(1, sizeof *memory);
  if (memory == NULL) return throw_error(env, "OUT_OF_MEMORY", "no memory");
  memory->record.kind = MEMORY;
  memory->bytes = (size_t)bytes;
  void *address = mmap(NULL, memory->bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (address == MAP_FAILED) {
    free(memory);
    return throw_error(env, "OUT_OF_MEMORY", "the system refuses %.0f bytes", bytes);
  }
#ifdef MADV_HUGEPAGE
  madvise(address, memory->bytes, MADV_HUGEPAGE);
#endif
  memory->address = address;
  return wrap(env, &memory->record);
}

/* Where `bytes` from an offset lie in a memory; null with an error thrown where they do not. */
static char *within(napi_env env, napi_value memory_value, napi_value offset_value, size_t bytes) {
  Memory *memory = (Memory *)record_in(env, memory_value, MEMORY);
  double offset;
  if (memory == NULL || !whole(env, offset_value, "offset", 0, MOST, &offset)) return NULL;
  if ((size_t)offset <= memory->bytes && bytes <= memory->bytes - (size_t)offset) return memory->address + (size_t)offset;
  throw_error(env, "INVALID_ARGUMENT", "%zu bytes from %.0f do not lie in the memory's %zu", bytes, offset, memory->bytes);
  return NULL;
}

/* The team of an argument that may be left out; false with an error thrown where it is something else. */
static bool optional_team(napi_env env, napi_value value, Team **team) {
  napi_valuetype type;
  *team = NULL;
  if (napi_typeof(env, value, &type) == napi_ok && type == napi_undefined) return true;
  *team = (Team *)record_in(env, value, TEAM);
  return *team != NULL;
}

/* write(memory, offset, array, team?), read(memory, offset, array, team?) */
static napi_value write_array(napi_env env, napi_callback_info info) {
  ARGUMENTS(4);
  Array from;
  Team *team;
  if (!array(env, given[2], "array", &from) || !optional_team(env, given[3], &team)) return NULL;
  char *to = within(env, given[0], given[1], from.bytes);
  if (to != NULL && from.bytes > 0) copy(team, to, from.data, from.bytes);
  return NULL;
}

static napi_value read_array(napi_env env, napi_callback_info info) {
  ARGUMENTS(4);
  Array into;
  Team *team;
  if (!array(env, given[2], "array", &into) || !optional_team(env, given[3], &team)) return NULL;
  const char *from = within(env, given[0], given[1], into.bytes);
  if (from != NULL && into.bytes > 0) copy(team, into.data, from, into.bytes);
  return NULL;
}

/* fill(memory, offset, bytes, byte) */
static napi_value fill(napi_env env, napi_callback_info info) {
  ARGUMENTS(4);
  double bytes, byte;
  if (!whole(env, given[2], "bytes", 0, MOST, &bytes) || !whole(env, given[3], "byte", 0, 255, &byte)) return NULL;
  char *to = within(env, given[0], given[1], (size_t)bytes);
  if (to != NULL) memset(to, (int)byte, (size_t)bytes);
  return NULL;
}

/* open(path): a library of kernels. */
static napi_value open_library(napi_env env, napi_callback_info info) {
  ARGUMENTS(1);
  char *path = text(env, given[0], "path");
  if (path == NULL) return NULL;
  void *opened = dlopen(path, RTLD_NOW | RTLD_LOCAL);
  free(path);
  if (opened == NULL) return throw_error(env, "LOAD_FAILED", "%s", dlerror());
  Library *library = calloc(1, sizeof *library);
  if (library == NULL) {
    dlclose(opened);
    return throw_error(env, "OUT_OF_MEMORY", "no memory");
  }
  library->record.kind = LIBRARY;
  library->opened = opened;
  return wrap(env, &library->record);
}

/* team(threads): a pool; as many threads as could be started, see `threads`. */
static napi_value make_team(napi_env env, napi_callback_info info) {
  ARGUMENTS(1);
  double threads;
  if (!whole(env, given[0], "threads", 1, 1024, &threads)) return NULL;
  Team *team = calloc(1, sizeof *team);
  pthread_t *ids = calloc((size_t)threads, sizeof *ids);
  if (team == NULL || ids == NULL) {
    free(team);
    free(ids);
    return throw_error(env, "OUT_OF_MEMORY", "no memory");
  }
  team->record.kind = TEAM;
  team->ids = ids;
  pthread_mutex_init(&team->turn, NULL);
  pthread_mutex_init(&team->mutex, NULL);
  pthread_cond_init(&team->opened, NULL);
  pthread_cond_init(&team->closed, NULL);
  for (int i = 1; i < (int)threads; i++) {
    Start *start = malloc(sizeof *start);
    if (start == NULL) break;
    *start = (Start){team, i};
    if (pthread_create(&ids[i - 1], NULL, worker, start) != 0) {
      free(start);
      break;
    }
    team->started = i;
  }
  team->threads = team->started + 1;
  return wrap(env, &team->record);
}

static napi_value threads_of(napi_env env, napi_callback_info info) {
  ARGUMENTS(1);
  Team *team = (Team *)record_in(env, given[0], TEAM);
  napi_value number;
  return team != NULL && napi_create_int32(env, team->threads, &number) == napi_ok ? number : NULL;
}

/* A walk over the numbers of a job. */
typedef struct Walk {
  const double *at, *end;
  bool bad;
} Walk;

static double next_number(Walk *walk, double least, double most) {
  if (walk->at >= walk->end) {
    walk->bad = true;
    return least;
  }
  const double value = *walk->at++;
  if (value >= least && value <= most && value == floor(value)) return value;
  walk->bad = true;
  return least;
}

/*
 * job(library, entries, memories, numbers): what `run` runs. `numbers` (Float64Array): threads, then memory, offset and stride of the
 * scratch memories, then for each launch: entry, grid, chunk, count of buffers, for each its memory and its offset and how many bytes
 * from there must exist, count of scalars, for each 1 where it is an f32 and its value. Everything is checked here, so that a run
 * cannot fail.
 */
static napi_value make_job(napi_env env, napi_callback_info info) {
  ARGUMENTS(4);
  Library *library = (Library *)record_in(env, given[0], LIBRARY);
  if (library == NULL) return NULL;
  uint32_t entries = 0, memories = 0;
  Array numbers;
  if (napi_get_array_length(env, given[1], &entries) != napi_ok || napi_get_array_length(env, given[2], &memories) != napi_ok)
    return throw_error(env, "INVALID_ARGUMENT", "expected lists of entries and of memories");
  if (!array(env, given[3], "numbers", &numbers) || numbers.bytes != numbers.length * sizeof(double))
    return throw_error(env, "INVALID_ARGUMENT", "numbers: expected a Float64Array");
  Job *job = calloc(1, sizeof *job);
  KernelFunction *kernels = calloc(entries + 1, sizeof *kernels);
  if (job == NULL || kernels == NULL) {
    free(job);
    free(kernels);
    return throw_error(env, "OUT_OF_MEMORY", "no memory");
  }
  job->record.kind = JOB;
  /* At most as many of each as there are numbers. */
  job->memories = calloc(memories + 1, sizeof *job->memories);
  job->launches = calloc(numbers.length + 1, sizeof *job->launches);
  job->buffers = calloc(numbers.length + 1, sizeof *job->buffers);
  job->scalars = calloc(numbers.length + 1, sizeof *job->scalars);
  bool ok = job->memories != NULL && job->launches != NULL && job->buffers != NULL && job->scalars != NULL;
  if (!ok) throw_error(env, "OUT_OF_MEMORY", "no memory");
  job->library = library;
  library->record.uses++;
  for (uint32_t i = 0; ok && i < entries; i++) {
    napi_value item;
    char *name = napi_get_element(env, given[1], i, &item) == napi_ok ? text(env, item, "entry") : NULL;
    if (name == NULL) ok = false;
    else {
      void *symbol = dlsym(library->opened, name);
      memcpy(&kernels[i], &symbol, sizeof symbol);
      if (symbol == NULL) {
        throw_error(env, "NO_SYMBOL", "the library has no kernel '%s'", name);
        ok = false;
      }
      free(name);
    }
  }
  for (uint32_t i = 0; ok && i < memories; i++) {
    napi_value item;
    Memory *memory =
        napi_get_element(env, given[2], i, &item) == napi_ok ? (Memory *)record_in(env, item, MEMORY) : NULL;
    ok = memory != NULL;
    if (!ok) break;
    memory->record.uses++;
    job->memories[job->memory_count++] = memory;
  }
  if (ok) {
    Walk walk = {(const double *)numbers.data, (const double *)numbers.data + numbers.length, false};
    const double last = memories == 0 ? -1 : (double)memories - 1;
    job->threads = (int)next_number(&walk, 1, 1024);
    const Memory *scratch = walk.bad || last < 0 ? NULL : job->memories[(size_t)next_number(&walk, 0, last)];
    const double offset = next_number(&walk, 0, MOST), stride = next_number(&walk, 0, MOST);
    if (walk.bad || scratch == NULL || offset + stride * job->threads > (double)scratch->bytes) walk.bad = true;
    else {
      job->scratch = scratch->address + (size_t)offset;
      job->scratch_stride = (size_t)stride;
    }
    size_t buffers = 0, scalars = 0;
    while (!walk.bad && walk.at < walk.end) {
      Launch *launch = &job->launches[job->launch_count];
      launch->kernel = kernels[(size_t)next_number(&walk, 0, (double)entries - 1)];
      launch->grid = (int)next_number(&walk, 0, INT32_MAX);
      launch->chunk = (int)next_number(&walk, 1, INT32_MAX);
      launch->buffers = job->buffers + buffers;
      for (double n = next_number(&walk, 0, 1024); !walk.bad && n > 0; n--) {
        const Memory *memory = job->memories[(size_t)next_number(&walk, 0, last)];
        const double at = next_number(&walk, 0, MOST), bytes = next_number(&walk, 0, MOST);
        if (walk.bad || at + bytes > (double)memory->bytes || (size_t)at % 4 != 0) walk.bad = true;
        else job->buffers[buffers++] = memory->address + (size_t)at;
      }
      launch->scalars = job->scalars + scalars;
      for (double n = next_number(&walk, 0, 1024); !walk.bad && n > 0; n--) {
        const bool real = next_number(&walk, 0, 1) == 1;
        if (walk.at >= walk.end) walk.bad = true;
        else if (real) job->scalars[scalars++].f = (float)*walk.at++;
        else job->scalars[scalars++].i = (int)next_number(&walk, INT32_MIN, INT32_MAX);
      }
      job->launch_count++;
    }
    ok = !walk.bad;
    if (!ok)
      throw_error(env, "INVALID_ARGUMENT", "number %zu of the job does not fit",
                  (size_t)(walk.at - (const double *)numbers.data));
  }
  free(kernels);
  if (ok) return wrap(env, &job->record);
  job->record.gone = true;
  settle(&job->record);
  return NULL;
}

typedef struct Run {
  napi_async_work async;
  napi_deferred deferred;
  Team *team;
  Job *job;
} Run;

static void execute(napi_env env, void *data) {
  (void)env;
  Run *run = data;
  run_job(run->team, run->job);
}

static void complete(napi_env env, napi_status status, void *data) {
  Run *run = data;
  napi_handle_scope scope;
  const bool scoped = napi_open_handle_scope(env, &scope) == napi_ok;
  napi_value value;
  if (status == napi_ok && napi_get_undefined(env, &value) == napi_ok) napi_resolve_deferred(env, run->deferred, value);
  else {
    napi_value code, sentence;
    if (napi_create_string_utf8(env, "CANCELLED", NAPI_AUTO_LENGTH, &code) == napi_ok &&
        napi_create_string_utf8(env, "this environment of Node is closing", NAPI_AUTO_LENGTH, &sentence) == napi_ok &&
        napi_create_error(env, code, sentence, &value) == napi_ok)
      napi_reject_deferred(env, run->deferred, value);
  }
  napi_delete_async_work(env, run->async);
  drop(&run->team->record);
  drop(&run->job->record);
  free(run);
  if (scoped) napi_close_handle_scope(env, scope);
}

/* run(team, job): a promise. */
static napi_value run(napi_env env, napi_callback_info info) {
  ARGUMENTS(2);
  Team *team = (Team *)record_in(env, given[0], TEAM);
  if (team == NULL) return NULL;
  Job *job = (Job *)record_in(env, given[1], JOB);
  if (job == NULL) return NULL;
  if (job->threads > team->threads)
    return throw_error(env, "INVALID_ARGUMENT", "the job is for %d threads, the team has %d", job->threads, team->threads);
  Run *made = calloc(1, sizeof *made);
  napi_value name, promise = NULL;
  if (made == NULL) return throw_error(env, "OUT_OF_MEMORY", "no memory");
  made->team = team;
  made->job = job;
  if (napi_create_string_utf8(env, "heddle run", NAPI_AUTO_LENGTH, &name) == napi_ok &&
      napi_create_async_work(env, NULL, name, execute, complete, made, &made->async) == napi_ok &&
      napi_create_promise(env, &made->deferred, &promise) == napi_ok) {
    team->record.uses++;
    job->record.uses++;
    if (napi_queue_async_work(env, made->async) == napi_ok) return promise;
    team->record.uses--;
    job->record.uses--;
  }
  if (made->async != NULL) napi_delete_async_work(env, made->async);
  free(made);
  return throw_error(env, "OUT_OF_MEMORY", "the run could not be started");
}

/* dispose(object): harmless when repeated. What a run under way uses goes when that ends. */
static napi_value dispose(napi_env env, napi_callback_info info) {
  ARGUMENTS(1);
  for (Kind kind = 0; kind < KINDS; kind++) {
    bool is = false;
    void *data = NULL;
    if (napi_check_object_type_tag(env, given[0], &tags[kind], &is) != napi_ok || !is) continue;
    if (napi_unwrap(env, given[0], &data) != napi_ok) continue;
    Record *record = data;
    record->disposed = true;
    settle(record);
    return NULL;
  }
  return throw_error(env, "INVALID_ARGUMENT", "expected an object of this shim");
}

NAPI_MODULE_INIT(/* napi_env env, napi_value exports */) {
  static const struct {
    const char *name;
    napi_callback function;
  } functions[] = {
      {"allocate", allocate}, {"write", write_array}, {"read", read_array}, {"fill", fill}, {"open", open_library},
      {"team", make_team},    {"threads", threads_of}, {"job", make_job},   {"run", run},   {"dispose", dispose},
  };
  for (size_t i = 0; i < sizeof functions / sizeof *functions; i++) {
    napi_value function;
    if (napi_create_function(env, functions[i].name, NAPI_AUTO_LENGTH, functions[i].function, NULL, &function) != napi_ok ||
        napi_set_named_property(env, exports, functions[i].name, function) != napi_ok)
      return NULL;
  }
  return exports;
}
