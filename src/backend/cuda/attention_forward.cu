// Attention's forward pass on the tensor cores (FlashAttention). A block owns 64 queries of one head and visits tiles
// of 64 keys, two of them in shared memory at a time.

#include "backend/cuda/attention_tiles.cuh"

namespace moe::cuda {
namespace {

using namespace tiles;

template <int kSize>
__global__ void __launch_bounds__(kThreads)
    attention_kernel(HeadMatrix q, HeadMatrix k, HeadMatrix v, const int* segment_start, HeadMatrix out, float* lse,
                     int64_t lse_step, AttentionShape shape) {
  extern __shared__ __align__(128) __nv_bfloat16 memory[];
  constexpr int kTile = kRows * kSize;
  __nv_bfloat16 *const queries = memory, *const keys = memory + kTile, *const values = memory + 3 * kTile;
  const int head = static_cast<int>(blockIdx.y), size = shape.head_size;
  const int64_t q_column = static_cast<int64_t>(head) * size;
  const int64_t kv_column = static_cast<int64_t>(head * shape.kv_heads / shape.heads) * size;
  const int64_t first = static_cast<int64_t>(gridDim.x - 1 - blockIdx.x) * kRows;  // those with most keys first
  const int warp_row = static_cast<int>(threadIdx.x) / kWarp * 16;

  int query[2], start[2];
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    query[half] = static_cast<int>(first) + warp_row + row_of(2 * half);
    start[half] = query[half] < shape.tokens ? segment_start[query[half]] : -1;
  }
  const int64_t first_tile = first_key(segment_start, first, shape.tokens);
  const int64_t last = min(first + kRows, shape.tokens);
  const int64_t passes = first_tile < last ? (last - first_tile + kRows - 1) / kRows : 0;
  const auto load = [&](int64_t pass) {
    if (pass < passes) {
      const int64_t key = first_tile + pass * kRows;
      load_tile<kSize>(k, key, shape.tokens, kv_column, size, keys + pass % 2 * kTile);
      load_tile<kSize>(v, key, shape.tokens, kv_column, size, values + pass % 2 * kTile);
    }
    commit_copies();
  };
  load_tile<kSize>(q, first, shape.tokens, q_column, size, queries);
  load(0);

  const float scale = shape.scale * kLog2e;  // exponentials to the base 2
  float largest[2] = {-INFINITY, -INFINITY}, total[2] = {0, 0};
  float sum[kSize / 8][4] = {};
  for (int64_t pass = 0; pass < passes; ++pass) {
    load(pass + 1);
    wait_for_copies<1>();
    __syncthreads();
    Scores scores;
    row_products<kSize>(queries, warp_row, keys + pass % 2 * kTile, scores);
    float tile_largest[2] = {-INFINITY, -INFINITY};
    hide_unseen(scores, static_cast<int>(first_tile + pass * kRows), query, start, -INFINITY);
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
  store_rows<kSize>(out, first + warp_row, shape.tokens, q_column, size, sum,
                    [&](int half) { return start[half] < 0 ? 0.0f : 1 / total[half]; });
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    if (threadIdx.x % 4 != 0 || query[half] >= shape.tokens) continue;
    lse[query[half] * lse_step + head] = start[half] < 0 ? 0.0f : (largest[half] + log2f(total[half])) / kLog2e;
  }
}

template <int kSize>
void run(Context& context, const Attention& op, const AttentionShape& shape) {
  constexpr size_t kSharedBytes = size_t{5} * kRows * kSize * sizeof(__nv_bfloat16);
  const cudaError_t allowed = cudaFuncSetAttribute(attention_kernel<kSize>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                                   static_cast<int>(kSharedBytes));
  check(allowed, "asking for shared memory");
  dim3 grid = blocks(ceil_div(shape.tokens, kRows));
  grid.y = static_cast<unsigned>(shape.heads);
  launch(context, attention_kernel<kSize>, grid, kThreads, kSharedBytes, head_matrix(op.q), head_matrix(op.k),
         head_matrix(op.v), op.segment_start.as<const int32_t>(), head_matrix(op.out), op.lse.as<float>(),
         op.lse.stride[0], shape);
}

}  // namespace

void tensor_attention(Context& context, const Attention& op, const AttentionShape& shape) {
  shape.head_size <= 64 ? run<64>(context, op, shape) : run<128>(context, op, shape);
}

}  // namespace moe::cuda
