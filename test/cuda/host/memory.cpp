// Memory as kernels on the host see it: every access is checked before it is done.
#include "heddle_host.h"

#include <vector>

float exp2_approx(float x) {
  const float y = exp2f(x);
  if (!(y >= 1.17549435e-38f)) return 0.0f;
  if (x == 0.0f || y > 3e38f) return y;
  const uint32_t hash = (uint32_t)__float_as_int(x) * 2654435761u;
  return __int_as_float(__float_as_int(y) + (int)((hash >> 16) % 5) - 2);
}

namespace {

// ---- 16-bit numbers -------------------------------------------------------------------------------------------------------

float widen(float x) { return x; }
int widen(int x) { return x; }
float widen(bf16 x) { return __int_as_float((int)((uint32_t)x.bits << 16)); }
float widen(f16 x) {
  const int exponent = x.bits >> 10 & 31, fraction = x.bits & 1023;
  const float sign = x.bits & 0x8000 ? -1.0f : 1.0f;
  if (exponent == 31) return fraction ? NAN : sign * INFINITY;
  return sign * (exponent ? ldexpf((float)(1024 + fraction), exponent - 25) : ldexpf((float)fraction, -24));
}
void narrow(float& to, float x) { to = x; }
void narrow(int& to, int x) { to = x; }
void narrow(bf16& to, float x) {
  const uint32_t b = (uint32_t)__float_as_int(x);
  to.bits = (b & 0x7fffffff) > 0x7f800000 ? 0x7fff : (unsigned short)((b + 0x7fff + (b >> 16 & 1)) >> 16);
}
void narrow(f16& to, float x) {
  const uint32_t b = (uint32_t)__float_as_int(x), size = b & 0x7fffffff;
  const uint32_t sign = b >> 16 & 0x8000;
  if (size > 0x7f800000) to.bits = 0x7fff;
  else if (size >= 0x477ff000) to.bits = (unsigned short)(sign | 0x7c00);
  else if (size >= 0x38800000) to.bits = (unsigned short)(sign | (size - 0x38000000 + 0xfff + (size >> 13 & 1)) >> 13);
  else to.bits = (unsigned short)(sign | (uint32_t)(__float_as_int(fabsf(x) + 0.5f) - 0x3f000000));
}

template <typename T> vec4 four(const T* p) { return {widen(p[0]), widen(p[1]), widen(p[2]), widen(p[3])}; }
template <typename T, typename V> void store(T* p, V v) {
  narrow(p[0], v.x), narrow(p[1], v.y), narrow(p[2], v.z), narrow(p[3], v.w);
}

// ---- Places: where `count` elements from i on lie, or a failure -----------------------------------------------------------

enum class Way { read, write };

template <typename T> const T* place(In<T> p, i64 i, int count, Way, int line) {
  if (i < 0 || i + count > p.length) host::fail(line, "element %lld of a buffer of %lld", i, p.length);
  return p.data + i;
}
template <typename T> T* place(Out<T> p, i64 i, int count, Way, int line) {
  if (i < 0 || i + count > p.length) host::fail(line, "element %lld of a buffer of %lld", i, p.length);
  return p.data + i;
}
using host::block;
void reads(int word, int line) {
  host::Word& w = block.words[word];
  if (w.writeEpoch < block.firstEpoch) host::fail(line, "word %d of shared memory is read and nobody wrote it", word);
  if (w.writer == host::IN_FLIGHT) host::fail(line, "word %d of shared memory is read while it is copied", word);
  if (w.writeEpoch == block.epoch && w.writer != block.lane)
    host::fail(line, "word %d of shared memory is read while lane %d writes it", word, w.writer);
  if (w.readEpoch != block.epoch) w.readEpoch = block.epoch, w.reader = (uint16_t)block.lane;
  else if (w.reader != block.lane) w.reader = host::SEVERAL;
}
void writes(int word, int line) {
  host::Word& w = block.words[word];
  if (w.writer == host::IN_FLIGHT && w.writeEpoch >= block.firstEpoch)
    host::fail(line, "word %d of shared memory is written while it is copied", word);
  if (w.writeEpoch == block.epoch && w.writer != block.lane)
    host::fail(line, "word %d of shared memory is written by lane %d too", word, w.writer);
  if (w.readEpoch == block.epoch && w.reader != block.lane)
    host::fail(line, "word %d of shared memory is written while another lane reads it", word);
  w.writeEpoch = block.epoch, w.writer = (uint16_t)block.lane;
}
template <typename T> T* place(Shared<T> p, i64 i, int count, Way way, int line) {
  if (i < 0 || i + count > p.length) host::fail(line, "element %lld of a shared array of %d", i, p.length);
  const int word = p.byte / 4 + (int)i;
  for (int k = 0; k < count; k++) way == Way::read ? reads(word + k, line) : writes(word + k, line);
  return (T*)block.shared + word;
}
int even(i64 i, int line) {
  if (i % 2 != 0) host::fail(line, "two elements from %lld on are accessed as one", i);
  return 2;
}
void whole(i64 i, int line) {
  if (i % 4 != 0) host::fail(line, "four elements from %lld on are accessed as one", i);
}
}  // namespace

#define READING(P, T, N, V)                                                                                \
  N at(P<T> p, i64 i, int line) { return widen(*place(p, i, 1, Way::read, line)); }                         \
  V at4(P<T> p, i64 i, int line) { return whole(i, line), four(place(p, i, 4, Way::read, line)); }          \
  V at4_any(P<T> p, i64 i, int line) { return four(place(p, i, 4, Way::read, line)); }
#define WRITING(P, T, N, V)                                                                                \
  void put(P<T> p, i64 i, N x, int line) { narrow(*place(p, i, 1, Way::write, line), x); }                  \
  void put4(P<T> p, i64 i, V v, int line) { whole(i, line), store(place(p, i, 4, Way::write, line), v); }   \
  void put4_any(P<T> p, i64 i, V v, int line) { store(place(p, i, 4, Way::write, line), v); }
MEMORY(READING, WRITING)

#define LOADING_PAIR(P, T) \
  void load_pair(float* x, P<T> p, i64 i, int line) { const T* at = place(p, i, even(i, line), Way::read, line); x[0] = widen(at[0]), x[1] = widen(at[1]); }
#define STORING_PAIR(P, T) \
  void store_pair(P<T> p, i64 i, float low, float high, int line) { T* at = place(p, i, even(i, line), Way::write, line); narrow(at[0], low), narrow(at[1], high); }
PAIRS(LOADING_PAIR, STORING_PAIR)

// ---- Words of two 16-bit numbers ------------------------------------------------------------------------------------------

namespace {
template <typename T> int packed(float low, float high) {
  T l, h;
  narrow(l, low), narrow(h, high);
  return (int)((uint32_t)l.bits | (uint32_t)h.bits << 16);
}
template <typename T> float half_of(int word, int which) { return widen(T{(unsigned short)((uint32_t)word >> 16 * which)}); }
}  // namespace
void pack_f16(int* pair, float low, float high) { *pair = packed<f16>(low, high); }
void pack_bf16(int* pair, float low, float high) { *pair = packed<bf16>(low, high); }
void unpack_f16(float* x, int pair) { x[0] = half_of<f16>(pair, 0), x[1] = half_of<f16>(pair, 1); }
void unpack_bf16(float* x, int pair) { x[0] = half_of<bf16>(pair, 0), x[1] = half_of<bf16>(pair, 1); }

// ---- Matrices -------------------------------------------------------------------------------------------------------------

namespace {
struct Load {
  Shared<int> from;
  int word, line;
  int* to;
};
template <int count, bool turned> void load_matrices(void* const* brought) {
  for (int m = 0; m < count; m++) {
    uint16_t matrix[8][8];
    for (int r = 0; r < 8; r++) {
      const Load& l = *(Load*)brought[8 * m + r];
      if (l.word % 4 != 0) host::fail(l.line, "a row of a matrix from word %d on is not aligned", l.word);
      if (l.word < 0 || l.word + 4 > l.from.length) host::fail(l.line, "word %d of a shared array of %d", l.word, l.from.length);
      const int word = l.from.byte / 4 + l.word;
      for (int k = 0; k < 4; k++) {
        // Lanes get what others wrote: no lane may have written it since the last barrier.
        if (block.words[word + k].writeEpoch == block.epoch)
          host::fail(l.line, "word %d of shared memory is loaded as a matrix before a barrier", word + k);
        reads(word + k, l.line);
        block.words[word + k].reader = host::SEVERAL;
      }
      memcpy(matrix[r], block.shared + 4 * word, 16);
    }
    for (int lane = 0; lane < 32; lane++) {
      const int g = lane / 4, q = lane % 4 * 2;
      const uint32_t low = turned ? matrix[q][g] : matrix[g][q], high = turned ? matrix[q + 1][g] : matrix[g][q + 1];
      ((Load*)brought[lane])->to[m] = (int)(low | high << 16);
    }
  }
}

struct Product {
  float* c;
  const int *a, *b;
};
float towards_zero(double x) {
  const float y = (float)x;
  return fabs((double)y) > fabs(x) ? nextafterf(y, 0.0f) : y;
}
// Sums of eight exact products and the accumulator are cut off, as tensor cores do, not rounded.
template <typename T, int k> void multiply(void* const* brought) {
  float a[16][k], b[k][8];
  for (int lane = 0; lane < 32; lane++) {
    const Product& p = *(Product*)brought[lane];
    const int g = lane / 4, q = lane % 4 * 2;
    for (int w = 0; w < k / 4; w++)
      for (int h = 0; h < 2; h++) a[g + 8 * (w % 2)][q + h + 8 * (w / 2)] = half_of<T>(p.a[w], h);
    for (int w = 0; w < k / 8; w++)
      for (int h = 0; h < 2; h++) b[q + h + 8 * w][g] = half_of<T>(p.b[w], h);
  }
  for (int lane = 0; lane < 32; lane++)
    for (int n = 0; n < 4; n++) {
      const int row = lane / 4 + 8 * (n / 2), col = lane % 4 * 2 + n % 2;
      float& c = ((Product*)brought[lane])->c[n];
      for (int from = 0; from < k; from += 8) {
        double sum = c;
        for (int i = from; i < from + 8; i++) sum += (double)a[row][i] * b[i][col];
        c = towards_zero(sum);
      }
    }
}
}  // namespace

#define LOADING(n)                                                                                    \
  void ldmatrix_##n(int* m, Shared<int> p, int word, int line) {                                      \
    Load l{p, word, line, m};                                                                         \
    host::collect(line, "ldmatrix", load_matrices<n, false>, &l);                                     \
  }                                                                                                   \
  void ldmatrix_trans_##n(int* m, Shared<int> p, int word, int line) {                                \
    Load l{p, word, line, m};                                                                         \
    host::collect(line, "ldmatrix.trans", load_matrices<n, true>, &l);                                \
  }
LOADING(1) LOADING(2) LOADING(4)
#define MULTIPLYING(k, T)                                                                             \
  void mma_k##k##_##T(float* c, const int* a, const int* b, int line) {                               \
    Product p{c, a, b};                                                                               \
    host::collect(line, "mma", multiply<T, k>, &p);                                                   \
  }
MULTIPLYING(16, f16) MULTIPLYING(16, bf16) MULTIPLYING(8, f16) MULTIPLYING(8, bf16)

// ---- Copies beside the lanes ----------------------------------------------------------------------------------------------

namespace {
struct Copy {
  int word, group, line;
  uint32_t data[4];
};
// By lane: copies under way, and groups that were ended.
std::vector<Copy> under_way[1024];
int groups_ended[1024];

template <typename T> void start_copy(Shared<int> to, int word, In<T> from, i64 i, bool is_inside, int line) {
  if (word % 4 != 0 || word < 0 || word + 4 > to.length) host::fail(line, "16 bytes are copied to word %d of a shared array of %d", word, to.length);
  Copy copy{to.byte / 4 + word, groups_ended[block.lane], line, {0, 0, 0, 0}};
  if (is_inside) {
    if (i % 8 != 0) host::fail(line, "16 bytes are copied from element %lld on", i);
    memcpy(copy.data, place(from, i, 8, Way::read, line), 16);
  }
  for (int k = 0; k < 4; k++) {
    writes(copy.word + k, line);
    block.words[copy.word + k].writer = host::IN_FLIGHT;
  }
  under_way[block.lane].push_back(copy);
}
}  // namespace
void copy_async(Shared<int> to, int word, In<f16> from, i64 i, bool is_inside, int line) { start_copy(to, word, from, i, is_inside, line); }
void copy_async(Shared<int> to, int word, In<bf16> from, i64 i, bool is_inside, int line) { start_copy(to, word, from, i, is_inside, line); }
void reread_lane(int* lane) { *lane = block.lane; }
void commit() { groups_ended[block.lane]++; }
void wait_for(int groups) {
  std::vector<Copy>& copies = under_way[block.lane];
  size_t left = 0;
  for (const Copy& c : copies) {
    if (c.group >= groups_ended[block.lane] - groups) {
      copies[left++] = c;
      continue;
    }
    memcpy(block.shared + 4 * c.word, c.data, 16);
    for (int k = 0; k < 4; k++) block.words[c.word + k].writer = (uint16_t)block.lane, block.words[c.word + k].writeEpoch = block.epoch;
  }
  copies.resize(left);
}
void host::lane_ends() {
  if (!under_way[block.lane].empty()) fail(under_way[block.lane][0].line, "a copy is under way when its lane ends");
  groups_ended[block.lane] = 0;
}

void host::check_array(int byte, int bytes, int line) {
  if (byte % 16 != 0 || byte + bytes > block.sharedBytes)
    fail(line, "%d bytes from byte %d on, of %d bytes of shared memory", bytes, byte, block.sharedBytes);
}
