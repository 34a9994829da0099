#include "backend/cuda/cache_hints.cuh"
#include "backend/cuda/combine.cuh"
#include "backend/cuda/combined_norm.h"
#include "backend/cuda/early.cuh"

namespace moe::cuda {
namespace {

// As norm.cu has them for rows of this width.
constexpr int kThreads = 256;
constexpr int64_t kMostWidth = int64_t{kThreads} * kChunk, kLeastWidth = kMostWidth / 2;

struct Norm {
  Matrix gain, y;
  float eps;
  float* inv_rms;
};

/// A block for each token, a thread for each chunk of it.
__global__ void __launch_bounds__(kThreads)
    combined_norm_kernel(const __grid_constant__ Combine combine, const __grid_constant__ Norm norm, int64_t width) {
  __shared__ float shared[kThreads / kWarp];
  const int64_t t = blockIdx.x, c = static_cast<int64_t>(threadIdx.x) * kChunk;
  let_next_start();
  ask_for_chunk(norm.gain, 0, c, width);
  wait_for_previous();
  float factor[kChunk], v[kChunk] = {}, squares = 0;
  load_chunk(norm.gain, 0, c, width, factor);
  if (c < width) {
    combine_chunk<true>(combine, t, c, width, v);
    store_chunk(combine.y, t, c, width, v);
#pragma unroll
    for (int i = 0; i < kChunk; ++i) v[i] = rounded(combine.y, v[i]);
#pragma unroll
    for (int i = 0; i < kChunk; ++i) squares += v[i] * v[i];
  }
  squares = block_sum(squares, shared);
  const float scale = 1 / sqrtf(squares / static_cast<float>(width) + norm.eps);
  if (threadIdx.x == 0) norm.inv_rms[t] = scale;
  if (c >= width) return;
#pragma unroll
  for (int i = 0; i < kChunk; ++i) v[i] = factor[i] * rounded(norm.y, v[i] * scale);
  store_chunk(norm.y, t, c, width, v);
}

}  // namespace

bool suits_combined_norm(const Context& context, const RowsCombine& combine, const RmsNorm& norm) {
  const int64_t tokens = combine.y.size(0), width = combine.y.size(1);
  if (!same_view(combine.y, norm.x) || norm.residual || tokens > context.multiprocessors) return false;
  if (width <= kLeastWidth || width > kMostWidth || !in_bf16_chunks(combine_of(combine), width)) return false;
  return is_bf16(norm.y) && (norm.gain.dtype == DType::bf16 || norm.gain.dtype == DType::f32);
}

void combined_norm(Context& context, const RowsCombine& combine, const RmsNorm& norm) {
  launch_early(
      context, combined_norm_kernel, blocks(combine.y.size(0)), dim3(kThreads), 0, combine_of(combine),
      Norm{.gain = matrix(norm.gain), .y = matrix(norm.y), .eps = norm.eps, .inv_rms = norm.inv_rms.as<float>()},
      combine.y.size(1));
}

}  // namespace moe::cuda
