#include <cmath>

#include "backend/cuda/kernel.cuh"
#include "ops/numbers.h"

namespace moe::cuda {
namespace {

constexpr unsigned kThreads = 256;

template <class T>
__global__ void fill_kernel(T* x, T value, int64_t count) {
  const int64_t stride = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < count; i += stride) x[i] = value;
}

template <class T>
void fill(Context& context, const View& x, T value) {
  if (value == T{}) {
    check(cudaMemsetAsync(x.data, 0, x.bytes(), context.stream), "filling with zeros");
    return;
  }
  const int64_t count = x.elements();
  launch(context, fill_kernel<T>, blocks(std::min<int64_t>(ceil_div(count, kThreads), 4096)), kThreads, 0,
         static_cast<T*>(x.data), value, count);
}

/// The elements of a contiguous view as rows of whole chunks, so that the row kernels' loads serve.
Matrix row_of(const View& view) {
  if (!view) return {};
  return matrix(View(view.data, view.dtype, {view.elements()}));
}

__global__ void cast_kernel(Matrix x, Matrix y, int64_t count) {
  const int64_t c = (static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) * kChunk;
  if (c >= count) return;
  float v[kChunk];
  load_chunk(x, 0, c, count, v);
  store_chunk(y, 0, c, count, v);
}

/// The elements are divided among blocks by the count alone, and a block's threads add theirs in a fixed order.
__global__ void sum_squares_kernel(Matrix x, double* partials, int64_t count, int64_t per_block) {
  __shared__ double shared[kThreads / kWarp];
  const int64_t begin = blockIdx.x * per_block, end = begin + per_block < count ? begin + per_block : count;
  double sum = 0;
  for (int64_t c = begin + threadIdx.x * kChunk; c < end; c += blockDim.x * kChunk) {
    float v[kChunk];
    load_chunk(x, 0, c, end, v);
#pragma unroll
    for (int i = 0; i < kChunk; ++i) sum += static_cast<double>(v[i]) * static_cast<double>(v[i]);
  }
  sum = block_sum(sum, shared);
  if (threadIdx.x == 0) partials[blockIdx.x] = sum;
}

__global__ void add_up_kernel(const double* partials, int64_t count, double* total) {
  __shared__ double shared[kThreads / kWarp];
  double sum = 0;
  for (int64_t i = threadIdx.x; i < count; i += blockDim.x) sum += partials[i];
  sum = block_sum(sum, shared);
  if (threadIdx.x == 0) *total += sum;
}

__global__ void clip_scale_kernel(const double* sum_squares, float max_norm, float* norm, float* scale) {
  const double value = sqrt(*sum_squares);
  double factor = 1;
  if (max_norm > 0) factor = fmin(1.0, static_cast<double>(max_norm) / (value + 1e-6));
  if (!isfinite(value)) factor = nan("");
  *norm = static_cast<float>(value);
  *scale = static_cast<float>(factor);
}

struct AdamWScalars {
  float beta1, one_minus_beta1, beta2, one_minus_beta2, correction1, correction2, learning_rate, keep, eps;
};

__device__ float root_of(float x) {
  float y;
  asm("sqrt.approx.f32 %0, %1;" : "=f"(y) : "f"(x));  // numbers too small for a full mantissa included
  return y;
}

/// Reads eight floats that nobody needs in the cache afterwards.
__device__ void load_once(const Matrix& m, int64_t c, int64_t count, float (&out)[kChunk]) {
  if (m.half || !m.wide || c + kChunk > count) return load_chunk(m, 0, c, count, out);
  const auto* const four = reinterpret_cast<const float4*>(static_cast<const float*>(m.data) + c);
  const float4 low = __ldcs(four), high = __ldcs(four + 1);
  out[0] = low.x, out[1] = low.y, out[2] = low.z, out[3] = low.w;
  out[4] = high.x, out[5] = high.y, out[6] = high.z, out[7] = high.w;
}
__device__ void store_once(const Matrix& m, int64_t c, int64_t count, const float (&in)[kChunk]) {
  if (m.half || !m.wide || c + kChunk > count) return store_chunk(m, 0, c, count, in);
  auto* const four = reinterpret_cast<float4*>(static_cast<float*>(m.data) + c);
  __stcs(four, make_float4(in[0], in[1], in[2], in[3]));
  __stcs(four + 1, make_float4(in[4], in[5], in[6], in[7]));
}

__global__ void adamw_kernel(Matrix param, Matrix master, Matrix gradient, Matrix exp_avg, Matrix exp_avg_sq,
                             const float* gradient_scale, AdamWScalars s, int64_t count) {
  const int64_t c = (static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) * kChunk;
  if (c >= count) return;
  float p[kChunk], g[kChunk], m[kChunk], v[kChunk];
  load_once(master ? master : param, c, count, p);
  load_once(gradient, c, count, g);
  load_once(exp_avg, c, count, m);
  load_once(exp_avg_sq, c, count, v);
  const float scale = *gradient_scale;
#pragma unroll
  for (int i = 0; i < kChunk; ++i) {
    const float d = g[i] * scale;
    m[i] = s.beta1 * m[i] + s.one_minus_beta1 * d;
    v[i] = s.beta2 * v[i] + s.one_minus_beta2 * d * d;
    // By approximations whose few units of rounding the bound has room for.
    const float move = __fdividef(s.learning_rate * (m[i] * s.correction1), root_of(v[i] * s.correction2) + s.eps);
    p[i] = p[i] * s.keep - move;
  }
  store_once(exp_avg, c, count, m);
  store_once(exp_avg_sq, c, count, v);
  if (master) store_once(master, c, count, p);
  store_chunk(param, 0, c, count, p);
}

dim3 chunk_blocks(int64_t count) { return blocks(ceil_div(count, static_cast<int64_t>(kThreads) * kChunk)); }

}  // namespace

template <>
void execute(Context& context, const Fill& op) {
  if (op.x.elements() == 0) return;
  switch (op.x.dtype) {
    case DType::f64:
      return fill(context, op.x, op.value);
    case DType::f32:
      return fill(context, op.x, static_cast<float>(op.value));
    case DType::bf16:
      return fill(context, op.x, to_bf16(static_cast<float>(op.value)).bits);
    case DType::i32:
      return fill(context, op.x, static_cast<int32_t>(op.value));
    case DType::u8:
      return fill(context, op.x, static_cast<uint8_t>(op.value));
  }
}

template <>
void execute(Context& context, const Cast& op) {
  const int64_t count = op.x.elements();
  launch(context, cast_kernel, chunk_blocks(count), kThreads, 0, row_of(op.x), row_of(op.y), count);
}

template <>
void execute(Context& context, const SumSquares& op) {
  constexpr int64_t kLeast = kThreads * kChunk, kMostBlocks = 1024;
  const int64_t count = op.x.elements();
  const int64_t parts = std::min(ceil_div(count, kLeast), kMostBlocks);
  if (parts == 0) return;
  const int64_t per_block = ceil_div(ceil_div(count, parts), kChunk) * kChunk;
  auto* const partials = Carver(context, SumSquares::name).take<double>(parts);
  launch(context, sum_squares_kernel, blocks(parts), kThreads, 0, row_of(op.x), partials, count, per_block);
  launch(context, add_up_kernel, dim3(1), kThreads, 0, partials, parts, op.sum.as<double>());
}

template <>
void execute(Context& context, const ClipScale& op) {
  launch(context, clip_scale_kernel, dim3(1), 1, 0, op.sum_squares.as<const double>(), op.max_norm, op.norm.as<float>(),
         op.scale.as<float>());
}

template <>
void execute(Context& context, const AdamW& op) {
  const auto beta1 = static_cast<double>(op.beta1), beta2 = static_cast<double>(op.beta2);
  const auto step = static_cast<double>(op.step);
  const double decay = static_cast<double>(op.learning_rate) * static_cast<double>(op.weight_decay);
  const AdamWScalars scalars{.beta1 = op.beta1,
                             .one_minus_beta1 = static_cast<float>(1 - beta1),
                             .beta2 = op.beta2,
                             .one_minus_beta2 = static_cast<float>(1 - beta2),
                             .correction1 = static_cast<float>(1 / (1 - std::pow(beta1, step))),
                             .correction2 = static_cast<float>(1 / (1 - std::pow(beta2, step))),
                             .learning_rate = op.learning_rate,
                             .keep = static_cast<float>(1 - decay),
                             .eps = op.eps};
  const int64_t count = op.param.elements();
  launch(context, adamw_kernel, chunk_blocks(count), kThreads, 0, row_of(op.param), row_of(op.master),
         row_of(op.gradient), row_of(op.exp_avg), row_of(op.exp_avg_sq), op.gradient_scale.as<const float>(), scalars,
         count);
}

}  // namespace moe::cuda
