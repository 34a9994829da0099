#pragma once
/// A chunk of the sum of a token's rows.

#include "backend/cuda/kernel.cuh"
#include "ops/routing.h"

namespace moe::cuda {

struct Combine {
  Matrix rows;
  const int* slot_row;
  int64_t slot_step;
  int count;
  Matrix residual, y;
  bool accumulate;
};

inline Combine combine_of(const RowsCombine& op) {
  return {.rows = matrix(op.rows),
          .slot_row = op.slot_row.as<const int32_t>(),
          .slot_step = op.slot_row.stride[0],
          .count = static_cast<int>(op.slot_row.size(1)),
          .residual = matrix(op.residual),
          .y = matrix(op.y),
          .accumulate = op.accumulate};
}

/// True if rows, y and residual can be taken in Bf16Chunks.
inline bool in_bf16_chunks(const Combine& op, int64_t width) {
  return in_bf16_chunks(op.rows, width) && in_bf16_chunks(op.y, width) && in_bf16_chunks(op.residual, width);
}

/// Adds the chunk from column `c` on of token `t` to `sum`, which is 0. `in_bf16`: in Bf16Chunks; then it asks for
/// everything before it waits for something.
template <bool in_bf16>
__device__ void combine_chunk(const Combine& op, int64_t t, int64_t c, int64_t width, float (&sum)[kChunk]) {
  float v[kChunk];
  const auto add = [&] {
#pragma unroll
    for (int i = 0; i < kChunk; ++i) sum[i] += v[i];
  };
  const int* const from = op.slot_row + t * op.slot_step;
  if constexpr (in_bf16) {
    constexpr int kTogether = 8;
    Bf16Chunk before{}, residual{};
    if (op.accumulate) before = Bf16Chunk::load(op.y, t, c);
    if (op.residual) residual = Bf16Chunk::load(op.residual, t, c);
    for (int first = 0; first == 0 || first < op.count; first += kTogether) {
      int row[kTogether];
      Bf16Chunk chunk[kTogether];
#pragma unroll
      for (int k = 0; k < kTogether; ++k) row[k] = first + k < op.count ? from[first + k] : -1;
#pragma unroll
      for (int k = 0; k < kTogether; ++k) {
        if (row[k] >= 0) chunk[k] = Bf16Chunk::load_once(op.rows, row[k], c);
      }
      if (first == 0) {
        if (op.accumulate) before.get(sum);
        if (op.residual) residual.get(v), add();
      }
#pragma unroll
      for (int k = 0; k < kTogether; ++k) {
        if (row[k] < 0) continue;
        chunk[k].get(v);
        add();
      }
    }
  } else {
    if (op.accumulate) load_chunk(op.y, t, c, width, sum);
    if (op.residual) load_chunk(op.residual, t, c, width, v), add();
    for (int k = 0; k < op.count; ++k) {
      if (from[k] < 0) continue;
      load_chunk(op.rows, from[k], c, width, v);
      add();
    }
  }
}

}  // namespace moe::cuda
