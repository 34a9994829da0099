#pragma once
/// The ends of products that SwiGLU or its gradient follows. Each result is rounded to bf16 first, as it would be
/// stored: the activation has the bits that an operation of its own has.

#include "backend/cuda/hopper_store.cuh"
#include "backend/cuda/row_activation.h"
#include "backend/cuda/swiglu.cuh"

namespace moe::cuda::hopper {

__device__ inline float scale_of(const RowActivation& act, int64_t row) {
  return act.scale == nullptr ? 1.0f : act.scale[act.scale_index[row]];
}

/// The first half of a tile's columns are of the gate, the others the same ones of the up projection, p.n columns
/// behind in c. Stores a warp's 16 rows from `row` on.
template <int kSums>
__device__ void store_swiglu(const TileProblem& p, const Tile& t, const RowActivation& act, int64_t row,
                             const float (&sum)[kSums], __nv_bfloat16* shared) {
  constexpr int kColumns = kSums;  // of one half
  static_assert(kColumns % Slice::kColumns == 0);
  const Slice slice(shared);
  const int64_t left = t.m_end - row;
  float factor[Slice::kChunks];
#pragma unroll
  for (int i = 0; i < Slice::kChunks; ++i) factor[i] = slice.row(i) < left ? scale_of(act, row + slice.row(i)) : 0.0f;
#pragma unroll
  for (int first = 0; first < kColumns; first += Slice::kColumns) {
    uint4 gates[Slice::kChunks];
    slice.put(sum, first);
#pragma unroll
    for (int i = 0; i < Slice::kChunks; ++i) gates[i] = slice.chunk(i);
    slice.put(sum, kColumns + first);
    const int64_t column = t.n_begin + first + slice.column();
    auto* const c = reinterpret_cast<__nv_bfloat16*>(t.c) + row * p.c_step + column;
    auto* const y = act.y + row * act.y_step + column;
#pragma unroll
    for (int i = 0; i < Slice::kChunks; ++i) {
      const Bf16Chunk gate_bits{gates[i]}, up_bits{slice.chunk(i)};
      float gate[kChunk], up[kChunk], activated[kChunk];
      gate_bits.get(gate);
      up_bits.get(up);
      swiglu(gate, up, factor[i], activated);
      if (column >= p.n || slice.row(i) >= left) continue;
      *reinterpret_cast<uint4*>(c + slice.row(i) * p.c_step) = gate_bits.bits;
      *reinterpret_cast<uint4*>(c + slice.row(i) * p.c_step + p.n) = up_bits.bits;
      *reinterpret_cast<uint4*>(y + slice.row(i) * act.y_step) = Bf16Chunk::of(activated).bits;
    }
  }
}

}  // namespace moe::cuda::hopper
