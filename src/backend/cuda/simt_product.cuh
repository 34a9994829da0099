#pragma once
/// Products in f32 arithmetic on the ordinary cores, for any types, strides and alignments.

#include "backend/cuda/tile_problem.cuh"
#include "backend/cuda/weight_element.cuh"

namespace moe::cuda::simt {

constexpr int kTile = 128;  ///< rows and columns of a block's tile
constexpr int kDepth = 16;  ///< elements of the reduced dimension per pass
constexpr int kThreads = 256;
constexpr int kEach = 8;  ///< a thread computes 8 x 8 elements, as two by two quarters of 4 x 4
constexpr int kPitch = kTile + 4;

/// `other`: the operand is of a type that weight_element() reads.
template <bool other>
__device__ float element(const Operand& x, int64_t row, int64_t column) {
  const int64_t at = (x.rows != nullptr ? x.rows[row] : row) * x.step + column;
  if constexpr (other) return weight_element(x.type, x.data, at);
  return x.bf16 ? __bfloat162float(static_cast<const __nv_bfloat16*>(x.data)[at])
                : static_cast<const float*>(x.data)[at];
}

/// shared[k][i] = element (first + i, k_begin + k) of the operand, zeros outside. Threads run along the stored columns.
template <bool reduced_rows, bool other = false>
__device__ void load_tile(const Operand& x, int64_t first, int64_t end, int64_t k_begin, int64_t k_end,
                          float (&shared)[kDepth][kPitch]) {
  for (int i = static_cast<int>(threadIdx.x); i < kTile * kDepth; i += kThreads) {
    const int at = reduced_rows ? i % kTile : i / kDepth, depth = reduced_rows ? i / kTile : i % kDepth;
    const int64_t outer = first + at, k = k_begin + depth;
    float value = 0;
    if (outer < end && k < k_end) value = reduced_rows ? element<other>(x, k, outer) : element<other>(x, outer, k);
    shared[depth][at] = value;
  }
}

template <Grouping grouping, bool a_reduced_rows, bool b_reduced_rows, bool other_b>
__global__ void __launch_bounds__(kThreads) kernel(TileProblem p) {
  __shared__ float a[kDepth][kPitch], b[kDepth][kPitch];
  const Tile t = find_tile<grouping>(p, blockIdx.x, kTile, kTile);
  if (t.empty) return;
  const int row = static_cast<int>(threadIdx.x) / 16 * 4, column = static_cast<int>(threadIdx.x) % 16 * 4;
  float sum[kEach][kEach] = {};
  for (int64_t k = t.k_begin; k < t.k_end; k += kDepth) {
    __syncthreads();
    load_tile<a_reduced_rows>(t.a, t.m_begin, t.m_end, k, t.k_end, a);
    load_tile<b_reduced_rows, other_b>(t.b, t.n_begin, p.n, k, t.k_end, b);
    __syncthreads();
#pragma unroll
    for (int d = 0; d < kDepth; ++d) {
      float x[kEach], y[kEach];
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        x[i] = a[d][row + i], x[i + 4] = a[d][row + 64 + i];
        y[i] = b[d][column + i], y[i + 4] = b[d][column + 64 + i];
      }
#pragma unroll
      for (int i = 0; i < kEach; ++i) {
#pragma unroll
        for (int j = 0; j < kEach; ++j) sum[i][j] = fmaf(x[i], y[j], sum[i][j]);
      }
    }
  }
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
#pragma unroll
    for (int j = 0; j < kEach; j += 2) {
      store_pair(p, t, t.m_begin + row + i % 4 + i / 4 * 64, t.n_begin + column + j % 4 + j / 4 * 64, sum[i][j],
                 sum[i][j + 1]);
    }
  }
}

}  // namespace moe::cuda::simt
