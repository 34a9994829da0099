#include "backend/cuda/kernel.cuh"
#include "backend/cuda/sort.h"
#include "ops/ends.h"

namespace moe::cuda {
namespace {

constexpr unsigned kThreads = 256;

__global__ void embed_kernel(const int* tokens, Matrix table, Matrix y, int64_t rows, int64_t width) {
  const int64_t chunks = (width + kChunk - 1) / kChunk;
  const int64_t index = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  const int64_t row = index / chunks, c = index % chunks * kChunk;
  if (row >= rows) return;
  float v[kChunk];
  load_chunk(table, tokens[row], c, width, v);
  store_chunk(y, row, c, width, v);
}

/// The block at the first of several equal tokens adds them all, in the order of t.
__global__ void embed_backward_kernel(Sorted sorted, Matrix dy, Matrix d_table, int64_t rows, int64_t width) {
  const int64_t first = blockIdx.x;
  const int token = sorted.keys[first];
  if (first > 0 && sorted.keys[first - 1] == token) return;
  for (int64_t c = threadIdx.x * kChunk; c < width; c += blockDim.x * kChunk) {
    float sum[kChunk], d[kChunk];
    load_chunk(d_table, token, c, width, sum);
    for (int64_t i = first; i < rows && sorted.keys[i] == token; ++i) {
      load_chunk(dy, sorted.places[i], c, width, d);
#pragma unroll
      for (int j = 0; j < kChunk; ++j) sum[j] += d[j];
    }
    store_chunk(d_table, token, c, width, sum);
  }
}

/// One block per row. Each thread keeps the largest logit it has seen and the sum of exponentials relative to it.
__global__ void cross_entropy_kernel(Matrix logits, const int* targets, const float* gradient_scale, Matrix d_logits,
                                     float* row_loss, int64_t width) {
  __shared__ float shared[kThreads / kWarp];
  const int64_t row = blockIdx.x;
  const int target = targets[row];
  float v[kChunk];
  if (target < 0) {
    if (threadIdx.x == 0) row_loss[row] = 0;
    if (gradient_scale == nullptr) return;
    for (float& value : v) value = 0;
    for (int64_t c = threadIdx.x * kChunk; c < width; c += blockDim.x * kChunk) store_chunk(d_logits, row, c, width, v);
    return;
  }
  float largest = -INFINITY, sum = 0;
  for (int64_t c = threadIdx.x * kChunk; c < width; c += blockDim.x * kChunk) {
    load_chunk(logits, row, c, width, v);
    const int count = static_cast<int>(width - c < kChunk ? width - c : kChunk);
    float chunk_largest = v[0];
#pragma unroll
    for (int i = 1; i < kChunk; ++i) chunk_largest = i < count ? fmaxf(chunk_largest, v[i]) : chunk_largest;
    if (chunk_largest > largest) {
      sum *= expf(largest - chunk_largest);
      largest = chunk_largest;
    }
    const float base = largest == -INFINITY ? 0.0f : largest;  // nothing but -inf so far: exponentials of it are 0
#pragma unroll
    for (int i = 0; i < kChunk; ++i) sum += i < count ? expf(v[i] - base) : 0.0f;
  }
  const float row_largest = block_max(largest, shared);
  sum = block_sum(largest == -INFINITY ? sum : sum * expf(largest - row_largest), shared);
  if (threadIdx.x == 0) row_loss[row] = logf(sum) + (row_largest - load(logits, row, target));
  if (gradient_scale == nullptr) return;
  __syncthreads();  // the target's logit has been read: d_logits may lie in its place
  const float scale = *gradient_scale;
  const float inverse = 1 / sum;
  for (int64_t c = threadIdx.x * kChunk; c < width; c += blockDim.x * kChunk) {
    load_chunk(logits, row, c, width, v);
#pragma unroll
    for (int i = 0; i < kChunk; ++i) {
      const float p = expf(v[i] - row_largest) * inverse;
      v[i] = scale * (p - (c + i == target ? 1.0f : 0.0f));
    }
    store_chunk(d_logits, row, c, width, v);
  }
}

}  // namespace

template <>
void execute(Context& context, const Embed& op) {
  const int64_t rows = op.y.size(0), width = op.y.size(1);
  launch(context, embed_kernel, blocks(ceil_div(rows * ceil_div(width, kChunk), kThreads)), kThreads, 0,
         op.tokens.as<const int32_t>(), matrix(op.table), matrix(op.y), rows, width);
}

template <>
void execute(Context& context, const EmbedBackward& op) {
  const int64_t rows = op.dy.size(0), width = op.dy.size(1);
  if (rows == 0 || width == 0) return;
  Carver carver(context, EmbedBackward::name);
  auto* const keys = carver.take<int>(rows);
  check(cudaMemcpyAsync(keys, op.tokens.data, op.tokens.bytes(), cudaMemcpyDeviceToDevice, context.stream),
        "copying tokens");
  const Sorted sorted = sort_by_key(context, carver, keys, rows, op.d_table.size(0));
  launch(context, embed_backward_kernel, blocks(rows), kWarp * 4, 0, sorted, matrix(op.dy), matrix(op.d_table), rows,
         width);
}

template <>
void execute(Context& context, const CrossEntropy& op) {
  launch(context, cross_entropy_kernel, blocks(op.logits.size(0)), kThreads, 0, matrix(op.logits),
         op.targets.as<const int32_t>(), op.gradient_scale ? op.gradient_scale.as<const float>() : nullptr,
         matrix(op.d_logits), op.row_loss.as<float>(), op.logits.size(1));
}

}  // namespace moe::cuda
