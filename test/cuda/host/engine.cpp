// Runs a job: kernels from shared libraries, block after block, the lanes of a block as fibers. Reads the job from stdin, writes
// one byte (0: done, 1: failed) and then the outputs or a message to stdout. See job.ts for the format.
#include "engine.h"

#include <dlfcn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <string>
#include <vector>

namespace host {
Block block;
namespace {

constexpr int MOST_LANES = 1024, WARP = 32;
constexpr size_t STACK = 256 << 10;

enum class State { ready, atBarrier, atWarp, done };
struct Fiber {
  void* stackPointer;
  State state;
  int line;
  const char* what;
  void (*run)(void* const*);
  void* mine;
};
Fiber fibers[MOST_LANES];
void* scheduler;
const Launch* launch;
Entry entry;
const char* kernelName = "";

void sendAll(const void* data, size_t bytes) {
  for (const char* p = (const char*)data; bytes > 0;) {
    const ssize_t n = write(1, p, bytes);
    if (n <= 0) _exit(4);
    p += n, bytes -= (size_t)n;
  }
}
[[noreturn]] void give_up(const std::string& message) {
  const char failed = 1;
  sendAll(&failed, 1);
  sendAll(message.data(), message.size());
  _exit(0);
}

// ---- Fibers: switch(save, load) leaves the present stack in *save and goes on with `load` ---------------------------------

#if !defined(__x86_64__)
#error "the fibers of test/cuda/host are written for x86-64"
#endif
extern "C" void heddle_switch(void** save, void* load);
asm(R"(
.text
.globl heddle_switch
heddle_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
)");

void yield(State state) {
  Fiber& f = fibers[block.lane];
  f.state = state;
  heddle_switch(&f.stackPointer, scheduler);
}
void lane_begins() {
  entry(launch);
  lane_ends();
  yield(State::done);
  abort();
}

char* stacks() {
  static char* base = nullptr;
  if (base != nullptr) return base;
  base = (char*)mmap(nullptr, MOST_LANES * STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (base == MAP_FAILED) give_up("no memory for the lanes' stacks");
  // A stack that overflows meets a page that nobody may touch.
  for (int i = 0; i < MOST_LANES; i++) mprotect(base + i * STACK, 4096, PROT_NONE);
  return base;
}
void prepare(int lane) {
  void** top = (void**)(stacks() + (lane + 1) * STACK) - 2;
  *--top = nullptr;
  *--top = (void*)lane_begins;
  top -= 6;
  fibers[lane] = Fiber{top, State::ready, 0, "", nullptr, nullptr};
}
void resume(int lane) {
  block.lane = lane;
  heddle_switch(&scheduler, fibers[lane].stackPointer);
}

// ---- Blocks ---------------------------------------------------------------------------------------------------------------

std::string standing(int lane) {
  const Fiber& f = fibers[lane];
  char text[160];
  const char* where = f.state == State::done ? "has ended" : f.state == State::atBarrier ? "waits at a barrier" : f.what;
  if (f.state == State::done) snprintf(text, sizeof text, "lane %d %s", lane, where);
  else snprintf(text, sizeof text, "lane %d: %s, line %d", lane, where, f.line);
  return text;
}
[[noreturn]] void diverged(int a, int b) {
  char where[160];
  snprintf(where, sizeof where, "%s, group %d: lanes part: ", kernelName, block.group);
  give_up(where + standing(a) + "; " + standing(b));
}

// Lets warps go on whose lanes are all in one operation; whether there were any.
bool warps() {
  bool some = false;
  for (int first = 0; first < block.lanes; first += WARP) {
    const Fiber& f = fibers[first];
    if (f.state != State::atWarp) continue;
    bool all = true;
    void* brought[WARP];
    for (int i = 0; i < WARP; i++) {
      const Fiber& other = fibers[first + i];
      all = all && other.state == State::atWarp && other.line == f.line && other.run == f.run;
      brought[i] = other.mine;
    }
    if (!all) continue;
    block.lane = first;
    f.run(brought);
    for (int i = 0; i < WARP; i++) fibers[first + i].state = State::ready;
    some = true;
  }
  return some;
}

void run_block(int group) {
  block.group = group;
  block.firstEpoch = ++block.epoch;
  memset(block.shared, 0xff, (size_t)block.sharedBytes);
  for (int i = 0; i < block.lanes; i++) prepare(i);
  for (;;) {
    for (int i = 0; i < block.lanes; i++)
      if (fibers[i].state == State::ready) resume(i);
    if (warps()) continue;
    const Fiber& first = fibers[0];
    for (int i = 1; i < block.lanes; i++) {
      const Fiber& f = fibers[i];
      if (f.state != first.state || (f.state != State::done && f.line != first.line)) diverged(0, i);
    }
    if (first.state == State::done) return;
    if (first.state == State::atWarp) diverged(0, 1);
    ++block.epoch;
    for (int i = 0; i < block.lanes; i++) fibers[i].state = State::ready;
  }
}
}  // namespace

void fail(int line, const char* format, ...) {
  char what[400], where[200];
  va_list list;
  va_start(list, format);
  vsnprintf(what, sizeof what, format, list);
  va_end(list);
  snprintf(where, sizeof where, "%s, line %d, group %d, lane %d: ", kernelName, line, block.group, block.lane);
  give_up(std::string(where) + what);
}
void barrier(int line) {
  fibers[block.lane].line = line;
  yield(State::atBarrier);
}
void collect(int line, const char* what, void (*run)(void* const*), void* mine) {
  Fiber& f = fibers[block.lane];
  f.line = line, f.what = what, f.run = run, f.mine = mine;
  yield(State::atWarp);
}

// ---- Jobs -----------------------------------------------------------------------------------------------------------------

namespace {
template <typename T> T take() {
  T value;
  if (fread(&value, sizeof value, 1, stdin) != 1) give_up("the job ends too early");
  return value;
}
std::string take_text() {
  std::string text(take<uint32_t>(), ' ');
  if (fread(&text[0], 1, text.size(), stdin) != text.size()) give_up("the job ends too early");
  return text;
}
struct Memory {
  char* data;
  uint64_t bytes;
};
Memory take_memory() {
  const uint64_t bytes = take<uint64_t>();
  const uint32_t fill = take<uint32_t>();
  // Pages that nobody touches cost nothing, so a test may have buffers larger than memory.
  char* data = (char*)mmap(nullptr, bytes + 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (data == MAP_FAILED) give_up("no memory for a buffer");
  if (fill == 0 && bytes > 0 && fread(data, 1, bytes, stdin) != bytes) give_up("the job ends too early");
  if (fill == 1) memset(data, 0xff, bytes);
  return {data, bytes};
}
struct Library {
  std::string name;
  Entry entry;
};
Library take_library() {
  const std::string name = take_text(), path = take_text();
  void* handle = dlopen(path.c_str(), RTLD_NOW);
  if (handle == nullptr) give_up(dlerror());
  return {name, (Entry)dlsym(handle, "heddle_entry")};
}

int run_job() {
  std::vector<Library> libraries(take<uint32_t>());
  for (Library& l : libraries) l = take_library();
  std::vector<Memory> buffers(take<uint32_t>());
  for (Memory& b : buffers) b = take_memory();
  for (uint32_t steps = take<uint32_t>(); steps > 0; steps--) {
    const Library& library = libraries.at(take<uint32_t>());
    entry = library.entry;
    kernelName = library.name.c_str();
    block.lanes = (int)take<uint32_t>();
    block.sharedBytes = (int)take<uint32_t>();
    const int groups = take<int32_t>();
    std::vector<Argument> arguments(take<uint32_t>());
    for (Argument& a : arguments) {
      const uint32_t kind = take<uint32_t>(), value = take<uint32_t>();
      a = kind == 1 ? Argument{nullptr, 0, value} : Argument{buffers.at(value).data, (int64_t)buffers.at(value).bytes, 0};
    }
    if (block.lanes % WARP != 0 || block.lanes > MOST_LANES) give_up("a block of an odd number of lanes");
    std::vector<unsigned char> shared((size_t)block.sharedBytes + 16);
    std::vector<Word> words((size_t)block.sharedBytes / 4 + 4, Word{0, 0, 0, 0});
    block.shared = shared.data() + (16 - (uintptr_t)shared.data() % 16) % 16;
    block.words = words.data();
    Launch all{arguments.data()};
    launch = &all;
    for (int g = 0; g < groups; g++) run_block(g);
  }
  std::vector<uint32_t> outputs(take<uint32_t>());
  for (uint32_t& o : outputs) o = take<uint32_t>();
  const char done = 0;
  sendAll(&done, 1);
  for (const uint32_t o : outputs) sendAll(buffers.at(o).data, buffers.at(o).bytes);
  return 0;
}
}  // namespace
}  // namespace host

int main() { return host::run_job(); }
