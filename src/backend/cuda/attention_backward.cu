// Attention's backward pass on the tensor cores: one kernel for dq, whose blocks own queries, and one for dk and dv,
// whose blocks own keys. Both compute the probabilities again from lse. They add nothing with atomics, so the bits are
// always the same.

#include "backend/cuda/attention_tiles.cuh"

namespace moe::cuda {
namespace {

using namespace tiles;

struct Statistics {
  const float* lse;
  int64_t lse_step;
  const float* delta;  ///< [T, Hq]
};

/// probability and scale * probability * (d_probability - delta), in place of score and d_probability; a score of -inf
/// gives zeros. `lse2` is lse to the base 2.
__device__ void differentiate(float& score, float& d_probability, float lse2, float delta, float scale) {
  score = exp2_fast(fmaf(score, scale * kLog2e, -lse2));
  d_probability = scale * score * (d_probability - delta);
}

template <int kSize>
__global__ void __launch_bounds__(kThreads)
    query_gradient_kernel(HeadMatrix q, HeadMatrix k, HeadMatrix v, const int* segment_start, HeadMatrix d_out,
                          Statistics statistics, HeadMatrix dq, AttentionShape shape) {
  extern __shared__ __align__(128) __nv_bfloat16 memory[];
  constexpr int kTile = kRows * kSize;
  __nv_bfloat16 *const queries = memory, *const d_outs = memory + kTile;
  __nv_bfloat16 *const keys = memory + 2 * kTile, *const values = memory + 4 * kTile;
  const int head = static_cast<int>(blockIdx.y), size = shape.head_size;
  const int64_t q_column = static_cast<int64_t>(head) * size;
  const int64_t kv_column = static_cast<int64_t>(head * shape.kv_heads / shape.heads) * size;
  const int64_t first = static_cast<int64_t>(gridDim.x - 1 - blockIdx.x) * kRows;
  const int warp_row = static_cast<int>(threadIdx.x) / kWarp * 16;

  int query[2], start[2];
  float lse[2], delta[2];
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    query[half] = static_cast<int>(first) + warp_row + row_of(2 * half);
    start[half] = query[half] < shape.tokens ? segment_start[query[half]] : -1;
    lse[half] = start[half] < 0 ? 0.0f : kLog2e * statistics.lse[query[half] * statistics.lse_step + head];
    delta[half] = start[half] < 0 ? 0.0f : statistics.delta[static_cast<int64_t>(query[half]) * shape.heads + head];
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
  load_tile<kSize>(d_out, first, shape.tokens, q_column, size, d_outs);
  load(0);

  float sum[kSize / 8][4] = {};
  for (int64_t pass = 0; pass < passes; ++pass) {
    load(pass + 1);
    wait_for_copies<1>();
    __syncthreads();
    Scores scores, d_scores;
    row_products<kSize>(queries, warp_row, keys + pass % 2 * kTile, scores);
    row_products<kSize>(d_outs, warp_row, values + pass % 2 * kTile, d_scores);
    hide_unseen(scores, static_cast<int>(first_tile + pass * kRows), query, start, -INFINITY);
#pragma unroll
    for (int j = 0; j < kRows / 8; ++j) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        differentiate(scores[j][i], d_scores[j][i], lse[i / 2], delta[i / 2], shape.scale);
      }
    }
    weighted_rows<kSize>(d_scores, keys + pass % 2 * kTile, sum);
    __syncthreads();
  }
  wait_for_copies<0>();
  store_rows<kSize>(dq, first + warp_row, shape.tokens, q_column, size, sum, [](int) { return 1.0f; });
}

/// Scores are transposed here: rows are the block's keys, columns the queries of a tile.
template <int kSize>
__global__ void __launch_bounds__(kThreads)
    key_gradient_kernel(HeadMatrix q, HeadMatrix k, HeadMatrix v, const int* segment_start, const int* last_query,
                        HeadMatrix d_out, Statistics statistics, HeadMatrix dk, HeadMatrix dv, AttentionShape shape) {
  extern __shared__ __align__(128) __nv_bfloat16 memory[];
  __shared__ int starts[kRows];
  __shared__ float lse[kRows], delta[kRows];
  constexpr int kTile = kRows * kSize;
  __nv_bfloat16 *const keys = memory, *const values = memory + kTile;
  __nv_bfloat16 *const queries = memory + 2 * kTile, *const d_outs = memory + 4 * kTile;
  const int kv_head = static_cast<int>(blockIdx.y), group = shape.heads / shape.kv_heads, size = shape.head_size;
  const int64_t kv_column = static_cast<int64_t>(kv_head) * size;
  const int64_t first = static_cast<int64_t>(blockIdx.x) * kRows;
  const int warp_row = static_cast<int>(threadIdx.x) / kWarp * 16;
  const int last = last_of(last_query, first, shape.tokens);
  const int64_t tiles_of_head = last < 0 ? 0 : (last - first) / kRows + 1;
  const int64_t passes = tiles_of_head * group;
  const auto load = [&](int64_t pass) {
    if (pass < passes) {
      const int64_t query = first + pass % tiles_of_head * kRows;
      const int64_t q_column = (kv_head * group + pass / tiles_of_head) * size;
      load_tile<kSize>(q, query, shape.tokens, q_column, size, queries + pass % 2 * kTile);
      load_tile<kSize>(d_out, query, shape.tokens, q_column, size, d_outs + pass % 2 * kTile);
    }
    commit_copies();
  };
  load_tile<kSize>(k, first, shape.tokens, kv_column, size, keys);
  load_tile<kSize>(v, first, shape.tokens, kv_column, size, values);
  load(0);

  float k_sum[kSize / 8][4] = {}, v_sum[kSize / 8][4] = {};
  for (int64_t pass = 0; pass < passes; ++pass) {
    load(pass + 1);
    const int64_t query = first + pass % tiles_of_head * kRows;
    const int64_t head = kv_head * group + pass / tiles_of_head;
    bool some = false, all = true;  // of the block's keys are seen by this thread's query
    if (threadIdx.x < kRows) {
      const int64_t t = query + threadIdx.x;
      const int start = t < shape.tokens ? segment_start[t] : -1;
      starts[threadIdx.x] = start;
      lse[threadIdx.x] = start < 0 ? 0.0f : kLog2e * statistics.lse[t * statistics.lse_step + head];
      delta[threadIdx.x] = start < 0 ? 0.0f : statistics.delta[t * shape.heads + head];
      some = start >= 0 && start < first + kRows;
      all = start >= 0 && start <= first && t >= first + kRows - 1;
    }
    wait_for_copies<1>();
    if (__syncthreads_or(some ? 1 : 0) != 0) {
      const bool all_seen = __syncthreads_and(all ? 1 : 0) != 0;
      Scores scores, d_scores;
      row_products<kSize>(keys, warp_row, queries + pass % 2 * kTile, scores);
      row_products<kSize>(values, warp_row, d_outs + pass % 2 * kTile, d_scores);
      if (!all_seen) {
#pragma unroll
        for (int j = 0; j < kRows / 8; ++j) {
#pragma unroll
          for (int i = 0; i < 4; ++i) {
            const int column = column_of(j, i), start = starts[column];
            const int u = static_cast<int>(first) + warp_row + row_of(i), t = static_cast<int>(query) + column;
            if (start < 0 || u < start || u > t) scores[j][i] = -INFINITY;
          }
        }
      }
#pragma unroll
      for (int j = 0; j < kRows / 8; ++j) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const int column = column_of(j, i);
          differentiate(scores[j][i], d_scores[j][i], lse[column], delta[column], shape.scale);
        }
      }
      weighted_rows<kSize>(scores, d_outs + pass % 2 * kTile, v_sum);
      weighted_rows<kSize>(d_scores, queries + pass % 2 * kTile, k_sum);
    }
    __syncthreads();
  }
  wait_for_copies<0>();
  const auto unchanged = [](int) { return 1.0f; };
  store_rows<kSize>(dk, first + warp_row, shape.tokens, kv_column, size, k_sum, unchanged);
  store_rows<kSize>(dv, first + warp_row, shape.tokens, kv_column, size, v_sum, unchanged);
}

template <int kSize>
void run(Context& context, const AttentionBackward& op, const AttentionShape& shape, const float* delta,
         const int* last_query) {
  constexpr size_t kSharedBytes = size_t{6} * kRows * kSize * sizeof(__nv_bfloat16);
  const auto allow = [](const void* kernel) {
    return cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(kSharedBytes));
  };
  check(allow(reinterpret_cast<const void*>(query_gradient_kernel<kSize>)), "asking for shared memory");
  check(allow(reinterpret_cast<const void*>(key_gradient_kernel<kSize>)), "asking for shared memory");
  const Statistics statistics{op.lse.as<const float>(), op.lse.stride[0], delta};
  const auto* segment_start = op.segment_start.as<const int32_t>();
  dim3 grid = blocks(ceil_div(shape.tokens, kRows));
  grid.y = static_cast<unsigned>(shape.heads);
  launch(context, query_gradient_kernel<kSize>, grid, kThreads, kSharedBytes, head_matrix(op.q), head_matrix(op.k),
         head_matrix(op.v), segment_start, head_matrix(op.d_out), statistics, head_matrix(op.dq), shape);
  grid.y = static_cast<unsigned>(shape.kv_heads);
  launch(context, key_gradient_kernel<kSize>, grid, kThreads, kSharedBytes, head_matrix(op.q), head_matrix(op.k),
         head_matrix(op.v), segment_start, last_query, head_matrix(op.d_out), statistics, head_matrix(op.dk),
         head_matrix(op.dv), shape);
}

}  // namespace

void tensor_attention(Context& context, const AttentionBackward& op, const AttentionShape& shape, const float* delta,
                      const int* last_query) {
  shape.head_size <= 64 ? run<64>(context, op, shape, delta, last_query)
                        : run<128>(context, op, shape, delta, last_query);
}

}  // namespace moe::cuda
