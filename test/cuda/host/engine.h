// What a kernel's text and the runner agree on: the block that runs, its lanes, and its shared memory with a record of who
// touched each word when. The runner owns all of it (engine.cpp).
#pragma once
#include <stdint.h>

namespace host {

// Last write and last read of a word of shared memory: barrier epoch and lane. A word written in no epoch of this block is
// uninitialised. A reader of SEVERAL means more than one lane; IN_FLIGHT that an asynchronous copy has not been waited for.
struct Word {
  uint32_t writeEpoch, readEpoch;
  uint16_t writer, reader;
};
constexpr uint16_t SEVERAL = 0xffff, IN_FLIGHT = 0xfffe;

struct Block {
  unsigned char* shared;
  int sharedBytes;
  Word* words;
  // The epoch in which the block began, and the one since its last barrier.
  uint32_t firstEpoch, epoch;
  int lane, lanes, group;
};
extern Block block;

// Ends the program with a message that names the line of the kernel's text, the lane and the group.
[[noreturn]] void fail(int line, const char* format, ...);
// Waits until every lane of the block is here.
void barrier(int line);
// Waits until all 32 lanes of the warp are here, in the same operation of the same line; `run` then sees what each brought.
void collect(int line, const char* what, void (*run)(void* const* brought), void* mine);

// When a lane has run to its end.
void lane_ends();

// An argument of a launch.
struct Argument {
  void* data;
  int64_t bytes;
  uint32_t bits;
};
struct Launch {
  const Argument* arguments;
};
// What each library exports: one lane of one block, with the launch's arguments.
typedef void (*Entry)(const Launch*);

}  // namespace host
