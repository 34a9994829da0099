#pragma once
/// Products of few rows of a with a matrix b whose stored lines run along K, as for weights in decoding. b is read
/// once, transposed in registers and never packed. The sums have the same bits as those of the packed product.

#include "backend/cpu/kernels/halves.h"
#include "backend/cpu/kernels/matrix.h"
#include "backend/cpu/kernels/micro.h"

namespace moe::cpu::MOE_ISA {

constexpr int kFewRows = 4;
/// The number of column vectors whose chains of FMAs run at the same time.
constexpr int kFewGroups = 2;
constexpr int kFewColumns = kFewGroups * kLanes;
/// 32-bit elements of a line that are used together: one cache line. If lines are a power of two apart, they evict each
/// other from the first-level cache before they are used up; this avoids it.
constexpr int kTurn = 16;

/// The meaning of a 32-bit element of a and b. bf16 and f16 numbers are transposed as pairs. If the processor does not
/// multiply pairs, a is f32 and b's pairs are split after the transposition, which adds in the same order. f16 is for
/// keys (attention_few.h).
enum class FewElements { floats, bf16_of_b, f16_of_b, pairs };

/// The number of 32-bit elements of a for one of b.
constexpr int per_element(FewElements elements) {
  return elements == FewElements::bf16_of_b || elements == FewElements::f16_of_b ? 2 : 1;
}

/// The sums of a part of c: column vectors for each row of a.
template <int Rows>
using FewSums = vf[kFewGroups][Rows];

/// sum + (a's element k, in all lanes) times b.
template <FewElements kElements>
inline vf add_product(const float* a, int64_t k, vf b, vf sum) {
  if (kElements == FewElements::floats) return fma(splat(a[k]), b, sum);
  if (kElements == FewElements::pairs) return fma_pairs(splat(a[k]), b, sum);
  if (kElements == FewElements::f16_of_b) {
    return fma(splat(a[2 * k + 1]), second_half(b), fma(splat(a[2 * k]), first_half(b), sum));
  }
  return fma(splat(a[2 * k + 1]), second_of_pair(b), fma(splat(a[2 * k]), first_of_pair(b), sum));
}

/// Adds elements [k, k + 4) of kLanes lines of b times those of a's rows. The rows are a_step apart.
template <int Rows, FewElements kElements>
inline __attribute__((always_inline)) void add_columns(const float* a, int64_t a_step, const float* const* lines,
                                                       int64_t k, vf (&sum)[Rows]) {
  vf b[4];
  load_columns(lines, k, b);
#pragma GCC unroll 4
  for (int j = 0; j < 4; ++j) {
#pragma GCC unroll 4
    for (int i = 0; i < Rows; ++i) sum[i] = add_product<kElements>(a + i * a_step, k + j, b[j], sum[i]);
  }
}

/// Adds elements [k, k + kTurn) of kLanes lines. Each line is read in whole vectors: lines that are a power of two
/// apart evict each other from the first-level cache, so nothing should be read from them twice.
template <int Rows, FewElements kElements>
inline __attribute__((always_inline)) void add_turn(const float* a, int64_t a_step, const float* const* lines,
                                                    int64_t k, vf (&sum)[Rows]) {
#pragma GCC unroll 4
  for (int64_t part = k; part < k + kTurn; part += kLanes) {
    vf b[kLanes];
#pragma GCC unroll 16
    for (int i = 0; i < kLanes; ++i) b[i] = load(lines[i] + part);
    transpose(b);
#pragma GCC unroll 16
    for (int j = 0; j < kLanes; ++j) {
#pragma GCC unroll 4
      for (int i = 0; i < Rows; ++i) sum[i] = add_product<kElements>(a + i * a_step, part + j, b[j], sum[i]);
    }
  }
}

/// The sums of elements [k, end). `ahead(i, k)` asks for what is read soon after elements [k, k + kTurn) of lines
/// [i, i + kLanes).
template <int Rows, FewElements kElements, class Ahead>
inline void sum_lines(const float* a, int64_t a_step, const float* const* lines, int64_t k, int64_t end, Ahead ahead,
                      FewSums<Rows>& sums) {
  vf sum[kFewGroups][Rows] = {};
  for (; k + kTurn <= end; k += kTurn) {
#pragma GCC unroll 2
    for (int group = 0; group < kFewGroups; ++group) {
      const float* const* const here = lines + group * kLanes;
      ahead(group * kLanes, k);
      add_turn<Rows, kElements>(a, a_step, here, k, sum[group]);
    }
  }
  for (; k + 4 <= end; k += 4) {
#pragma GCC unroll 2
    for (int group = 0; group < kFewGroups; ++group) {
      add_columns<Rows, kElements>(a, a_step, lines + group * kLanes, k, sum[group]);
    }
  }
#pragma GCC unroll 2
  for (int group = 0; group < kFewGroups; ++group) {
#pragma GCC unroll 4
    for (int i = 0; i < Rows; ++i) sums[group][i] = sum[group][i];
  }
  for (; k < end; ++k) {
    for (int group = 0; group < kFewGroups; ++group) {
      float column[kLanes];
      for (int i = 0; i < kLanes; ++i) __builtin_memcpy(column + i, lines[group * kLanes + i] + k, sizeof(float));
      for (int i = 0; i < Rows; ++i) {
        sums[group][i] = add_product<kElements>(a + i * a_step, k, load(column), sums[group][i]);
      }
    }
  }
}

/// `Rows` rows of c. `a` holds p.m rows of k_end * per_element() elements. K-blocks of `depth` elements of b are summed
/// separately.
template <int Rows, FewElements kElements>
inline void multiply_few_rows(const Product& p, const float* a, int64_t k_end, int64_t depth) {
  const TileTarget c{p.c, p.c_type, p.c_step, p.c, p.c_type, p.c_step};
  const int64_t size = size_of(p.b.elements.type);
  for (int64_t n = 0; n < p.n; n += kFewColumns) {
    const float* lines[kFewColumns];
    for (int i = 0; i < kFewColumns; ++i) {
      const int64_t line = least(n + i, p.n - 1), row = p.b.rows == nullptr ? line : p.b.rows[line];
      lines[i] = (const float*)(static_cast<const char*>(p.b.elements.data) + row * p.b.step * size);
    }
    constexpr int64_t kAhead = 8 * kTurn;
    const auto ahead = [&](int first, int64_t k) __attribute__((always_inline)) {
#pragma GCC unroll 16
      for (int i = 0; i < kLanes; ++i) __builtin_prefetch(lines[first + i] + k + kAhead, 0, 2);
    };
    FewSums<Rows> sum, total;
    for (int64_t first = 0; first < k_end; first += depth) {
      const int64_t end = least(k_end, first + depth);
      sum_lines<Rows, kElements>(a, k_end * per_element(kElements), lines, first, end, ahead, sum);
      for (int group = 0; group < kFewGroups; ++group) {
        const int64_t column = n + group * kLanes, left = p.n - column;
        for (int i = 0; i < Rows && left > 0; ++i) {
          const int count = static_cast<int>(least(kLanes, left));
          vf x = sum[group][i];
          if (first > 0) x += total[group][i];
          if (first == 0 && p.accumulate) x += load_add(moved(c, i, column), 0, 0, count);
          if (end == k_end) store_out(moved(c, i, column), 0, 0, count, x);
          total[group][i] = x;
        }
      }
    }
  }
}

/// The rows of a, one after the other: as f32, or for pairs as they are stored.
template <bool kPairs, class T>
inline void copy_rows(const Product& p, float* to) {
  for (int64_t i = 0; i < p.m; ++i) {
    const T* const row = static_cast<const T*>(p.a.elements.data) + (p.a.rows == nullptr ? i : p.a.rows[i]) * p.a.step;
    if (kPairs) {
      __builtin_memcpy(to, row, static_cast<size_t>(p.k) * sizeof(T));
      to += p.k / 2;
      continue;
    }
    int64_t k = 0;
    for (; k + kLanes <= p.k; k += kLanes) store(to + k, load(row + k));
    if (k < p.k) store_part(to + k, load_part(row + k, static_cast<int>(p.k - k)), static_cast<int>(p.k - k));
    to += p.k;
  }
}

template <FewElements kElements>
inline void multiply_few(const Product& p, float* scratch, int64_t depth) {
  const int64_t k = kElements == FewElements::floats ? p.k : p.k / 2;
  constexpr bool kPairs = kElements == FewElements::pairs;
  p.a.elements.type == Storage::bf16 ? copy_rows<kPairs, bf16>(p, scratch) : copy_rows<false, float>(p, scratch);
  switch (p.m) {
    case 1:
      return multiply_few_rows<1, kElements>(p, scratch, k, depth);
    case 2:
      return multiply_few_rows<2, kElements>(p, scratch, k, depth);
    case 3:
      return multiply_few_rows<3, kElements>(p, scratch, k, depth);
    default:
      return multiply_few_rows<kFewRows, kElements>(p, scratch, k, depth);
  }
}

/// True if multiply_few() can compute it: few rows, lines along K, and no bf16 number of b without its second one.
inline bool has_few_rows(const Product& p) {
  const bool whole_pairs = p.b.elements.type == Storage::f32 || (p.k % 2 == 0 && p.b.step % 2 == 0);
  return p.m <= kFewRows && !p.a.rows_are_reduced && !p.b.rows_are_reduced && p.m * p.k <= kScratchFloats &&
         whole_pairs;
}

}  // namespace moe::cpu::MOE_ISA
