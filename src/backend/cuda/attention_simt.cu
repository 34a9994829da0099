// Attention in f32 arithmetic. A block owns 32 rows of one head (queries; keys in the backward pass of keys and values)
// and visits tiles of the others in shared memory. Four neighbouring threads share a row: each computes a quarter of
// its scores, then a quarter of its sums.

#include "backend/cuda/attention.h"
#include "backend/cuda/kernel.cuh"

namespace moe::cuda {
namespace {

constexpr int kOwn = 32;    ///< rows that a block owns
constexpr int kOther = 16;  ///< rows of a tile that the block visits
constexpr int kThreads = 4 * kOwn;
constexpr int kQuarter = kOther / 4;

/// `count` rows of one head from row `first` on, with zeros from row `rows` on, as f32. One element between rows makes
/// them start in different banks.
__device__ void load_rows(const Matrix& m, int64_t first, int count, int64_t rows, int64_t column, int size,
                          float* shared) {
  for (int i = static_cast<int>(threadIdx.x); i < count * size; i += kThreads) {
    const int64_t row = first + i / size;
    shared[i / size * (size + 1) + i % size] = row < rows ? load(m, row, column + i % size) : 0.0f;
  }
}

__device__ float dot(const float* a, const float* b, int size) {
  float sum = 0;
  for (int i = 0; i < size; ++i) sum = fmaf(a[i], b[i], sum);
  return sum;
}

/// Over the four threads of a row.
__device__ float row_max(float value) {
  value = fmaxf(value, __shfl_xor_sync(0xffffffffu, value, 1));
  return fmaxf(value, __shfl_xor_sync(0xffffffffu, value, 2));
}
__device__ float row_sum(float value) {
  value += __shfl_xor_sync(0xffffffffu, value, 1);
  return value + __shfl_xor_sync(0xffffffffu, value, 2);
}

/// The first key that any of the block's queries sees; `tokens` if none sees any.
__device__ int64_t first_key(const int* segment_start, int64_t query, int64_t tokens) {
  __shared__ int shared[kOwn];
  if (threadIdx.x < kOwn) {
    const int64_t t = query + threadIdx.x;
    const int start = t < tokens ? segment_start[t] : -1;
    shared[threadIdx.x] = start < 0 ? INT32_MAX : start;
  }
  __syncthreads();
  int first = INT32_MAX;
  for (int i = 0; i < kOwn; ++i) first = min(first, shared[i]);
  return first == INT32_MAX ? tokens : first;
}

struct Heads {
  int64_t q_column, kv_column;
};

__device__ Heads heads_of(const AttentionShape& shape, int head) {
  return {static_cast<int64_t>(head) * shape.head_size,
          static_cast<int64_t>(head * shape.kv_heads / shape.heads) * shape.head_size};
}

template <int kMost>
__global__ void __launch_bounds__(kThreads)
    forward_kernel(Matrix q, Matrix k, Matrix v, const int* segment_start, Matrix out, float* lse, int64_t lse_step,
                   AttentionShape shape) {
  extern __shared__ float memory[];
  const int size = shape.head_size, pitch = size + 1;
  float *const queries = memory, *const keys = queries + kOwn * pitch, *const values = keys + kOther * pitch;
  float(*const weights)[kOther] = reinterpret_cast<float(*)[kOther]>(values + kOther * pitch);
  const int64_t first = static_cast<int64_t>(blockIdx.x) * kOwn;
  const int row = static_cast<int>(threadIdx.x) / 4, part = static_cast<int>(threadIdx.x) % 4;
  const int64_t t = first + row;
  const int start = t < shape.tokens ? segment_start[t] : -1;
  const Heads at = heads_of(shape, static_cast<int>(blockIdx.y));
  load_rows(q, first, kOwn, shape.tokens, at.q_column, size, queries);

  float largest = -INFINITY, total = 0, sum[kMost / 4] = {};
  const int64_t last = min(first + kOwn, shape.tokens);
  for (int64_t key = first_key(segment_start, first, shape.tokens); key < last; key += kOther) {
    __syncthreads();
    load_rows(k, key, kOther, shape.tokens, at.kv_column, size, keys);
    load_rows(v, key, kOther, shape.tokens, at.kv_column, size, values);
    __syncthreads();
    float score[kQuarter], tile_largest = -INFINITY;
    for (int i = 0; i < kQuarter; ++i) {
      const int64_t u = key + part * kQuarter + i;
      const bool seen = start >= 0 && u >= start && u <= t;
      score[i] =
          seen ? shape.scale * dot(queries + row * pitch, keys + (part * kQuarter + i) * pitch, size) : -INFINITY;
      tile_largest = fmaxf(tile_largest, score[i]);
    }
    tile_largest = row_max(tile_largest);
    const float new_largest = fmaxf(largest, tile_largest);
    const float shrink = new_largest == -INFINITY ? 1.0f : expf(largest - new_largest);
    float tile_total = 0;
    for (int i = 0; i < kQuarter; ++i) {
      const float weight = score[i] == -INFINITY ? 0.0f : expf(score[i] - new_largest);
      weights[row][part * kQuarter + i] = weight;
      tile_total += weight;
    }
    total = total * shrink + row_sum(tile_total);
    largest = new_largest;
    __syncwarp();
#pragma unroll
    for (int i = 0; i < kMost / 4; ++i) {
      const int d = part + 4 * i;
      if (d >= size) break;
      float value = sum[i] * shrink;
      for (int j = 0; j < kOther; ++j) value = fmaf(weights[row][j], values[j * pitch + d], value);
      sum[i] = value;
    }
    __syncwarp();
  }
  if (t >= shape.tokens) return;
#pragma unroll
  for (int i = 0; i < kMost / 4; ++i) {
    const int d = part + 4 * i;
    if (d < size) store(out, t, at.q_column + d, start < 0 ? 0.0f : sum[i] / total);
  }
  if (part == 0) lse[t * lse_step + blockIdx.y] = start < 0 ? 0.0f : largest + logf(total);
}

/// The probability of a score, and the score's gradient, from the results of the forward pass.
struct Weight {
  float probability, d_score;
};
__device__ Weight weight_of(const float* q, const float* k, const float* v, const float* d_out, float lse, float delta,
                            float scale, int size) {
  const float probability = expf(scale * dot(q, k, size) - lse);
  return {probability, scale * probability * (dot(d_out, v, size) - delta)};
}

template <int kMost>
__global__ void __launch_bounds__(kThreads)
    backward_q_kernel(Matrix q, Matrix k, Matrix v, const int* segment_start, Matrix d_out, const float* lse,
                      int64_t lse_step, const float* delta, Matrix dq, AttentionShape shape) {
  extern __shared__ float memory[];
  const int size = shape.head_size, pitch = size + 1;
  float *const queries = memory, *const d_outs = queries + kOwn * pitch, *const keys = d_outs + kOwn * pitch;
  float* const values = keys + kOther * pitch;
  float(*const d_scores)[kOther] = reinterpret_cast<float(*)[kOther]>(values + kOther * pitch);
  const int64_t first = static_cast<int64_t>(blockIdx.x) * kOwn;
  const int row = static_cast<int>(threadIdx.x) / 4, part = static_cast<int>(threadIdx.x) % 4;
  const int head = static_cast<int>(blockIdx.y);
  const int64_t t = first + row;
  const int start = t < shape.tokens ? segment_start[t] : -1;
  const Heads at = heads_of(shape, head);
  load_rows(q, first, kOwn, shape.tokens, at.q_column, size, queries);
  load_rows(d_out, first, kOwn, shape.tokens, at.q_column, size, d_outs);
  const float row_lse = start < 0 ? 0.0f : lse[t * lse_step + head];
  const float row_delta = start < 0 ? 0.0f : delta[t * shape.heads + head];

  float sum[kMost / 4] = {};
  const int64_t last = min(first + kOwn, shape.tokens);
  for (int64_t key = first_key(segment_start, first, shape.tokens); key < last; key += kOther) {
    __syncthreads();
    load_rows(k, key, kOther, shape.tokens, at.kv_column, size, keys);
    load_rows(v, key, kOther, shape.tokens, at.kv_column, size, values);
    __syncthreads();
    for (int i = 0; i < kQuarter; ++i) {
      const int j = part * kQuarter + i;
      const int64_t u = key + j;
      const bool seen = start >= 0 && u >= start && u <= t;
      d_scores[row][j] = !seen ? 0.0f
                               : weight_of(queries + row * pitch, keys + j * pitch, values + j * pitch,
                                           d_outs + row * pitch, row_lse, row_delta, shape.scale, size)
                                     .d_score;
    }
    __syncwarp();
#pragma unroll
    for (int i = 0; i < kMost / 4; ++i) {
      const int d = part + 4 * i;
      if (d >= size) break;
      for (int j = 0; j < kOther; ++j) sum[i] = fmaf(d_scores[row][j], keys[j * pitch + d], sum[i]);
    }
    __syncwarp();
  }
  if (t >= shape.tokens) return;
#pragma unroll
  for (int i = 0; i < kMost / 4; ++i) {
    const int d = part + 4 * i;
    if (d < size) store(dq, t, at.q_column + d, sum[i]);
  }
}

/// The block owns keys. For each query head of their group, in order, it visits the queries that may see them.
template <int kMost>
__global__ void __launch_bounds__(kThreads)
    backward_kv_kernel(Matrix q, Matrix k, Matrix v, const int* segment_start, Matrix d_out, const float* lse,
                       int64_t lse_step, const float* delta, Matrix dk, Matrix dv, AttentionShape shape) {
  extern __shared__ float memory[];
  const int size = shape.head_size, pitch = size + 1;
  float *const keys = memory, *const values = keys + kOwn * pitch, *const queries = values + kOwn * pitch;
  float* const d_outs = queries + kOther * pitch;
  float(*const probabilities)[kOther] = reinterpret_cast<float(*)[kOther]>(d_outs + kOther * pitch);
  float(*const d_scores)[kOther] = probabilities + kOwn;
  const int64_t first = static_cast<int64_t>(blockIdx.x) * kOwn;
  const int row = static_cast<int>(threadIdx.x) / 4, part = static_cast<int>(threadIdx.x) % 4;
  const int kv_head = static_cast<int>(blockIdx.y), group = shape.heads / shape.kv_heads;
  const int64_t u = first + row, kv_column = static_cast<int64_t>(kv_head) * size;
  load_rows(k, first, kOwn, shape.tokens, kv_column, size, keys);
  load_rows(v, first, kOwn, shape.tokens, kv_column, size, values);

  float k_sum[kMost / 4] = {}, v_sum[kMost / 4] = {};
  const int64_t last = min(shape.tokens, first + kOwn - 1 + shape.max_segment);
  for (int head = kv_head * group; head < (kv_head + 1) * group; ++head) {
    const int64_t q_column = static_cast<int64_t>(head) * size;
    for (int64_t query = first; query < last; query += kOther) {
      __syncthreads();
      load_rows(q, query, kOther, shape.tokens, q_column, size, queries);
      load_rows(d_out, query, kOther, shape.tokens, q_column, size, d_outs);
      __syncthreads();
      for (int i = 0; i < kQuarter; ++i) {
        const int j = part * kQuarter + i;
        const int64_t t = query + j;
        const int start = t < shape.tokens ? segment_start[t] : -1;
        Weight weight{0, 0};
        if (start >= 0 && u >= start && u <= t) {
          weight = weight_of(queries + j * pitch, keys + row * pitch, values + row * pitch, d_outs + j * pitch,
                             lse[t * lse_step + head], delta[t * shape.heads + head], shape.scale, size);
        }
        probabilities[row][j] = weight.probability;
        d_scores[row][j] = weight.d_score;
      }
      __syncwarp();
#pragma unroll
      for (int i = 0; i < kMost / 4; ++i) {
        const int d = part + 4 * i;
        if (d >= size) break;
        for (int j = 0; j < kOther; ++j) {
          k_sum[i] = fmaf(d_scores[row][j], queries[j * pitch + d], k_sum[i]);
          v_sum[i] = fmaf(probabilities[row][j], d_outs[j * pitch + d], v_sum[i]);
        }
      }
      __syncwarp();
    }
  }
  if (u >= shape.tokens) return;
#pragma unroll
  for (int i = 0; i < kMost / 4; ++i) {
    const int d = part + 4 * i;
    if (d >= size) break;
    store(dk, u, kv_column + d, k_sum[i]);
    store(dv, u, kv_column + d, v_sum[i]);
  }
}

/// Rows of heads in shared memory, and tables of weights.
size_t shared_bytes(const AttentionShape& shape, int rows, int tables) {
  return static_cast<size_t>(rows * (shape.head_size + 1) + tables * kOwn * kOther) * sizeof(float);
}

template <class... Parameters, class... Args>
void start(const Context& context, void (*kernel)(Parameters...), const AttentionShape& shape, int heads, size_t bytes,
           Args... args) {
  check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(bytes)),
        "asking for shared memory");
  dim3 grid = blocks(ceil_div(shape.tokens, kOwn));
  grid.y = static_cast<unsigned>(heads);
  launch(context, kernel, grid, kThreads, bytes, args...);
}

}  // namespace

void simt_attention(Context& context, const Attention& op, const AttentionShape& shape) {
  const auto run = [&](auto kernel) {
    start(context, kernel, shape, shape.heads, shared_bytes(shape, kOwn + 2 * kOther, 1), matrix(op.q), matrix(op.k),
          matrix(op.v), op.segment_start.as<const int32_t>(), matrix(op.out), op.lse.as<float>(), op.lse.stride[0],
          shape);
  };
  shape.head_size <= 64 ? run(forward_kernel<64>) : run(forward_kernel<kMostHeadSize>);
}

void simt_attention(Context& context, const AttentionBackward& op, const AttentionShape& shape, const float* delta) {
  const auto run_q = [&](auto kernel) {
    start(context, kernel, shape, shape.heads, shared_bytes(shape, 2 * kOwn + 2 * kOther, 1), matrix(op.q),
          matrix(op.k), matrix(op.v), op.segment_start.as<const int32_t>(), matrix(op.d_out), op.lse.as<const float>(),
          op.lse.stride[0], delta, matrix(op.dq), shape);
  };
  const auto run_kv = [&](auto kernel) {
    start(context, kernel, shape, shape.kv_heads, shared_bytes(shape, 2 * kOwn + 2 * kOther, 2), matrix(op.q),
          matrix(op.k), matrix(op.v), op.segment_start.as<const int32_t>(), matrix(op.d_out), op.lse.as<const float>(),
          op.lse.stride[0], delta, matrix(op.dk), matrix(op.dv), shape);
  };
  if (shape.head_size <= 64) {
    run_q(backward_q_kernel<64>);
    run_kv(backward_kv_kernel<64>);
  } else {
    run_q(backward_q_kernel<kMostHeadSize>);
    run_kv(backward_kv_kernel<kMostHeadSize>);
  }
}

}  // namespace moe::cuda
