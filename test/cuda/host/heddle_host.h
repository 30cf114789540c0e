// A kernel's CUDA C++ on the CPU: included before the text (g++ -include), which leaves out its own prelude where HEDDLE_HOST is
// defined. Every word of codegen/cuda/prelude.ts has a definition here that checks what a device would not: bounds of buffers and
// shared arrays, alignment, reads of what nobody wrote, races between two barriers, barriers and warp operations that not all
// lanes reach. Lines in messages are lines of the text.
#pragma once
#define HEDDLE_HOST 1
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "engine.h"

#define __global__
#define __device__
#define __constant__
#define __launch_bounds__(...)
#define LINE int line = __builtin_LINE()

typedef long long i64;
struct alignas(16) vec4 { float x, y, z, w; };
struct alignas(16) ivec4 { int x, y, z, w; };
struct bvec4 { bool x, y, z, w; };
struct f16 { unsigned short bits; };
struct bf16 { unsigned short bits; };

struct Index { unsigned x; };
#define threadIdx (Index{(unsigned)host::block.lane})
#define blockIdx (Index{(unsigned)host::block.group})

inline float __int_as_float(int bits) { float x; memcpy(&x, &bits, 4); return x; }
inline int __float_as_int(float x) { int bits; memcpy(&bits, &x, 4); return bits; }
inline int min(int a, int b) { return a < b ? a : b; }
inline int max(int a, int b) { return a > b ? a : b; }
inline i64 min(i64 a, i64 b) { return a < b ? a : b; }
inline i64 max(i64 a, i64 b) { return a > b ? a : b; }
inline void __syncthreads(LINE) { host::barrier(line); }

// Off by up to 2 ulp either way, as the device may be: what is right here is right for any of its answers.
float exp2_approx(float x);

// ---- Memory: defined in memory.cpp, once, for all kernels -----------------------------------------------------------------

template <typename T> struct In { const T* data; i64 length; };
template <typename T> struct Out { T* data; i64 length; };
template <typename T> struct Shared { int byte, length; };

// One element, four from a multiple of four on, four from anywhere.
#define READERS(P, T, N, V)      \
  N at(P<T> p, i64 i, LINE);     \
  V at4(P<T> p, i64 i, LINE);    \
  V at4_any(P<T> p, i64 i, LINE);
#define WRITERS(P, T, N, V)              \
  void put(P<T> p, i64 i, N x, LINE);    \
  void put4(P<T> p, i64 i, V v, LINE);   \
  void put4_any(P<T> p, i64 i, V v, LINE);
#define MEMORY(READ, WRITE)                                                    \
  READ(In, float, float, vec4) READ(In, int, int, ivec4)                       \
  READ(In, f16, float, vec4) READ(In, bf16, float, vec4)                       \
  READ(Out, float, float, vec4) READ(Out, int, int, ivec4)                     \
  READ(Out, f16, float, vec4) READ(Out, bf16, float, vec4)                     \
  WRITE(Out, float, float, vec4) WRITE(Out, int, int, ivec4)                   \
  WRITE(Out, f16, float, vec4) WRITE(Out, bf16, float, vec4)                   \
  READ(Shared, float, float, vec4) READ(Shared, int, int, ivec4)               \
  WRITE(Shared, float, float, vec4) WRITE(Shared, int, int, ivec4)
MEMORY(READERS, WRITERS)

namespace host { void check_array(int byte, int bytes, int line); }
template <typename T> inline Shared<T> shared(int byte, int length, LINE) {
  host::check_array(byte, length * (int)sizeof(T), line);
  return {byte, length};
}
// Tables of constants.
template <typename T, int n> inline const T* entries(const T (&table)[n], int i, int count, int line) {
  if (i < 0 || i + count > n) host::fail(line, "element %d of a table of %d", i, n);
  return table + i;
}
inline vec4 four(const float* p) { return {p[0], p[1], p[2], p[3]}; }
inline ivec4 four(const int* p) { return {p[0], p[1], p[2], p[3]}; }
template <typename T, int n> inline T at(const T (&table)[n], int i, LINE) { return *entries(table, i, 1, line); }
template <typename T, int n> inline auto at4_any(const T (&table)[n], int i, LINE) { return four(entries(table, i, 4, line)); }
template <typename T, int n> inline auto at4(const T (&table)[n], int i, LINE) {
  if ((uintptr_t)(table + i) % 16 != 0) host::fail(line, "four entries of a table from %d on are read as one", i);
  return at4_any(table, i, line);
}

// ---- Warps ----------------------------------------------------------------------------------------------------------------

template <typename T> struct Exchanged { T mine, theirs; int mask; };
template <typename T> inline T exchange(T x, int mask, LINE) {
  Exchanged<T> e{x, x, mask};
  host::collect(line, "exchange", [](void* const* brought) {
    for (int lane = 0; lane < 32; lane++) {
      Exchanged<T>& own = *(Exchanged<T>*)brought[lane];
      own.theirs = ((Exchanged<T>*)brought[lane ^ own.mask])->mine;
    }
  }, &e);
  return e.theirs;
}

// Matrix units: PTX's fragments, see src/warp.ts. Registers are arrays of the lane.
#define LDMATRIX(n)                                                  \
  void ldmatrix_##n(int* m, Shared<int> p, int word, LINE);          \
  void ldmatrix_trans_##n(int* m, Shared<int> p, int word, LINE);
LDMATRIX(1) LDMATRIX(2) LDMATRIX(4)
void mma_k16_f16(float* c, const int* a, const int* b, LINE);
void mma_k16_bf16(float* c, const int* a, const int* b, LINE);
void mma_k8_f16(float* c, const int* a, const int* b, LINE);
void mma_k8_bf16(float* c, const int* a, const int* b, LINE);

// Copies beside the lanes: what they bring is not there before it has been waited for.
void copy_async(Shared<int> to, int word, In<f16> from, i64 i, bool inside, LINE);
void copy_async(Shared<int> to, int word, In<bf16> from, i64 i, bool inside, LINE);
void commit();
void reread_lane(int* lane);
void wait_for(int groups);
template <int groups> inline void wait() { wait_for(groups); }

void pack_f16(int* pair, float low, float high);
void pack_bf16(int* pair, float low, float high);
void unpack_f16(float* x, int pair);
void unpack_bf16(float* x, int pair);
#define LOADS_PAIR(P, T) void load_pair(float* x, P<T> p, i64 i, LINE);
#define STORES_PAIR(P, T) void store_pair(P<T> p, i64 i, float low, float high, LINE);
#define PAIRS(LOAD, STORE)                                                     \
  LOAD(In, float) LOAD(In, f16) LOAD(In, bf16)                                 \
  LOAD(Out, float) LOAD(Out, f16) LOAD(Out, bf16)                              \
  STORE(Out, float) STORE(Out, f16) STORE(Out, bf16)
PAIRS(LOADS_PAIR, STORES_PAIR)

// ---- Launching ------------------------------------------------------------------------------------------------------------

namespace host {
template <typename T> struct Bind;
template <typename T> struct Bind<In<T>> {
  static In<T> of(const Argument& a) { return {(const T*)a.data, a.bytes / (int64_t)sizeof(T)}; }
};
template <typename T> struct Bind<Out<T>> {
  static Out<T> of(const Argument& a) { return {(T*)a.data, a.bytes / (int64_t)sizeof(T)}; }
};
template <> struct Bind<int> { static int of(const Argument& a) { return (int)a.bits; } };
template <> struct Bind<float> { static float of(const Argument& a) { return __int_as_float((int)a.bits); } };

template <int... i> struct Indices {};
template <int n, int... i> struct Count : Count<n - 1, n - 1, i...> {};
template <int... i> struct Count<0, i...> { typedef Indices<i...> type; };
template <typename... A, int... i> inline void call(void (*kernel)(A...), const Launch* l, Indices<i...>) {
  kernel(Bind<A>::of(l->arguments[i])...);
}
template <typename... A> inline void run(void (*kernel)(A...), const Launch* l) {
  call(kernel, l, typename Count<sizeof...(A)>::type());
}
}  // namespace host
// Stands after the text, by the harness.
#define HEDDLE_ENTRY(kernel) \
  extern "C" void heddle_entry(const host::Launch* l) { host::run(kernel, l); }
