#pragma once
/// Functions that the forward and backward kernels of attention share.

#include "backend/cpu/kernels/pack.h"

namespace moe::cpu::MOE_ISA {

/// The number of keys in a block, counted from the beginning of the document.
constexpr int kKeyBlock = 64;

/// How many of the keys [first, first + kKeyBlock) the query at `position` sees.
inline int keys_seen(int64_t position, int64_t first) {
  const int64_t seen = position - first + 1;
  return seen < 0 ? 0 : static_cast<int>(least(seen, kKeyBlock));
}

inline const void* element(const HeadRows& rows, int64_t row, int64_t column) {
  const int64_t at = row * rows.step + column;
  return rows.type == Storage::bf16 ? static_cast<const void*>(static_cast<const bf16*>(rows.data) + at)
                                    : static_cast<const void*>(static_cast<const float*>(rows.data) + at);
}

/// Rows of one head (its columns begin at `column`) as an operand: reduced over head_size, or over the rows.
inline Operand head(const HeadRows& rows, int64_t column, bool rows_are_reduced) {
  return {{element(rows, 0, column), rows.type}, rows.step, nullptr, rows_are_reduced};
}

/// True if products use pairs of bf16 (pack.h). Weights are then rounded to bf16.
template <class... Rows>
inline bool multiplies_pairs(int head_size, const Rows&... rows) {
  return kMultipliesPairs && head_size % 2 == 0 && ((rows.type == Storage::bf16) && ...);
}

/// Rows of one head, from `first` on, as panels that are reduced over head_size.
template <int Width>
inline void pack_head(const HeadRows& rows, int64_t column, int head_size, int64_t first, int64_t count, bool pairs,
                      float* to) {
  const Operand from = head(rows, column, false);
  if (pairs) return pack<Width, kMultipliesPairs>(from, 0, head_size, first, count, to);
  pack<Width>(from, 0, head_size, first, count, to);
}

/// The same as panels that are reduced over the rows; `first` is even.
template <int Width>
inline void pack_rows_of_head(const HeadRows& rows, int64_t column, int head_size, int64_t first, int64_t count,
                              bool pairs, float* to) {
  const Operand from = head(rows, column, true);
  if (pairs) return pack<Width, kMultipliesPairs>(from, first, count, 0, head_size, to);
  pack<Width>(from, first, count, 0, head_size, to);
}

/// The first `count` weights of a row, in whole vectors, as bf16 side by side: pairs along the keys. `to` may be
/// `weights`.
inline void round_weights(const float* weights, int count, float* to) {
  for (int j = 0; j < count; j += kLanes) store((bf16*)to + j, load(weights + j));
}

inline vf load_some(const HeadRows& rows, int64_t row, int64_t column, int count) {
  const void* p = element(rows, row, column);
  if (rows.type == Storage::bf16) {
    return count >= kLanes ? load(static_cast<const bf16*>(p)) : load_part(static_cast<const bf16*>(p), count);
  }
  return count >= kLanes ? load(static_cast<const float*>(p)) : load_part(static_cast<const float*>(p), count);
}

inline void store_some(const HeadRows& rows, int64_t row, int64_t column, vf x, int count) {
  void* p = const_cast<void*>(element(rows, row, column));
  if (rows.type == Storage::bf16) {
    count >= kLanes ? store(static_cast<bf16*>(p), x) : store_part(static_cast<bf16*>(p), x, count);
  } else {
    count >= kLanes ? store(static_cast<float*>(p), x) : store_part(static_cast<float*>(p), x, count);
  }
}

}  // namespace moe::cpu::MOE_ISA
