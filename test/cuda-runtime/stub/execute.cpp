// Runs kernels inside the stub of the driver: the engine of test/cuda/host, which is a program that ends when a check fails, as a
// library that goes on.
#include <dlfcn.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <map>
#include <string>
#include <vector>

#include "execute.h"

namespace {
jmp_buf failed;
std::string said;
// A fiber leaves its stack for good; the next block begins with new ones.
[[noreturn]] void give_up_instead(int) { longjmp(failed, 1); }
ssize_t say_instead(int, const void* text, size_t bytes) {
  said.append((const char*)text, bytes);
  return (ssize_t)bytes;
}
}  // namespace
#define main unused_main
#define _exit give_up_instead
#define write say_instead
#include "engine.cpp"
#undef main
#undef _exit
#undef write

namespace {
struct Library {
  void* handle;
  host::Entry entry;
  const char* name;
  // A letter for each parameter: p for a pointer, 4 for four bytes.
  const char* layout;
};

// The image's length: the driver is not told it either. A linker puts the table of sections last.
size_t length_of(const unsigned char* elf) {
  uint64_t sections;
  uint16_t size, count;
  memcpy(&sections, elf + 40, 8);
  memcpy(&size, elf + 58, 2);
  memcpy(&count, elf + 60, 2);
  return sections + (size_t)size * count;
}
size_t size_of(char letter) { return letter == 'p' ? 8 : 4; }
size_t offset_of(const char* layout, size_t index) {
  size_t at = 0;
  for (size_t i = 0;; i++) {
    const size_t size = size_of(layout[i]);
    at = (at + size - 1) / size * size;
    if (i == index) return at;
    at += size;
  }
}
// Kernels call what stands here, but the shim opens a driver for itself alone.
void show_symbols() {
  Dl_info info;
  if (dladdr((void*)show_symbols, &info) != 0) dlopen(info.dli_fname, RTLD_NOW | RTLD_GLOBAL | RTLD_NOLOAD);
}
}  // namespace

void* execute_load(const void* image) {
  show_symbols();
  if (memcmp(image, "\x7f" "ELF", 4) != 0) return nullptr;
  // The loader tells libraries apart by their names.
  char path[] = "/tmp/heddle-kernel-XXXXXX";
  const int file = mkstemp(path);
  const size_t bytes = length_of((const unsigned char*)image);
  if (file < 0) return nullptr;
  const bool whole = write(file, image, bytes) == (ssize_t)bytes;
  close(file);
  void* handle = whole ? dlopen(path, RTLD_NOW | RTLD_LOCAL) : nullptr;
  if (whole && handle == nullptr) fprintf(stderr, "the stub cannot load a kernel: %s\n", dlerror());
  unlink(path);
  if (handle == nullptr) return nullptr;
  const auto text = [handle](const char* name) {
    const auto function = (const char* (*)())dlsym(handle, name);
    return function == nullptr ? "" : function();
  };
  const auto entry = (host::Entry)dlsym(handle, "heddle_entry");
  if (entry != nullptr) return new Library{handle, entry, text("heddle_name"), text("heddle_layout")};
  dlclose(handle);
  return nullptr;
}
void execute_unload(void* library) {
  dlclose(((Library*)library)->handle);
  delete (Library*)library;
}
const char* execute_name(void* library) { return ((Library*)library)->name; }
bool execute_parameter(void* library, size_t index, size_t* offset, size_t* bytes) {
  const char* layout = ((Library*)library)->layout;
  if (index >= strlen(layout)) return false;
  *offset = offset_of(layout, index);
  *bytes = size_of(layout[index]);
  return true;
}

const char* execute_launch(void* library, const Launched* launched) {
  static std::string why;
  const Library& l = *(Library*)library;
  const size_t count = strlen(l.layout);
  std::vector<host::Argument> arguments(count);
  for (size_t i = 0; i < count; i++) {
    const unsigned char* at = launched->parameters + offset_of(l.layout, i);
    host::Argument& a = arguments[i];
    a = {nullptr, 0, 0};
    if (l.layout[i] == '4') {
      memcpy(&a.bits, at, 4);
      continue;
    }
    memcpy(&a.data, at, 8);
    size_t bytes = 0;
    char* start = (char*)execute_allocation(a.data, &bytes);
    if (start == nullptr) {
      why = std::string(l.name) + ": parameter " + std::to_string(i) + " points to no memory";
      return why.c_str();
    }
    a.bytes = start + bytes - (char*)a.data;
    if ((uintptr_t)a.data % 16 != 0) return "a pointer is not aligned to 16 bytes";
  }
  if (launched->block % 32 != 0 || launched->block > 1024) return "a block of an odd number of threads";
  // As the runner of test/cuda/host does.
  std::vector<unsigned char> shared((size_t)launched->shared + 16);
  std::vector<host::Word> words((size_t)launched->shared / 4 + 4, host::Word{0, 0, 0, 0});
  host::Launch all{arguments.data()};
  host::launch = &all;
  host::entry = l.entry;
  host::kernelName = l.name;
  host::block.lanes = (int)launched->block;
  host::block.sharedBytes = (int)launched->shared;
  host::block.shared = shared.data() + (16 - (uintptr_t)shared.data() % 16) % 16;
  host::block.words = words.data();
  said.clear();
  if (setjmp(failed) == 0) {
    for (unsigned group = 0; group < launched->grid; group++) host::run_block((int)group);
    return nullptr;
  }
  // The first byte tells the runner's caller that it failed.
  why = said.size() > 1 ? said.substr(1) : "a kernel failed";
  return why.c_str();
}
