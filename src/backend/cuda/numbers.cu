#include <cmath>

#include "backend/cuda/kernel.cuh"
#include "backend/cuda/sums.h"
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

/// The elements of a contiguous view as rows of whole chunks, so that the loads for row kernels can be used.
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

constexpr int kQuad = 4;  ///< elements that a lane takes at a time if all are f32; those of a warp are adjacent

/// Four elements from `at` on that should not stay in the cache. Elements from `count` on read as 0.
__device__ void load_once(const Matrix& m, int64_t at, int64_t count, float (&out)[kQuad]) {
  if (m.bf16 || !m.wide || at + kQuad > count) {
#pragma unroll
    for (int i = 0; i < kQuad; ++i) out[i] = at + i < count ? load(m, 0, at + i) : 0.0f;
    return;
  }
  const float4 four = __ldcs(reinterpret_cast<const float4*>(static_cast<const float*>(m.data) + at));
  out[0] = four.x, out[1] = four.y, out[2] = four.z, out[3] = four.w;
}
__device__ void store_once(const Matrix& m, int64_t at, int64_t count, const float (&in)[kQuad]) {
  if (!m.wide || at + kQuad > count) {
#pragma unroll
    for (int i = 0; i < kQuad; ++i) {
      if (at + i < count) store(m, 0, at + i, in[i]);
    }
  } else if (m.bf16) {
    uint2 bits;
    auto* const pairs = reinterpret_cast<__nv_bfloat162*>(&bits);
    pairs[0] = __floats2bfloat162_rn(in[0], in[1]);
    pairs[1] = __floats2bfloat162_rn(in[2], in[3]);
    __stcs(reinterpret_cast<uint2*>(static_cast<__nv_bfloat16*>(m.data) + at), bits);
  } else {
    __stcs(reinterpret_cast<float4*>(static_cast<float*>(m.data) + at), make_float4(in[0], in[1], in[2], in[3]));
  }
}

/// The division of the elements among blocks depends only on their count, and a block's threads add in a fixed order.
__global__ void sum_squares_kernel(Matrix x, double* partials, int64_t count, int64_t per_block) {
  __shared__ double shared[kThreads / kWarp];
  const int64_t begin = blockIdx.x * per_block, end = begin + per_block < count ? begin + per_block : count;
  double sum = 0;
#pragma unroll 4
  for (int64_t c = begin + threadIdx.x * kQuad; c < end; c += blockDim.x * kQuad) {
    float v[kQuad];
    load_once(x, c, end, v);
#pragma unroll
    for (int i = 0; i < kQuad; ++i) sum += static_cast<double>(v[i]) * static_cast<double>(v[i]);
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
  const auto stored = static_cast<float>(value);
  if (!isfinite(stored)) factor = nan("");
  *norm = stored;
  *scale = static_cast<float>(factor);
}

__global__ void blend_kernel(Matrix x, const float* x_scale, const float* guard, Matrix y, float x_factor,
                             float y_factor, int64_t count) {
  const float scale = x_scale != nullptr ? *x_scale : 1.0f;
  if (!isfinite(scale) || (guard != nullptr && !isfinite(*guard))) return;
  const int64_t c = (static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) * kChunk;
  if (c >= count) return;
  float a[kChunk], b[kChunk];
  load_chunk(x, 0, c, count, a);
  load_chunk(y, 0, c, count, b);
#pragma unroll
  for (int i = 0; i < kChunk; ++i) b[i] = x_factor * scale * a[i] + y_factor * b[i];
  store_chunk(y, 0, c, count, b);
}

/// Block b sums part b % parts of row b / parts, in a fixed order.
__global__ void row_squares_kernel(Matrix x, double* partials, int64_t parts, int64_t width, int64_t per_block) {
  __shared__ double shared[kThreads / kWarp];
  const int64_t row = blockIdx.x / parts, begin = blockIdx.x % parts * per_block;
  const int64_t end = begin + per_block < width ? begin + per_block : width;
  double sum = 0;
  for (int64_t c = begin + threadIdx.x * kChunk; c < end; c += blockDim.x * kChunk) {
    float v[kChunk];
    load_chunk(x, row, c, end, v);
#pragma unroll
    for (int i = 0; i < kChunk; ++i) sum += static_cast<double>(v[i]) * static_cast<double>(v[i]);
  }
  sum = block_sum(sum, shared);
  if (threadIdx.x == 0) partials[blockIdx.x] = sum;
}

/// Divides each row by its norm. Every block adds up its row's partial sums in the same order.
__global__ void unit_rows_kernel(Matrix x, Matrix y, const double* partials, int64_t parts, int64_t width,
                                 int64_t per_block, float eps) {
  const int64_t row = blockIdx.x / parts, begin = blockIdx.x % parts * per_block;
  const int64_t end = begin + per_block < width ? begin + per_block : width;
  double sum = 0;
  for (int64_t i = 0; i < parts; ++i) sum += partials[row * parts + i];
  const auto factor = static_cast<float>(1 / fmax(sqrt(sum), static_cast<double>(eps)));
  for (int64_t c = begin + threadIdx.x * kChunk; c < end; c += blockDim.x * kChunk) {
    float v[kChunk];
    load_chunk(x, row, c, end, v);
#pragma unroll
    for (int i = 0; i < kChunk; ++i) v[i] *= factor;
    store_chunk(y, row, c, end, v);
  }
}

struct AdamWScalars {
  float beta1, one_minus_beta1, beta2, one_minus_beta2, correction1, correction2, learning_rate, keep, eps;
};

__device__ float root_of(float x) {
  float y;
  asm("sqrt.approx.f32 %0, %1;" : "=f"(y) : "f"(x));  // also for numbers too small for a full mantissa
  return y;
}

__global__ void adamw_kernel(Matrix param, Matrix master, Matrix gradient, Matrix exp_avg, Matrix exp_avg_sq,
                             const float* gradient_scale, AdamWScalars s, int64_t count) {
  const float scale = *gradient_scale;
  if (!isfinite(scale)) return;
  const int64_t at = (static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) * kQuad;
  float p[kQuad], g[kQuad], m[kQuad], v[kQuad];
  if (master) {
    load_once(master, at, count, p);
  } else {
    load_once(param, at, count, p);
  }
  load_once(gradient, at, count, g);
  load_once(exp_avg, at, count, m);
  load_once(exp_avg_sq, at, count, v);
#pragma unroll
  for (int i = 0; i < kQuad; ++i) {
    const float d = g[i] * scale;
    m[i] = s.beta1 * m[i] + s.one_minus_beta1 * d;
    v[i] = s.beta2 * v[i] + s.one_minus_beta2 * d * d;
    // Approximations. The tests' bound allows their few units of rounding.
    const float move = __fdividef(s.learning_rate * (m[i] * s.correction1), root_of(v[i] * s.correction2) + s.eps);
    p[i] = p[i] * s.keep - move;
  }
  store_once(exp_avg, at, count, m);
  store_once(exp_avg_sq, at, count, v);
  if (master) store_once(master, at, count, p);
  store_once(param, at, count, p);
}

dim3 chunk_blocks(int64_t count) { return blocks(ceil_div(count, static_cast<int64_t>(kThreads) * kChunk)); }

}  // namespace

void add_up(const Context& context, const double* partials, int64_t count, double* total) {
  launch(context, add_up_kernel, dim3(1), kThreads, 0, partials, count, total);
}

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
    default:
      MOE_CHECK(!"fill's types are listed in cuda_backend.cu");
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
  add_up(context, partials, parts, op.sum.as<double>());
}

template <>
void execute(Context& context, const ClipScale& op) {
  launch(context, clip_scale_kernel, dim3(1), 1, 0, op.sum_squares.as<const double>(), op.max_norm, op.norm.as<float>(),
         op.scale.as<float>());
}

template <>
void execute(Context& context, const Blend& op) {
  const int64_t count = op.x.elements();
  launch(context, blend_kernel, chunk_blocks(count), kThreads, 0, row_of(op.x),
         op.x_scale ? op.x_scale.as<const float>() : nullptr, op.guard ? op.guard.as<const float>() : nullptr,
         row_of(op.y), op.x_factor, op.y_factor, count);
}

template <>
void execute(Context& context, const UnitMatrices& op) {
  constexpr int64_t kLeast = kThreads * kChunk * 4, kMostParts = 256;
  const int64_t rows = op.x.size(0), width = op.x.size(1) * op.x.size(2);
  if (rows == 0 || width == 0) return;
  const int64_t parts = std::min(ceil_div(width, kLeast), kMostParts);
  const int64_t per_block = ceil_div(ceil_div(width, parts), kChunk) * kChunk;
  const Matrix x = matrix(op.x.reshaped({rows, width})), y = matrix(op.y.reshaped({rows, width}));
  auto* const partials = Carver(context, UnitMatrices::name).take<double>(rows * parts);
  launch(context, row_squares_kernel, blocks(rows * parts), kThreads, 0, x, partials, parts, width, per_block);
  launch(context, unit_rows_kernel, blocks(rows * parts), kThreads, 0, x, y, static_cast<const double*>(partials),
         parts, width, per_block, op.eps);
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
  launch(context, adamw_kernel, threads_for(ceil_div(count, kQuad), kThreads), kThreads, 0, row_of(op.param),
         row_of(op.master), row_of(op.gradient), row_of(op.exp_avg), row_of(op.exp_avg_sq),
         op.gradient_scale.as<const float>(), scalars, count);
}

}  // namespace moe::cuda
