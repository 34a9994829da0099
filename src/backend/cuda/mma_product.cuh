#pragma once
/// Products of bf16 operands on the tensor cores that every supported GPU has (mma.sync). Tiles are 128 x 128; four
/// warps compute 64 x 64 each; cp.async fills three stages of shared memory. Rows must be aligned to 16 bytes, and
/// sizes along stored rows must be multiples of 8.

#include "backend/cuda/tensor_core.cuh"
#include "backend/cuda/tile_problem.cuh"

namespace moe::cuda::mma {

constexpr int kTile = 128;
constexpr int kDepth = 64;
constexpr int kStages = 3;
constexpr int kThreads = 128;
constexpr int kOperandElements = kTile * kDepth;
constexpr size_t kSharedBytes = size_t{2} * kStages * kOperandElements * sizeof(__nv_bfloat16);
constexpr int kChunks = kOperandElements / kChunk / kThreads;  ///< 16-byte chunks of an operand's tile per thread

/// A tile in shared memory. If stored columns run along the reduced dimension: 128 rows of 8 chunks; if stored rows do:
/// 64 rows of 16 chunks. Chunk c of row r is at place c ^ (r % 8). So the chunks with one number in eight rows, which
/// one ldmatrix reads, are in different banks.
template <bool reduced_rows>
struct Layout {
  static constexpr int kRowChunks = reduced_rows ? kTile / kChunk : kDepth / kChunk;
  static constexpr int kRowsApart = kThreads / kRowChunks;  ///< distance between a thread's consecutive chunks
  __device__ static int at(int row, int chunk) { return (row * kRowChunks + (chunk ^ (row & 7))) * kChunk; }
};

/// The part of one operand that a thread copies: kChunks chunks with the same number, in rows that are kRowsApart
/// apart.
template <bool reduced_rows>
struct Loader {
  using L = Layout<reduced_rows>;
  const __nv_bfloat16* base;
  int64_t step;
  const int* rows;
  int64_t outer_begin, outer_end;
  int row, chunk;
  int picked[kChunks];  ///< stored rows of the next tile (reduced_rows) or of all tiles

  __device__ Loader(const Operand& x, int64_t begin, int64_t end)
      : base(static_cast<const __nv_bfloat16*>(x.data)),
        step(x.step),
        rows(x.rows),
        outer_begin(begin),
        outer_end(end),
        row(static_cast<int>(threadIdx.x) / L::kRowChunks),
        chunk(static_cast<int>(threadIdx.x) % L::kRowChunks) {
    if constexpr (!reduced_rows) pick(begin, end);
  }

  __device__ void pick(int64_t first, int64_t end) {
#pragma unroll
    for (int i = 0; i < kChunks; ++i) {
      const int64_t r = first + row + i * L::kRowsApart;
      picked[i] = r >= end ? -1 : (rows != nullptr ? rows[r] : static_cast<int>(r));
    }
  }

  /// If stored rows run along the reduction, the rows of the tile at k must have been picked before.
  __device__ void load(__nv_bfloat16* shared, int64_t k, int64_t k_end) const {
    const int64_t column = (reduced_rows ? outer_begin : k) + chunk * kChunk;
    const bool inside = column < (reduced_rows ? outer_end : k_end);
#pragma unroll
    for (int i = 0; i < kChunks; ++i) {
      const bool valid = inside && picked[i] >= 0;
      const __nv_bfloat16* const from = base + (valid ? picked[i] * step + column : 0);
      copy_chunk(shared + L::at(row + i * L::kRowsApart, chunk), from, valid);
    }
  }
};

/// Rows `first` ... of an A fragment of 16 x 16 at depth k.
template <bool reduced_rows>
__device__ void load_a(const __nv_bfloat16* shared, int first, int k, unsigned (&fragment)[4]) {
  using L = Layout<reduced_rows>;
  const int lane = static_cast<int>(threadIdx.x) % kWarp, part = lane / 8;
  if constexpr (reduced_rows) {
    load_matrices_transposed(shared + L::at(k + lane % 8 + part / 2 * 8, first / kChunk + part % 2), fragment);
  } else {
    load_matrices(shared + L::at(first + lane % 16, k / kChunk + lane / 16), fragment);
  }
}

/// Two B fragments of 16 x 8: columns `first` ... of b at depth k.
template <bool reduced_rows>
__device__ void load_b(const __nv_bfloat16* shared, int first, int k, unsigned (&fragment)[4]) {
  using L = Layout<reduced_rows>;
  const int lane = static_cast<int>(threadIdx.x) % kWarp, part = lane / 8;
  if constexpr (reduced_rows) {
    load_matrices_transposed(shared + L::at(k + lane % 8 + part % 2 * 8, first / kChunk + part / 2), fragment);
  } else {
    load_matrices(shared + L::at(first + lane % 8 + part / 2 * 8, k / kChunk + part % 2), fragment);
  }
}

template <Grouping grouping, bool a_reduced_rows, bool b_reduced_rows>
__global__ void __launch_bounds__(kThreads, 2) kernel(TileProblem p) {
  extern __shared__ __align__(128) __nv_bfloat16 shared_tiles[];
  const Tile t = find_tile<grouping>(p, blockIdx.x, kTile, kTile);
  if (t.empty) return;
  Loader<a_reduced_rows> a(t.a, t.m_begin, t.m_end);
  Loader<b_reduced_rows> b(t.b, t.n_begin, p.n);
  const auto stage = [&](int64_t index, bool second) {
    return shared_tiles + (index % kStages * 2 + (second ? 1 : 0)) * kOperandElements;
  };
  const int64_t passes = (t.k_end - t.k_begin + kDepth - 1) / kDepth;
  const auto pick = [&](int64_t pass) {
    const int64_t k = t.k_begin + pass * kDepth;
    if constexpr (a_reduced_rows) a.pick(k, t.k_end);
    if constexpr (b_reduced_rows) b.pick(k, t.k_end);
  };
  const auto load = [&](int64_t pass) {
    if (pass < passes) {
      const int64_t k = t.k_begin + pass * kDepth;
      a.load(stage(pass, false), k, t.k_end);
      b.load(stage(pass, true), k, t.k_end);
      pick(pass + 1);  // early: the next load needs them
    }
    commit_copies();
  };
  pick(0);
  for (int64_t pass = 0; pass < kStages - 1; ++pass) load(pass);

  const int warp = static_cast<int>(threadIdx.x) / kWarp, lane = static_cast<int>(threadIdx.x) % kWarp;
  const int first_row = warp / 2 * 64, first_column = warp % 2 * 64;
  float sum[4][8][4] = {};
  for (int64_t pass = 0; pass < passes; ++pass) {
    wait_for_copies<kStages - 2>();
    __syncthreads();  // this pass's tile has arrived for all, and no thread reads the one that is overwritten next
    load(pass + kStages - 1);
    const __nv_bfloat16 *const at = stage(pass, false), *const bt = stage(pass, true);
#pragma unroll
    for (int k = 0; k < kDepth; k += 16) {
      unsigned fa[4][4], fb[4][4];
#pragma unroll
      for (int i = 0; i < 4; ++i) load_a<a_reduced_rows>(at, first_row + 16 * i, k, fa[i]);
#pragma unroll
      for (int j = 0; j < 4; ++j) load_b<b_reduced_rows>(bt, first_column + 16 * j, k, fb[j]);
#pragma unroll
      for (int i = 0; i < 4; ++i) {
#pragma unroll
        for (int j = 0; j < 8; ++j) multiply_add(sum[i][j], fa[i], fb[j / 2][j % 2 * 2], fb[j / 2][j % 2 * 2 + 1]);
      }
    }
  }
  wait_for_copies<0>();
#pragma unroll
  for (int i = 0; i < 4; ++i) {
#pragma unroll
    for (int j = 0; j < 8; ++j) {
      const int64_t row = t.m_begin + first_row + 16 * i + lane / 4;
      const int64_t column = t.n_begin + first_column + 8 * j + lane % 4 * 2;
      store_pair(p, t, row, column, sum[i][j][0], sum[i][j][1]);
      store_pair(p, t, row + 8, column, sum[i][j][2], sum[i][j][3]);
    }
  }
}

}  // namespace moe::cuda::mma
