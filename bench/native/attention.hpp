// LongNet's dilated attention on AVX2: one softmax over the multiset union of the branches' keys (design/semantics.md 1.1
// and 1.3 with ragged segments ended, not padded). One branch after the other feeds the state (max, sum, acc) of each row.
//
// A pass takes rows and keys of one branch's arithmetic progression. Keys and values are packed into tiles once per row
// range; strips of 6 rows meet panels of 16 keys in registers (12 accumulators), then 6 rows meet 16 columns of V.
//
// With `fold`, a pair that an earlier branch already holds is not scored again but counts there with its multiplicity,
// as log2(m) added to the score (the `annulus` schedule of design/schedule.md).
#pragma once
#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <thread>
#include <vector>

#include "vector.hpp"

namespace attention {

constexpr int kRows = 6;         // rows of a strip
constexpr int kPanel = 16;       // keys or columns of a panel
constexpr int kKeys = 128;       // keys of a block: its K and V are 64 KB at dim 64, the scores of a strip 3 KB
constexpr int kStrips = 32;      // strips that pass over a key block before the next one
constexpr std::int64_t kPeriod = 240;  // longest bias period worth folding

struct Branch {
  std::int64_t segment, dilation;
  std::vector<int> offset;  // by head
};

struct Problem {
  int heads = 0, dim = 0;
  bool causal = false, fold = false;
  std::int64_t length = 0;
  std::vector<Branch> branches;
  std::vector<float> q, k, v, out, lse;  // q, k, v, out [N, heads, dim]; lse [heads, N]
};

/// Tokens start + offset + slot * dilation: one head's progression in one segment.
struct Progression {
  std::int64_t first, step, count;
  std::int64_t token(std::int64_t slot) const { return first + slot * step; }
};

struct Scratch {
  Aligned q, k, v, acc, max, sum, zero;
  std::vector<float> bias;
};

/// log2 of multiplicities over slots, periodic: row class × key slot.
struct Bias {
  const float* table = nullptr;
  std::int64_t period = 1, stride = 0;
  const float* at(std::int64_t row, std::int64_t key) const {
    return table + (row % period) * stride + key % period;
  }
};

inline int columns(int dim) { return (dim + kPanel - 1) / kPanel; }

/// S[6][16] = Q strip [dim][6] times K panel [dim][16]. Not inlined, nor is `mix`: GCC would spill among the caller's values.
__attribute__((noinline)) inline void score(const float* q, const float* k, int dim, float* s) {
  __m256 c[kRows][2];
#pragma GCC unroll 6
  for (int r = 0; r < kRows; r++) c[r][0] = c[r][1] = _mm256_setzero_ps();
#pragma GCC unroll 4
  for (int i = 0; i < dim; i++) {
    const __m256 b0 = _mm256_load_ps(k + i * kPanel), b1 = _mm256_load_ps(k + i * kPanel + 8);
#pragma GCC unroll 6
    for (int r = 0; r < kRows; r++) {
      const __m256 a = _mm256_broadcast_ss(q + i * kRows + r);
      c[r][0] = _mm256_fmadd_ps(a, b0, c[r][0]);
      c[r][1] = _mm256_fmadd_ps(a, b1, c[r][1]);
    }
  }
#pragma GCC unroll 6
  for (int r = 0; r < kRows; r++) {
    _mm256_store_ps(s + r * kKeys, c[r][0]);
    _mm256_store_ps(s + r * kKeys + 8, c[r][1]);
  }
}

/// acc[6][16 columns] = fade * acc + P[6][keys] V[keys][16 columns].
__attribute__((noinline)) inline void mix(const float* p, const float* v, int keys, const float* fade, float* const* acc, int column) {
  __m256 c[kRows][2];
#pragma GCC unroll 6
  for (int r = 0; r < kRows; r++) {
    const __m256 f = _mm256_set1_ps(fade[r]);
    c[r][0] = _mm256_mul_ps(f, _mm256_load_ps(acc[r] + column));
    c[r][1] = _mm256_mul_ps(f, _mm256_load_ps(acc[r] + column + 8));
  }
#pragma GCC unroll 4
  for (int i = 0; i < keys; i++) {
    const __m256 b0 = _mm256_load_ps(v + i * kPanel), b1 = _mm256_load_ps(v + i * kPanel + 8);
#pragma GCC unroll 6
    for (int r = 0; r < kRows; r++) {
      const __m256 a = _mm256_broadcast_ss(p + r * kKeys + i);
      c[r][0] = _mm256_fmadd_ps(a, b0, c[r][0]);
      c[r][1] = _mm256_fmadd_ps(a, b1, c[r][1]);
    }
  }
#pragma GCC unroll 6
  for (int r = 0; r < kRows; r++) {
    _mm256_store_ps(acc[r] + column, c[r][0]);
    _mm256_store_ps(acc[r] + column + 8, c[r][1]);
  }
}

/// What a strip of rows knows of its keys before it absorbs a block.
struct Strip {
  int valid[kRows];           // keys that each row sees, from the first of the block
  const float* bias[kRows];   // or null
  float *max[kRows], *sum[kRows], *acc[kRows];
  alignas(32) float fade[8];  // by how much everything summed before shrinks
};

/// A strip's scores [6][panels * 16] become weights, relative to each row's new maximum.
__attribute__((noinline)) inline void absorb(float* scores, int panels, Strip& t) {
  const int width = panels * kPanel;
  alignas(32) float before[8] = {}, after[8] = {};
  for (int r = 0; r < kRows; r++) {
    float* const s = scores + r * kKeys;
    for (int i = std::max(0, t.valid[r]); i < width; i++) s[i] = kLowest;
    __m256 top = _mm256_set1_ps(before[r] = *t.max[r]);
    if (const float* const bias = t.bias[r]) {
      for (int i = 0; i < width; i += 8) {
        const __m256 x = _mm256_add_ps(_mm256_load_ps(s + i), _mm256_loadu_ps(bias + i));
        _mm256_store_ps(s + i, x);
        top = _mm256_max_ps(top, x);
      }
    } else {
      for (int i = 0; i < width; i += 8) top = _mm256_max_ps(top, _mm256_load_ps(s + i));
    }
    *t.max[r] = after[r] = max8(top);
  }
  _mm256_store_ps(t.fade, exp2v(_mm256_sub_ps(_mm256_load_ps(before), _mm256_load_ps(after))));
  for (int r = 0; r < kRows; r++) {
    float* const s = scores + r * kKeys;
    if (t.valid[r] <= 0) {
      // Where no key was ever seen the maximum is kLowest itself, and 2^0 would count.
      for (int i = 0; i < width; i += 8) _mm256_store_ps(s + i, _mm256_setzero_ps());
      continue;
    }
    const __m256 shift = _mm256_set1_ps(after[r]);
    __m256 total[2] = {_mm256_setzero_ps(), _mm256_setzero_ps()};
    for (int i = 0; i < width; i += 16) {
      const __m256 p0 = exp2v(_mm256_sub_ps(_mm256_load_ps(s + i), shift));
      const __m256 p1 = exp2v(_mm256_sub_ps(_mm256_load_ps(s + i + 8), shift));
      _mm256_store_ps(s + i, p0);
      _mm256_store_ps(s + i + 8, p1);
      total[0] = _mm256_add_ps(total[0], p0);
      total[1] = _mm256_add_ps(total[1], p1);
    }
    *t.sum[r] = *t.sum[r] * t.fade[r] + sum8(_mm256_add_ps(total[0], total[1]));
  }
}

/// to[i][j] = rows[j][i] for 8 rows and `dim` columns, `to` with a pitch of 16.
inline void transpose(const float* const* rows, int dim, float* to) {
  int i = 0;
  for (; i + 8 <= dim; i += 8) {
    __m256 a[8], b[8];
#pragma GCC unroll 8
    for (int j = 0; j < 8; j++) a[j] = _mm256_loadu_ps(rows[j] + i);
#pragma GCC unroll 4
    for (int j = 0; j < 8; j += 2) {
      b[j] = _mm256_unpacklo_ps(a[j], a[j + 1]);
      b[j + 1] = _mm256_unpackhi_ps(a[j], a[j + 1]);
    }
#pragma GCC unroll 2
    for (int j = 0; j < 8; j += 4) {
      a[j] = _mm256_shuffle_ps(b[j], b[j + 2], 0x44);
      a[j + 1] = _mm256_shuffle_ps(b[j], b[j + 2], 0xee);
      a[j + 2] = _mm256_shuffle_ps(b[j + 1], b[j + 3], 0x44);
      a[j + 3] = _mm256_shuffle_ps(b[j + 1], b[j + 3], 0xee);
    }
#pragma GCC unroll 4
    for (int j = 0; j < 4; j++) {
      _mm256_store_ps(to + (i + j) * kPanel, _mm256_permute2f128_ps(a[j], a[j + 4], 0x20));
      _mm256_store_ps(to + (i + j + 4) * kPanel, _mm256_permute2f128_ps(a[j], a[j + 4], 0x31));
    }
  }
  for (; i < dim; i++)
    for (int j = 0; j < 8; j++) to[i * kPanel + j] = rows[j][i];
}

/// Rows [rowFrom, rowTo) of a progression meet its keys [keyFrom, keyTo); `diagonal`: a row sees keys up to its own slot.
inline void pass(const Problem& P, int head, const Progression& line, std::int64_t rowFrom, std::int64_t rowTo,
                 std::int64_t keyFrom, std::int64_t keyTo, bool diagonal, const Bias& bias, Scratch& S) {
  const std::int64_t rows = rowTo - rowFrom, keys = keyTo - keyFrom;
  if (rows <= 0 || keys <= 0) return;
  const int dim = P.dim, cols = columns(dim), wide = cols * kPanel;
  const std::int64_t pitch = std::int64_t(P.heads) * dim;
  const std::int64_t strips = (rows + kRows - 1) / kRows, blocks = (keys + kKeys - 1) / kKeys;
  const float scale = 1.0f / std::sqrt(float(dim)) * 1.44269504088896341f;
  float* const q = S.q.need(strips * dim * kRows);
  float* const k = S.k.need(blocks * kKeys * dim);
  float* const v = S.v.need(blocks * kKeys * wide);

  // Rows and keys past the end read zeros.
  auto row = [&](const std::vector<float>& from, std::int64_t slot, std::int64_t end) {
    return slot < end ? from.data() + line.token(slot) * pitch + head * dim : S.zero.get();
  };
  for (std::int64_t s = 0; s < strips; s++) {
    const float* from[kRows];
    for (int r = 0; r < kRows; r++) from[r] = row(P.q, rowFrom + s * kRows + r, rowTo);
    float* const to = q + s * dim * kRows;
    for (int i = 0; i < dim; i++) {
#pragma GCC unroll 6
      for (int r = 0; r < kRows; r++) to[i * kRows + r] = from[r][i] * scale;
    }
  }
  for (std::int64_t j = 0; j < blocks * kKeys; j += 8) {
    const float* from[8];
    for (int n = 0; n < 8; n++) from[n] = row(P.k, keyFrom + j + n, keyTo);
    transpose(from, dim, k + j / kPanel * kPanel * dim + j % kPanel);
    for (int n = 0; n < 8; n++) from[n] = row(P.v, keyFrom + j + n, keyTo);
    float* const to = v + j / kKeys * kKeys * wide + j % kKeys * kPanel;
    for (int c = 0; c < cols; c++)
      for (int n = 0; n < 8; n++)
        for (int i = 0; i < kPanel; i++)
          to[(c * kKeys + n) * kPanel + i] = c * kPanel + i < dim ? from[n][c * kPanel + i] : 0.0f;
  }

  alignas(64) float s[kRows * kKeys];
  Strip t;
  for (std::int64_t from = 0; from < strips; from += kStrips) {
    const std::int64_t to = std::min(strips, from + kStrips);
    for (std::int64_t b = 0; b < blocks; b++) {
      const std::int64_t key = keyFrom + b * kKeys;
      if (diagonal && key >= rowFrom + to * kRows) break;
      for (std::int64_t strip = from; strip < to; strip++) {
        const std::int64_t slot = rowFrom + strip * kRows, last = std::min(slot + kRows, rowTo) - 1;
        std::int64_t here = std::min<std::int64_t>(kKeys, keyTo - key);
        if (diagonal) here = std::min(here, last - key + 1);
        if (here <= 0) continue;
        const int panels = int((here + kPanel - 1) / kPanel);
        for (int p = 0; p < panels; p++)
          score(q + strip * dim * kRows, k + (b * kKeys + p * kPanel) * dim, dim, s + p * kPanel);
        for (int r = 0; r < kRows; r++) {
          const bool real = slot + r <= last;
          const std::int64_t token = real ? line.token(slot + r) : P.length;  // the state past the end is spare
          t.valid[r] = !real ? 0 : int(diagonal ? std::min(here, slot + r - key + 1) : here);
          t.bias[r] = real && bias.table ? bias.at(slot + r, key) : nullptr;
          t.max[r] = S.max.get() + token;
          t.sum[r] = S.sum.get() + token;
          t.acc[r] = S.acc.get() + token * wide;
        }
        absorb(s, panels, t);
        for (int c = 0; c < cols; c++)
          mix(s, v + b * kKeys * wide + c * kKeys * kPanel, int(here), t.fade, t.acc, c * kPanel);
      }
    }
  }
}

/// parent[b]: an earlier branch whose grid holds b's for this head and whose segments each lie in one segment of b; or -1.
inline std::vector<int> parents(const Problem& P, int head) {
  std::vector<int> parent(P.branches.size(), -1);
  if (!P.fold) return parent;
  std::int64_t period = 1;
  for (const Branch& b : P.branches) period = std::lcm(period, b.dilation);
  if (period > kPeriod) return parent;
  for (std::size_t b = 0; b < P.branches.size(); b++) {
    const Branch& B = P.branches[b];
    const std::int64_t g = std::min(B.segment, P.length);
    for (int a = int(b) - 1; a >= 0 && parent[b] < 0; a--) {
      const Branch& A = P.branches[a];
      const std::int64_t ga = std::min(A.segment, P.length);
      // One segment of B, or A's segments start on multiples of the dilation inside B's: then residues stay nested.
      const bool nests = g >= P.length ? (ga >= P.length || ga % A.dilation == 0) : g % ga == 0 && ga % A.dilation == 0;
      if (nests && B.dilation % A.dilation == 0 && B.offset[head] % A.dilation == A.offset[head]) parent[b] = a;
    }
  }
  return parent;
}

inline void oneHead(Problem& P, int head, Scratch& S) {
  const std::int64_t N = P.length;
  const int wide = columns(P.dim) * kPanel;
  std::fill_n(S.acc.need((N + 1) * wide), (N + 1) * wide, 0.0f);
  std::fill_n(S.max.need(N + 1), N + 1, kLowest);
  std::fill_n(S.sum.need(N + 1), N + 1, 0.0f);
  std::fill_n(S.zero.need(wide), wide, 0.0f);
  const std::vector<int> parent = parents(P, head);

  for (std::size_t b = 0; b < P.branches.size(); b++) {
    const Branch& B = P.branches[b];
    const std::int64_t g = std::min(B.segment, N), off = B.offset[head], r = B.dilation;
    // Branches whose pairs may be folded into this pass: all descendants.
    std::vector<int> below;
    for (std::size_t c = b + 1; c < P.branches.size(); c++)
      for (int a = parent[c]; a >= 0; a = parent[a])
        if (a == int(b)) below.push_back(int(c));
    for (std::int64_t start = 0; start < N; start += g) {
      const std::int64_t extent = std::min(g, N - start);
      const Progression line{start + off, r, extent > off ? (extent - off + r - 1) / r : 0};
      Bias bias;
      if (!below.empty()) {
        for (const int c : below) bias.period = std::lcm(bias.period, P.branches[c].dilation / r);
        bias.stride = bias.period + kKeys + kPanel;
        S.bias.assign(bias.period * bias.stride, 0.0f);
        // Slots past the end only continue the period; residues are taken from the start of c's segment.
        for (std::int64_t i = 0; i < bias.period; i++)
          for (std::int64_t j = 0; j < bias.stride; j++) {
            int m = 1;
            for (const int c : below) {
              const std::int64_t cs = start - start % std::min(P.branches[c].segment, N);
              auto on = [&](std::int64_t slot) {
                return (line.token(slot) - cs - P.branches[c].offset[head]) % P.branches[c].dilation == 0;
              };
              m += on(i) && on(j);
            }
            S.bias[i * bias.stride + j] = std::log2(float(m));
          }
        bias.table = S.bias.data();
      }
      if (parent[b] < 0) {
        pass(P, head, line, 0, line.count, 0, line.count, P.causal, bias, S);
        continue;
      }
      // Keys inside the parent's segment were scored there: every range of rows skips its own slots.
      const std::int64_t ga = std::min(P.branches[parent[b]].segment, N);
      auto slotAt = [&](std::int64_t local) {
        return std::clamp<std::int64_t>(local > off ? (local - off + r - 1) / r : 0, 0, line.count);
      };
      for (std::int64_t local = 0; local < extent; local += ga) {
        const std::int64_t from = slotAt(local), to = slotAt(local + ga);
        pass(P, head, line, from, to, 0, from, false, bias, S);
        if (!P.causal) pass(P, head, line, from, to, to, line.count, false, bias, S);
      }
    }
  }

  const std::int64_t pitch = std::int64_t(P.heads) * P.dim;
  for (std::int64_t n = 0; n < N; n++) {
    const float sum = S.sum.get()[n], inverse = sum > 0 ? 1.0f / sum : 0.0f;
    float* out = P.out.data() + n * pitch + head * P.dim;
    for (int i = 0; i < P.dim; i++) out[i] = S.acc.get()[n * wide + i] * inverse;
    P.lse[head * N + n] = sum > 0 ? (S.max.get()[n] + std::log2(sum)) * 0.69314718055994531f : -INFINITY;
  }
}

/// One sequence; threads take heads from a common counter.
inline void run(Problem& P, int threads, std::vector<Scratch>& scratch) {
  if (int(scratch.size()) < threads) scratch.resize(threads);
  std::atomic<int> next{0};
  auto work = [&](int t) {
    for (int h = next++; h < P.heads; h = next++) oneHead(P, h, scratch[t]);
  };
  std::vector<std::thread> others;
  for (int t = 1; t < threads; t++) others.emplace_back(work, t);
  work(0);
  for (auto& t : others) t.join();
}

}  // namespace attention
