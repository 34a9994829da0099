#pragma once
/// Tiles of 64 rows of one head for attention on the tensor cores. A block has four warps; each owns 16 of the block's
/// 64 rows. Heads are padded to kSize (64 or 128) elements with zeros.

#include "backend/cuda/attention.h"
#include "backend/cuda/kernel.cuh"
#include "backend/cuda/tensor_core.cuh"

namespace moe::cuda::tiles {

constexpr int kRows = 64;
constexpr int kThreads = 128;
constexpr float kLog2e = 1.4426950408889634f;

/// What the kernels know about a bf16 matrix of heads.
struct HeadMatrix {
  __nv_bfloat16* data;
  int64_t step;
};

inline HeadMatrix head_matrix(const View& view) { return {static_cast<__nv_bfloat16*>(view.data), view.stride[0]}; }

/// Chunk c of row r is at place c ^ (r % 8), so that the chunks with one number in eight rows are in different banks.
template <int kSize>
__device__ int place(int row, int chunk) {
  return (row * (kSize / kChunk) + (chunk ^ (row & 7))) * kChunk;
}

/// Starts the copy of rows [first, first + 64) of a head to shared memory.
template <int kSize>
__device__ void load_tile(const HeadMatrix& m, int64_t first, int64_t rows, int64_t column, int size,
                          __nv_bfloat16* shared) {
  constexpr int kRowChunks = kSize / kChunk;
  for (int i = static_cast<int>(threadIdx.x); i < kRows * kRowChunks; i += kThreads) {
    const int row = i / kRowChunks, chunk = i % kRowChunks;
    const bool valid = first + row < rows && chunk * kChunk < size;
    copy_chunk(shared + place<kSize>(row, chunk),
               valid ? m.data + (first + row) * m.step + column + chunk * kChunk : m.data, valid);
  }
}

/// The A fragment of 16 rows from `row` on, elements [16 k, 16 k + 16) of the head.
template <int kSize>
__device__ void load_a(const __nv_bfloat16* shared, int row, int k, unsigned (&fragment)[4]) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  load_matrices(shared + place<kSize>(row + lane % 16, 2 * k + lane / 16), fragment);
}

/// B fragments whose columns are 16 rows of the tile from `row` on, reduced over elements [16 k, 16 k + 16) of the
/// head.
template <int kSize>
__device__ void load_b_rows(const __nv_bfloat16* shared, int row, int k, unsigned (&fragment)[4]) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp, part = lane / 8;
  load_matrices(shared + place<kSize>(row + lane % 8 + part / 2 * 8, 2 * k + part % 2), fragment);
}

/// B fragments whose columns are elements [16 n, 16 n + 16) of the head, reduced over 16 rows of the tile from `row`
/// on.
template <int kSize>
__device__ void load_b_columns(const __nv_bfloat16* shared, int row, int n, unsigned (&fragment)[4]) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp, part = lane / 8;
  load_matrices_transposed(shared + place<kSize>(row + lane % 8 + part % 2 * 8, 2 * n + part / 2), fragment);
}

/// A warp's 16 x 64 numbers in the layout of multiply_add: [column / 8][...]. Lane l holds rows l / 4 and l / 4 + 8.
using Scores = float[kRows / 8][4];

/// The column (of 64) of element i of a lane's part j.
__device__ inline int column_of(int j, int i) { return 8 * j + static_cast<int>(threadIdx.x) % 4 * 2 + i % 2; }
/// The row (of the warp's 16).
__device__ inline int row_of(int i) { return static_cast<int>(threadIdx.x) % kWarp / 4 + i / 2 * 8; }

/// Sets the scores of keys key ... that the lane's two queries do not see to `hidden`. Most tiles are seen as a whole.
__device__ inline void hide_unseen(Scores& scores, int key, const int (&query)[2], const int (&start)[2],
                                   float hidden) {
  const auto sees_all = [&](int half) {
    return start[half] >= 0 && key >= start[half] && key + kRows - 1 <= query[half];
  };
  if (__all_sync(0xffffffffu, sees_all(0) && sees_all(1))) return;
#pragma unroll
  for (int j = 0; j < kRows / 8; ++j) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int u = key + column_of(j, i);
      if (start[i / 2] < 0 || u < start[i / 2] || u > query[i / 2]) scores[j][i] = hidden;
    }
  }
}

/// scores = (16 rows of `a` from `row` on) (64 rows of `b`)^T.
template <int kSize>
__device__ void row_products(const __nv_bfloat16* a, int row, const __nv_bfloat16* b, Scores& scores) {
#pragma unroll
  for (int j = 0; j < kRows / 8; ++j) {
#pragma unroll
    for (int i = 0; i < 4; ++i) scores[j][i] = 0;
  }
#pragma unroll
  for (int k = 0; k < kSize / 16; ++k) {
    unsigned fa[4];
    load_a<kSize>(a, row, k, fa);
#pragma unroll
    for (int j = 0; j < kRows / 16; ++j) {
      unsigned fb[4];
      load_b_rows<kSize>(b, 16 * j, k, fb);
      multiply_add(scores[2 * j], fa, fb[0], fb[1]);
      multiply_add(scores[2 * j + 1], fa, fb[2], fb[3]);
    }
  }
}

/// 2^x, with an error of two units in the last place; the smallest results are 0.
__device__ inline float exp2_fast(float x) {
  float result;
  asm("ex2.approx.ftz.f32 %0, %1;\n" : "=f"(result) : "f"(x));
  return result;
}

/// Two neighbours rounded to bf16, the first in the low half.
__device__ inline unsigned pack(float low, float high) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
  return *reinterpret_cast<const unsigned*>(&pair);
}

/// sum += (weights, rounded to bf16) (64 rows of `b`). The weights have the layout of a sum, which is also that of an A
/// fragment.
template <int kSize>
__device__ void weighted_rows(const Scores& weights, const __nv_bfloat16* b, float (&sum)[kSize / 8][4]) {
#pragma unroll
  for (int k = 0; k < kRows / 16; ++k) {
    const unsigned fa[4] = {pack(weights[2 * k][0], weights[2 * k][1]), pack(weights[2 * k][2], weights[2 * k][3]),
                            pack(weights[2 * k + 1][0], weights[2 * k + 1][1]),
                            pack(weights[2 * k + 1][2], weights[2 * k + 1][3])};
#pragma unroll
    for (int n = 0; n < kSize / 16; ++n) {
      unsigned fb[4];
      load_b_columns<kSize>(b, 16 * k, n, fb);
      multiply_add(sum[2 * n], fa, fb[0], fb[1]);
      multiply_add(sum[2 * n + 1], fa, fb[2], fb[3]);
    }
  }
}

/// Writes the warp's 16 rows from `first` on (only rows before `rows`), multiplied by factor(row of the lane: 0 or 1).
template <int kSize, class Factor>
__device__ void store_rows(const HeadMatrix& m, int64_t first, int64_t rows, int64_t column, int size,
                           const float (&sum)[kSize / 8][4], const Factor& factor) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int64_t row = first + row_of(2 * half);
    if (row >= rows) continue;
#pragma unroll
    for (int j = 0; j < kSize / 8; ++j) {
      const int at = column_of(j, 0);
      if (at >= size) continue;
      *reinterpret_cast<__nv_bfloat162*>(m.data + row * m.step + column + at) =
          __floats2bfloat162_rn(sum[j][2 * half] * factor(half), sum[j][2 * half + 1] * factor(half));
    }
  }
}

/// The largest of last_query over the block's 64 keys: the last query that sees one of them, or -1.
__device__ inline int last_of(const int* last_query, int64_t key, int64_t tokens) {
  __shared__ int warps[kThreads / kWarp];
  const int64_t u = key + threadIdx.x;
  const int mine = __reduce_max_sync(0xffffffffu, threadIdx.x < kRows && u < tokens ? last_query[u] : -1);
  if (threadIdx.x % kWarp == 0) warps[threadIdx.x / kWarp] = mine;
  __syncthreads();
  int last = -1;
#pragma unroll
  for (int i = 0; i < kThreads / kWarp; ++i) last = max(last, warps[i]);
  return last;
}

/// The smallest segment start of the block's 64 queries that are not padding; `tokens` if there is none.
__device__ inline int64_t first_key(const int* segment_start, int64_t query, int64_t tokens) {
  __shared__ int warps[kThreads / kWarp];
  const int64_t t = query + threadIdx.x;
  int start = threadIdx.x < kRows && t < tokens ? segment_start[t] : -1;
  if (start < 0) start = INT32_MAX;
  start = __reduce_min_sync(0xffffffffu, start);
  if (threadIdx.x % kWarp == 0) warps[threadIdx.x / kWarp] = start;
  __syncthreads();
  int first = INT32_MAX;
#pragma unroll
  for (int i = 0; i < kThreads / kWarp; ++i) first = min(first, warps[i]);
  return first == INT32_MAX ? tokens : first;
}

}  // namespace moe::cuda::tiles
