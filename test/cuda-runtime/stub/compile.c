/* Part of libnvrtc.c: CUDA C++ to a shared library that the stub of the driver loads. CXX, FLAGS, HOST and TRAILER are given
 * by whoever compiles this. */
#include <errno.h>
#include <spawn.h>
#include <sys/stat.h>
#include <sys/wait.h>

extern char **environ;

static bool put(const char *path, const char *text) {
  FILE *file = fopen(path, "w");
  bool ok = file != NULL && fputs(text, file) >= 0;
  return file != NULL && fclose(file) == 0 && ok;
}

static unsigned char *get(const char *path, size_t *bytes) {
  struct stat about;
  FILE *file = fopen(path, "r");
  if (file == NULL || fstat(fileno(file), &about) != 0) return NULL;
  unsigned char *data = malloc((size_t)about.st_size + 1);
  *bytes = fread(data, 1, (size_t)about.st_size, file);
  data[*bytes] = 0;
  fclose(file);
  return data;
}

/* The name behind __launch_bounds__(…), and its length. */
static const char *kernel_of(const char *source, int *length) {
  const char *at = strstr(source, "__launch_bounds__(");
  at = at == NULL ? NULL : strchr(at, ')');
  if (at == NULL) return NULL;
  at += 1 + strspn(at + 1, " \n");
  *length = (int)strcspn(at, "( \n");
  return at;
}

static bool run(char *const *arguments, const char *log) {
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, 1, log, O_WRONLY | O_CREAT | O_TRUNC, 0600);
  posix_spawn_file_actions_adddup2(&actions, 1, 2);
  pid_t child;
  int status = posix_spawnp(&child, arguments[0], &actions, NULL, arguments, environ);
  posix_spawn_file_actions_destroy(&actions);
  if (status != 0) return false;
  while (waitpid(child, &status, 0) < 0)
    if (errno != EINTR) return false;
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/* As ptxas says what a kernel takes. */
static void say_usage(Program *program, const char *kernel, int length) {
  snprintf(program->log, sizeof program->log,
           "ptxas info    : Compiling entry function '%.*s' for 'sm_90'\n"
           "ptxas info    : Function properties for %.*s\n"
           "    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads\n"
           "ptxas info    : Used 64 registers, used 1 barriers\n",
           length, kernel, length, kernel);
}

static bool compile_for_host(Program *program) {
  int length = 0;
  const char *kernel = kernel_of(program->source, &length);
  char folder[] = "/tmp/heddle-nvrtc-stub-XXXXXX";
  if (kernel == NULL || mkdtemp(folder) == NULL) {
    snprintf(program->log, sizeof program->log, "%s(1): error: there is no kernel\n", program->name);
    return false;
  }
  char source[64], library[64], log[64], define[256];
  snprintf(source, sizeof source, "%s/kernel.cpp", folder);
  snprintf(library, sizeof library, "%s/kernel.so", folder);
  snprintf(log, sizeof log, "%s/log", folder);
  snprintf(define, sizeof define, "-DKERNEL=%.*s", length, kernel);
  size_t room = strlen(program->source) + sizeof TRAILER + 64;
  char *text = malloc(room);
  snprintf(text, room, "%s\n#include \"%s\"\n", program->source, TRAILER);
  char flags[] = FLAGS, *arguments[40] = {CXX}, *next;
  int count = 1;
  for (char *flag = strtok_r(flags, " ", &next); flag != NULL; flag = strtok_r(NULL, " ", &next))
    arguments[count++] = flag;
  char *rest[] = {"-fPIC", "-shared", "-w", "-include", HOST, define, source, "-o", library, NULL};
  for (int i = 0; i < 10; i++) arguments[count++] = rest[i];
  bool ok = put(source, text) && run(arguments, log);
  free(text);
  if (ok) program->image = get(library, &program->imageBytes);
  if (program->image != NULL) say_usage(program, kernel, length);
  else {
    size_t bytes;
    unsigned char *said = get(log, &bytes);
    snprintf(program->log, sizeof program->log, "%s", said == NULL ? "error: no compiler" : (char *)said);
    free(said);
  }
  const char *files[] = {source, library, log};
  for (int i = 0; i < 3; i++) unlink(files[i]);
  rmdir(folder);
  return program->image != NULL;
}
