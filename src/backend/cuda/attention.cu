#include "backend/cuda/attention.h"
#include "backend/cuda/attention_path.h"
#include "backend/cuda/kernel.cuh"
#include "backend/cuda/slow_path.h"

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

/// A warp for 32 tokens. The last token of a document writes the result for the whole document.
__global__ void last_query_kernel(const int* segment_start, int tokens, int* last_query) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int t = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  const int start = t < tokens ? segment_start[t] : -1;
  if (t < tokens && start < 0) last_query[t] = -1;
  const bool ends = start >= 0 && (t + 1 == tokens || segment_start[t + 1] != start);
  for (unsigned rest = __ballot_sync(0xffffffffu, ends); rest != 0; rest &= rest - 1) {
    const int source = __ffs(static_cast<int>(rest)) - 1, end = t - lane + source;
    for (int u = __shfl_sync(0xffffffffu, start, source) + lane; u <= end; u += kWarp) last_query[u] = end;
  }
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

/// Warns where attention of bf16 cannot take the tensor cores, or not Hopper's way on a Hopper GPU.
template <class Op>
void note_path(const Context& context, const Op& op, CudaPath path) {
  if (product_path() != CudaPath::automatic || op.q.dtype != DType::bf16 || flops(op) < kWorthAWarning) return;
  if (path == CudaPath::simt) {
    note_slow_path(Op::name, "heads of its size, scale or alignment leave it without tensor cores");
  }
  if (path == CudaPath::tensor && context.compute_capability == 90) {
#ifdef MOE_CUDA_HOPPER
    note_slow_path(Op::name, "heads of other sizes than 64 and 128 use the tensor cores in the older way");
#else
    note_slow_path(Op::name, "this program was built without code for 90a, and uses the tensor cores in the older way");
#endif
  }
}

template <class Op>
CudaPath path_of(const Context& context, const Op& op) {
  const CudaPath path = attention_path(op, product_path(), context.compute_capability);
  note_path(context, op, path);
  return path;
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

const int* last_queries(Context& context, Carver& carver, const View& segment_start) {
  constexpr unsigned kThreads = 128;
  const int64_t tokens = segment_start.size(0);
  MOE_CHECK(tokens <= INT32_MAX - kThreads);
  int* const result = carver.take<int>(tokens);
  launch(context, last_query_kernel, threads_for(tokens, kThreads), kThreads, 0, segment_start.as<const int32_t>(),
         static_cast<int>(tokens), result);
  return result;
}

template <>
void execute(Context& context, const Attention& op) {
  if (op.q.size(0) == 0) return;
  const AttentionShape shape = shape_of(op);
  switch (path_of(context, op)) {
    case CudaPath::hopper:
      return hopper_attention(context, op, shape);
    case CudaPath::tensor:
      return tensor_attention(context, op, shape);
    default:
      return simt_attention(context, op, shape);
  }
}

template <>
void execute(Context& context, const AttentionBackward& op) {
  if (op.q.size(0) == 0) return;
  const AttentionShape shape = shape_of(op);
  const CudaPath path = path_of(context, op);
  if (path == CudaPath::hopper) return hopper_attention(context, op, shape);
  Carver carver(context, AttentionBackward::name);
  const float* const delta = attention_delta(context, carver, op);
  if (path == CudaPath::simt) return simt_attention(context, op, shape, delta);
  tensor_attention(context, op, shape, delta, last_queries(context, carver, op.segment_start));
}

}  // namespace moe::cuda
