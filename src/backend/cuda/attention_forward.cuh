#pragma once
/// Attention's forward pass on the tensor cores (FlashAttention). A block owns 64 queries of one head and visits tiles
/// of 64 keys, two of them in shared memory at a time.
///
/// A Source says which queries a block takes, where their keys are, which of them each query sees, and what is stored
/// beside the results:
///   aim(block, blocks): a Tile, whose queries are rows [first, end) of the matrix, which see keys from first_key on,
///     in `passes` tiles; first == end: nothing to do. For the whole block
///   see(tile, query, first, last): the keys that a query sees; first < 0: none
///   load<kSize>(tile, key, column, size, keys, values): starts the copies of a tile of keys and of values
///   finish(query, head, none, largest, total): takes a row's largest score (to the base 2) and sum of exponentials

#include "backend/cuda/attention_tiles.cuh"

namespace moe::cuda::tiles {

template <int kSize, class Source>
__global__ void __launch_bounds__(kThreads)
    forward_kernel(const Source source, HeadMatrix q, HeadMatrix out, AttentionShape shape) {
  extern __shared__ __align__(128) __nv_bfloat16 memory[];
  constexpr int kTile = kRows * kSize;
  __nv_bfloat16 *const queries = memory, *const keys = memory + kTile, *const values = memory + 3 * kTile;
  const int head = static_cast<int>(blockIdx.y), size = shape.head_size;
  const int64_t q_column = static_cast<int64_t>(head) * size;
  const int64_t kv_column = static_cast<int64_t>(head * shape.kv_heads / shape.heads) * size;
  const auto tile = source.aim(static_cast<int>(blockIdx.x), static_cast<int>(gridDim.x));
  if (tile.first == tile.end) return;
  const int warp_row = static_cast<int>(threadIdx.x) / kWarp * 16;

  int row[2], start[2], last[2];
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    row[half] = static_cast<int>(tile.first) + warp_row + row_of(2 * half);
    start[half] = -1, last[half] = -1;
    if (row[half] < tile.end) source.see(tile, row[half], start[half], last[half]);
  }
  const auto load = [&](int64_t pass) {
    if (pass < tile.passes) {
      const int64_t key = tile.first_key + pass * kRows;
      source.template load<kSize>(tile, key, kv_column, size, keys + pass % 2 * kTile, values + pass % 2 * kTile);
    }
    commit_copies();
  };
  load_tile<kSize>(q, tile.first, tile.end, q_column, size, queries);
  load(0);

  const float scale = shape.scale * kLog2e;  // exponentials to the base 2
  float largest[2] = {-INFINITY, -INFINITY}, total[2] = {0, 0};
  float sum[kSize / 8][4] = {};
  for (int64_t pass = 0; pass < tile.passes; ++pass) {
    load(pass + 1);
    wait_for_copies<1>();
    __syncthreads();
    Scores scores;
    row_products<kSize>(queries, warp_row, keys + pass % 2 * kTile, scores);
    float tile_largest[2] = {-INFINITY, -INFINITY};
    hide_unseen(scores, static_cast<int>(tile.first_key + pass * kRows), last, start, -INFINITY);
#pragma unroll
    for (int j = 0; j < kRows / 8; ++j) {
#pragma unroll
      for (int i = 0; i < 4; ++i) tile_largest[i / 2] = fmaxf(tile_largest[i / 2], scores[j][i]);
    }
    float shrink[2], base[2];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float value = tile_largest[half];
      value = fmaxf(value, __shfl_xor_sync(0xffffffffu, value, 1));
      value = fmaxf(value, __shfl_xor_sync(0xffffffffu, value, 2));
      value = fmaxf(value * scale, largest[half]);
      base[half] = value == -INFINITY ? 0.0f : value;  // a row that has not seen a key yet: every exponential is 0
      shrink[half] = exp2_fast(largest[half] - base[half]);
      largest[half] = value;
      total[half] *= shrink[half];
    }
#pragma unroll
    for (int j = 0; j < kRows / 8; ++j) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        scores[j][i] = exp2_fast(fmaf(scores[j][i], scale, -base[i / 2]));
        total[i / 2] += scores[j][i];
      }
    }
#pragma unroll
    for (int j = 0; j < kSize / 8; ++j) {
#pragma unroll
      for (int i = 0; i < 4; ++i) sum[j][i] *= shrink[i / 2];
    }
    weighted_rows<kSize>(scores, values + pass % 2 * kTile, sum);
    __syncthreads();  // before the next load overwrites what was read
  }
  wait_for_copies<0>();
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    total[half] += __shfl_xor_sync(0xffffffffu, total[half], 1);
    total[half] += __shfl_xor_sync(0xffffffffu, total[half], 2);
  }
  store_rows<kSize>(out, tile.first + warp_row, tile.end, q_column, size, sum,
                    [&](int half) { return start[half] < 0 ? 0.0f : 1 / total[half]; });
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    if (threadIdx.x % 4 != 0 || row[half] >= tile.end) continue;
    source.finish(row[half], head, start[half] < 0, largest[half], total[half]);
  }
}

/// `count`: tiles of queries.
template <int kSize, class Source>
void start_forward(Context& context, const Source& source, int64_t count, const View& q, const View& out,
                   const AttentionShape& shape) {
  constexpr size_t kSharedBytes = size_t{5} * kRows * kSize * sizeof(__nv_bfloat16);
  check(cudaFuncSetAttribute(forward_kernel<kSize, Source>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                             static_cast<int>(kSharedBytes)),
        "asking for shared memory");
  dim3 grid = blocks(count);
  grid.y = static_cast<unsigned>(shape.heads);
  launch(context, forward_kernel<kSize, Source>, grid, kThreads, kSharedBytes, source, head_matrix(q), head_matrix(out),
         shape);
}

}  // namespace moe::cuda::tiles
