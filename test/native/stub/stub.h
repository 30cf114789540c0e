/*
 * What the stub libraries share: a log of every call, orders to fail or to be slow, and a register of live objects.
 *
 * HEDDLE_STUB names a folder. `log` in it gets one line for each call, `+kind` and `-kind` for objects that come and
 * go, and lines with `!` for what no correct caller does. `orders` in it is read at each call: `fail NAME CODE`, `slow
 * NAME MILLISECONDS`, `nth NAME CODE N` (only the Nth call since the orders were given fails), `break NAME CODE N` (the
 * Nth call fails, and from then on every call in the context, which is of no more use).
 */
#ifndef STUB_H
#define STUB_H
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static pthread_mutex_t stub_lock = PTHREAD_MUTEX_INITIALIZER;

__attribute__((format(printf, 1, 2), unused)) static void stub_log(const char *format, ...) {
  const char *folder = getenv("HEDDLE_STUB");
  if (folder == NULL) return;
  char path[1024], line[1024];
  snprintf(path, sizeof path, "%s/log", folder);
  va_list list;
  va_start(list, format);
  int length = vsnprintf(line, sizeof line - 1, format, list);
  va_end(list);
  if (length > (int)sizeof line - 2) length = sizeof line - 2;
  line[length++] = '\n';
  int file = open(path, O_WRONLY | O_CREAT | O_APPEND, 0600);
  if (file < 0) return;
  /* One write, so that lines of several threads and processes stay whole. */
  if (write(file, line, (size_t)length) != length) abort();
  close(file);
}

/* The number behind `verb name` in the orders, or −1; `nth` gets the number behind that, or 0. */
static int stub_order_nth(const char *verb, const char *name, int *nth) {
  const char *folder = getenv("HEDDLE_STUB");
  if (folder == NULL) return -1;
  char path[1024], line[256], is[16], what[128];
  snprintf(path, sizeof path, "%s/orders", folder);
  FILE *file = fopen(path, "r");
  if (file == NULL) return -1;
  int found = -1, number;
  *nth = 0;
  while (found < 0 && fgets(line, sizeof line, file) != NULL)
    if (sscanf(line, "%15s %127s %d %d", is, what, &number, nth) >= 3 && strcmp(is, verb) == 0 &&
        strcmp(what, name) == 0)
      found = number;
  fclose(file);
  return found;
}
__attribute__((unused)) static int stub_order(const char *verb, const char *name) {
  int ignored;
  return stub_order_nth(verb, name, &ignored);
}

/* What every call in the context answers since it broke. */
static int stub_sticky;

/* Whether this is the Nth call that the order of that kind means. One order of a kind stands at a time. */
static int stub_nth(const char *verb, const char *name, int *count) {
  int nth, code = stub_order_nth(verb, name, &nth);
  if (code < 0) return 0;
  pthread_mutex_lock(&stub_lock);
  bool now = ++*count == nth;
  pthread_mutex_unlock(&stub_lock);
  return now ? code : 0;
}

/* Logs a call; what it is to fail with, or 0. */
__attribute__((unused)) static int stub_called(const char *name) {
  static int failing, breaking, orders;
  stub_log("%s", name);
  /* New orders count from one again. */
  int serial = stub_order("serial", "orders");
  if (serial != orders) orders = serial, failing = breaking = 0;
  int slow = stub_order("slow", name), code = stub_order("fail", name);
  if (slow > 0) usleep((useconds_t)slow * 1000);
  if (code > 0) return code;
  int nth = stub_nth("nth", name, &failing), broken = stub_nth("break", name, &breaking);
  if (broken != 0) stub_sticky = broken;
  return nth != 0 ? nth : broken;
}

/* Live objects: what was given out and not taken back. */
typedef struct Live {
  const char *kind;
  void *object;
  size_t bytes;
  struct Live *next;
} Live;
static Live *stub_live;

__attribute__((unused)) static void *stub_add(const char *kind, void *object, size_t bytes) {
  Live *live = malloc(sizeof *live);
  pthread_mutex_lock(&stub_lock);
  *live = (Live){kind, object, bytes, stub_live};
  stub_live = live;
  pthread_mutex_unlock(&stub_lock);
  stub_log("+%s", kind);
  return object;
}

/* Whether `object` is alive; removes it when told to. */
__attribute__((unused)) static bool stub_has(const char *kind, void *object, bool take) {
  bool found = false;
  pthread_mutex_lock(&stub_lock);
  for (Live **at = &stub_live; *at != NULL && !found; at = &(*at)->next)
    if ((*at)->object == object && strcmp((*at)->kind, kind) == 0) {
      found = true;
      if (take) {
        Live *gone = *at;
        *at = gone->next;
        free(gone);
        break;
      }
    }
  pthread_mutex_unlock(&stub_lock);
  if (!found) stub_log("!%s %s that is not alive", take ? "free of a" : "use of a", kind);
  else if (take) stub_log("-%s", kind);
  return found;
}

__attribute__((unused)) static bool stub_alive(const char *kind, const void *object) {
  bool found = false;
  pthread_mutex_lock(&stub_lock);
  for (Live *live = stub_live; live != NULL && !found; live = live->next)
    found = live->object == object && strcmp(live->kind, kind) == 0;
  pthread_mutex_unlock(&stub_lock);
  return found;
}

/* Forgets all that is alive, as a driver does that ends a context. */
__attribute__((unused)) static void stub_clear(void) {
  for (;;) {
    pthread_mutex_lock(&stub_lock);
    Live *gone = stub_live;
    if (gone != NULL) stub_live = gone->next;
    pthread_mutex_unlock(&stub_lock);
    if (gone == NULL) return;
    stub_log("-%s", gone->kind);
    free(gone);
  }
}

/* The live object of that kind in which `address` lies, and where; null where there is none. */
__attribute__((unused)) static void *stub_around(const char *kind, const void *address, size_t *bytes) {
  void *found = NULL;
  const char *at = address;
  pthread_mutex_lock(&stub_lock);
  for (Live *live = stub_live; live != NULL && found == NULL; live = live->next)
    if (strcmp(live->kind, kind) == 0 && at >= (char *)live->object && at < (char *)live->object + live->bytes) {
      found = live->object;
      *bytes = live->bytes;
    }
  pthread_mutex_unlock(&stub_lock);
  return found;
}

/* Whether `bytes` at `address` lie in one live object of that kind. */
__attribute__((unused)) static bool stub_within(const char *kind, const void *address, size_t bytes) {
  bool found = false;
  const char *at = address;
  pthread_mutex_lock(&stub_lock);
  for (Live *live = stub_live; live != NULL && !found; live = live->next)
    found =
        strcmp(live->kind, kind) == 0 && at >= (char *)live->object && at + bytes <= (char *)live->object + live->bytes;
  pthread_mutex_unlock(&stub_lock);
  if (!found) stub_log("!bytes outside %s", kind);
  return found;
}
#endif
