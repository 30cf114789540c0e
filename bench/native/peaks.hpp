// What one core can do at most: multiply-adds that depend only on registers, exponentials, a memory copy.
#pragma once
#include <time.h>

#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "vector.hpp"

namespace peaks {

/// Whether time is what the process computed (all threads) instead of what passed.
inline bool processorTime = false;

inline double now() {
  timespec t;
  clock_gettime(processorTime ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_MONOTONIC, &t);
  return 1e9 * double(t.tv_sec) + double(t.tv_nsec);
}

constexpr std::int64_t kSteps = 4'000'000;

// Twelve chains hide the latency: 4 cycles of FMA, or 3 + 3 of multiply then add, at two a cycle. Written as instructions,
// so that no compiler contracts, spills or hoists what is measured. FMA: c = c*x + y. MULADD: c = c*x, then c = c + y.
#define HEDDLE_FMA(I) "vfmadd213ps %[y], %[x], %[c" #I "]\n\t"
#define HEDDLE_MULADD(I) "vmulps %[x], %[c" #I "], %[c" #I "]\n\tvaddps %[y], %[c" #I "], %[c" #I "]\n\t"
#define HEDDLE_ALL(OP) OP(0) OP(1) OP(2) OP(3) OP(4) OP(5) OP(6) OP(7) OP(8) OP(9) OP(10) OP(11)
#define HEDDLE_CHAINS(NAME, TARGET, VECTOR, LANES, SET, OP)                                             \
  __attribute__((target(TARGET), noinline)) inline double NAME() {                                      \
    const VECTOR x = SET(0.9999f), y = SET(1e-5f);                                                      \
    VECTOR c0 = SET(0.5f), c1 = c0, c2 = c0, c3 = c0, c4 = c0, c5 = c0;                                 \
    VECTOR c6 = c0, c7 = c0, c8 = c0, c9 = c0, c10 = c0, c11 = c0;                                      \
    for (std::int64_t i = 0; i < kSteps; i++)                                                           \
      __asm__ volatile(HEDDLE_ALL(OP)                                                                   \
                       : [c0] "+v"(c0), [c1] "+v"(c1), [c2] "+v"(c2), [c3] "+v"(c3), [c4] "+v"(c4),     \
                         [c5] "+v"(c5), [c6] "+v"(c6), [c7] "+v"(c7), [c8] "+v"(c8), [c9] "+v"(c9),     \
                         [c10] "+v"(c10), [c11] "+v"(c11)                                               \
                       : [x] "v"(x), [y] "v"(y));                                                       \
    return 2.0 * LANES * 12 * kSteps;                                                                   \
  }

HEDDLE_CHAINS(fma128, "avx2,fma", __m128, 4, _mm_set1_ps, HEDDLE_FMA)
HEDDLE_CHAINS(fma256, "avx2,fma", __m256, 8, _mm256_set1_ps, HEDDLE_FMA)
HEDDLE_CHAINS(fma512, "avx512f", __m512, 16, _mm512_set1_ps, HEDDLE_FMA)
HEDDLE_CHAINS(mulAdd128, "avx2,fma", __m128, 4, _mm_set1_ps, HEDDLE_MULADD)
HEDDLE_CHAINS(mulAdd256, "avx2,fma", __m256, 8, _mm256_set1_ps, HEDDLE_MULADD)
#undef HEDDLE_CHAINS
#undef HEDDLE_ALL
#undef HEDDLE_MULADD
#undef HEDDLE_FMA

__attribute__((noinline)) inline double exponentials() {
  alignas(32) float x[1024];
  for (int i = 0; i < 1024; i++) x[i] = -float(i % 97) / 7.0f;
  __m256 sum = _mm256_setzero_ps();
  constexpr int times = 4000;
  for (int t = 0; t < times; t++) {
    for (int i = 0; i < 1024; i += 8) sum = _mm256_add_ps(sum, exp2v(_mm256_load_ps(x + i)));
    __asm__ volatile("" : "+x"(sum) : : "memory");
  }
  return 1024.0 * times;
}

inline bool supported(const std::string& name) {
  return name != "fma512" || __builtin_cpu_supports("avx512f");
}

/// Units per nanosecond, all threads together: GFLOP/s, exponentials/ns, or GB/s copied (bytes once, not twice).
inline double measure(const std::string& name, int threads) {
  std::vector<double> units(threads, 0.0);
  std::vector<std::vector<char>> memory;
  constexpr std::size_t bytes = std::size_t(96) << 20;
  if (name == "copy") memory.assign(2 * threads, std::vector<char>(bytes, 1));
  auto work = [&](int t) {
    if (name == "fma128") units[t] = fma128();
    if (name == "fma256") units[t] = fma256();
    if (name == "fma512") units[t] = fma512();
    if (name == "mulAdd128") units[t] = mulAdd128();
    if (name == "mulAdd256") units[t] = mulAdd256();
    if (name == "exp") units[t] = exponentials();
    if (name == "copy") {
      std::memcpy(memory[2 * t].data(), memory[2 * t + 1].data(), bytes);
      units[t] = double(bytes);
    }
  };
  const double start = now();
  std::vector<std::thread> others;
  for (int t = 1; t < threads; t++) others.emplace_back(work, t);
  work(0);
  for (auto& t : others) t.join();
  const double ns = now() - start;
  double sum = 0;
  for (double u : units) sum += u;
  return sum / ns;
}

}  // namespace peaks
