// out[M, cols] = x[M, depth] W^T + bias with W [cols, depth] packed beforehand into panels of 16 outputs, as a library would.
#pragma once
#include <algorithm>
#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

#include "vector.hpp"

namespace linear {

constexpr int kRows = 6, kPanel = 16;
constexpr int kDepth = 256;  // a panel of W is 16 KB here: half of L1
constexpr int kBlock = 192;  // rows whose packed x (192 KB) stays in L2

struct Problem {
  std::int64_t rows = 0, depth = 0, cols = 0;
  std::vector<float> x, w, bias, out;
  Aligned panels;  // [depth block][panel][k][16]
};

inline void pack(Problem& P) {
  const std::int64_t panels = (P.cols + kPanel - 1) / kPanel;
  float* to = P.panels.need(panels * kPanel * P.depth);
  for (std::int64_t k0 = 0; k0 < P.depth; k0 += kDepth) {
    const std::int64_t deep = std::min<std::int64_t>(kDepth, P.depth - k0);
    for (std::int64_t p = 0; p < panels; p++)
      for (std::int64_t k = 0; k < deep; k++)
        for (std::int64_t j = 0; j < kPanel; j++) {
          const std::int64_t col = p * kPanel + j;
          to[k0 * panels * kPanel + (p * deep + k) * kPanel + j] = col < P.cols ? P.w[col * P.depth + k0 + k] : 0.0f;
        }
  }
}

/// tile[6][16] = A[deep][6] B[deep][16]. Not inlined: among the caller's many live values GCC would spill in the inner loop.
__attribute__((noinline)) inline void kernel(const float* a, const float* b, std::int64_t deep, float* tile) {
  __m256 c[kRows][2];
#pragma GCC unroll 6
  for (int r = 0; r < kRows; r++) c[r][0] = c[r][1] = _mm256_setzero_ps();
#pragma GCC unroll 4
  for (std::int64_t k = 0; k < deep; k++) {
    const __m256 b0 = _mm256_load_ps(b + k * kPanel), b1 = _mm256_load_ps(b + k * kPanel + 8);
#pragma GCC unroll 6
    for (int r = 0; r < kRows; r++) {
      const __m256 x = _mm256_broadcast_ss(a + k * kRows + r);
      c[r][0] = _mm256_fmadd_ps(x, b0, c[r][0]);
      c[r][1] = _mm256_fmadd_ps(x, b1, c[r][1]);
    }
  }
#pragma GCC unroll 6
  for (int r = 0; r < kRows; r++) {
    _mm256_store_ps(tile + r * kPanel, c[r][0]);
    _mm256_store_ps(tile + r * kPanel + 8, c[r][1]);
  }
}

inline void rowBlock(Problem& P, std::int64_t from, std::int64_t to, Aligned& scratch) {
  const std::int64_t panels = (P.cols + kPanel - 1) / kPanel, strips = (to - from + kRows - 1) / kRows;
  float* const a = scratch.need(kBlock * kDepth);
  alignas(64) float tile[kRows * kPanel];
  for (std::int64_t k0 = 0; k0 < P.depth; k0 += kDepth) {
    const std::int64_t deep = std::min<std::int64_t>(kDepth, P.depth - k0);
    for (std::int64_t s = 0; s < strips; s++) {
      const float* x[kRows];
      for (int r = 0; r < kRows; r++) x[r] = P.x.data() + std::min(from + s * kRows + r, P.rows - 1) * P.depth + k0;
      float* const strip = a + s * deep * kRows;
      for (std::int64_t k = 0; k < deep; k++) {
#pragma GCC unroll 6
        for (int r = 0; r < kRows; r++) strip[k * kRows + r] = x[r][k];
      }
    }
    for (std::int64_t p = 0; p < panels; p++) {
      const float* const panel = P.panels.get() + k0 * panels * kPanel + p * deep * kPanel;
      for (std::int64_t s = 0; s < strips; s++) {
        const std::int64_t col = p * kPanel, row = from + s * kRows;
        const std::int64_t high = std::min<std::int64_t>(kRows, to - row), wide = std::min<std::int64_t>(kPanel, P.cols - col);
        float* const out = P.out.data() + row * P.cols + col;
        // What this tile will add to, and its share of the next panel: neither is in L2 when W is large.
        for (std::int64_t r = 0; r < high; r++) _mm_prefetch(out + r * P.cols, _MM_HINT_T0);
        for (std::int64_t i = deep * s / strips; i < deep * (s + 1) / strips; i++)
          _mm_prefetch(panel + (deep + i) * kPanel, _MM_HINT_T1);
        kernel(a + s * deep * kRows, panel, deep, tile);
        for (std::int64_t r = 0; r < high; r++) {
          float* const to = out + r * P.cols;
          const float* const add = k0 == 0 ? P.bias.data() + col : to;
          const float* const sum = tile + r * kPanel;
          if (wide == kPanel) {
            _mm256_storeu_ps(to, _mm256_add_ps(_mm256_load_ps(sum), _mm256_loadu_ps(add)));
            _mm256_storeu_ps(to + 8, _mm256_add_ps(_mm256_load_ps(sum + 8), _mm256_loadu_ps(add + 8)));
          } else {
            for (std::int64_t j = 0; j < wide; j++) to[j] = sum[j] + add[j];
          }
        }
      }
    }
  }
}

inline void run(Problem& P, int threads, std::vector<Aligned>& scratch) {
  if (int(scratch.size()) < threads) scratch.resize(threads);
  std::atomic<std::int64_t> next{0};
  auto work = [&](int t) {
    for (std::int64_t from = next.fetch_add(kBlock); from < P.rows; from = next.fetch_add(kBlock))
      rowBlock(P, from, std::min(from + kBlock, P.rows), scratch[t]);
  };
  std::vector<std::thread> others;
  for (int t = 1; t < threads; t++) others.emplace_back(work, t);
  work(0);
  for (auto& t : others) t.join();
}

}  // namespace linear
