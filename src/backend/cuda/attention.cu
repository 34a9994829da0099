#include "backend/cuda/attention.h"

#include "backend/cuda/kernel.cuh"
#include "backend/cuda/products.h"

namespace moe::cuda {
namespace {

/// One warp per token and head.
__global__ void delta_kernel(Matrix d_out, Matrix out, float* delta, int64_t count, int heads, int head_size) {
  const int64_t index = (static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) / kWarp;
  if (index >= count) return;
  const int64_t t = index / heads, column = index % heads * head_size;
  float sum = 0;
  for (int i = static_cast<int>(threadIdx.x) % kWarp; i < head_size; i += kWarp) {
    sum += load(d_out, t, column + i) * load(out, t, column + i);
  }
  sum = warp_sum(sum);
  if (threadIdx.x % kWarp == 0) delta[index] = sum;
}

template <class Op>
AttentionShape shape_of(const Op& op) {
  const AttentionShape shape{.tokens = op.q.size(0),
                             .heads = op.heads,
                             .kv_heads = op.kv_heads,
                             .head_size = static_cast<int>(op.q.size(1) / op.heads),
                             .scale = op.scale,
                             .max_segment = op.max_segment};
  if (shape.head_size > kMostHeadSize) {
    fail("{}: heads are of size {}, and on a GPU at most {}", Op::name, shape.head_size, kMostHeadSize);
  }
  return shape;
}

template <class Op>
bool on_tensor_cores(const Op& op) {
  return product_path() != CudaPath::simt && tensor_attention_takes(op);
}

}  // namespace

const float* attention_delta(Context& context, Carver& carver, const AttentionBackward& op) {
  constexpr unsigned kThreads = 256;
  const int64_t count = op.q.size(0) * op.heads;
  auto* const delta = carver.take<float>(count);
  launch(context, delta_kernel, blocks(ceil_div(count * kWarp, kThreads)), kThreads, 0, matrix(op.d_out),
         matrix(op.out), delta, count, op.heads, static_cast<int>(op.q.size(1) / op.heads));
  return delta;
}

template <>
void execute(Context& context, const Attention& op) {
  if (op.q.size(0) == 0) return;
  const AttentionShape shape = shape_of(op);
  on_tensor_cores(op) ? tensor_attention(context, op, shape) : simt_attention(context, op, shape);
}

template <>
void execute(Context& context, const AttentionBackward& op) {
  if (op.q.size(0) == 0) return;
  const AttentionShape shape = shape_of(op);
  Carver carver(context, AttentionBackward::name);
  const float* const delta = attention_delta(context, carver, op);
  on_tensor_cores(op) ? tensor_attention(context, op, shape, delta) : simt_attention(context, op, shape, delta);
}

}  // namespace moe::cuda
