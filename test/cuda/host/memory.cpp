// Memory as kernels on the host see it: every access is checked before it is done.
#include "heddle_host.h"

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

void host::check_array(int byte, int bytes, int line) {
  if (byte % 16 != 0 || byte + bytes > block.sharedBytes)
    fail(line, "%d bytes from byte %d on, of %d bytes of shared memory", bytes, byte, block.sharedBytes);
}
