#include "backend/cuda/early.cuh"
#include "backend/cuda/few_rows_problem.cuh"
#include "backend/cuda/normed_logits.h"

namespace moe::cuda {
namespace {

using few_rows::FewRows;

// As norm.cu has them for rows of this width, whose sums these are, bit for bit.
constexpr int kThreads = 256, kWarps = kThreads / kWarp;
constexpr int kMostWidth = kThreads * kChunk, kLeastWidth = kMostWidth / 2;
constexpr int kMostRows = 2;
constexpr int kFour = 4;  ///< weights that a lane loads at a time
constexpr int kLine = kWarp * kFour, kLines = kMostWidth / kLine;

struct Norm {
  Matrix x, residual, sum, gain, y;
  float eps;
  float* inv_rms;
};

/// A warp for each output. Every block makes the norm of all rows; the first one stores it.
__global__ void __launch_bounds__(kThreads)
    normed_logits_kernel(const __grid_constant__ FewRows p, const __grid_constant__ Norm norm) {
  __shared__ float shared[kWarps];
  __shared__ __align__(16) __nv_bfloat16 rows[kMostRows][kMostWidth];
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int output = static_cast<int>(blockIdx.x) * kWarps + static_cast<int>(threadIdx.x) / kWarp;
  const float* const w = static_cast<const float*>(p.w) + output * p.w_step;
  float4 held[kLines];
  const auto load_weights = [&] {
#pragma unroll
    for (int i = 0; i < kLines; ++i) {
      const int k = i * kLine + lane * kFour;
      held[i] = output < p.n && k < p.k ? __ldcs(reinterpret_cast<const float4*>(w + k)) : float4{};
    }
  };
  let_next_start();
  if (p.early) load_weights();
  wait_for_previous();
  if (!p.early) load_weights();
  const int64_t width = p.k, c = static_cast<int64_t>(threadIdx.x) * kChunk;
  float factor[kChunk];
  load_chunk(norm.gain, 0, c, width, factor);
  for (int row = 0; row < p.rows; ++row) {
    float v[kChunk] = {}, other[kChunk], squares = 0;
    if (c < width) {
      load_chunk(norm.x, row, c, width, v);
      if (norm.residual) {
        load_chunk(norm.residual, row, c, width, other);
#pragma unroll
        for (int i = 0; i < kChunk; ++i) v[i] = rounded(norm.sum, v[i] + other[i]);
        if (blockIdx.x == 0) store_chunk(norm.sum, row, c, width, v);
      }
#pragma unroll
      for (int i = 0; i < kChunk; ++i) squares += v[i] * v[i];
    }
    squares = block_sum(squares, shared);
    const float scale = 1 / sqrtf(squares / static_cast<float>(width) + norm.eps);
    if (blockIdx.x == 0 && threadIdx.x == 0) norm.inv_rms[row] = scale;
#pragma unroll
    for (int i = 0; i < kChunk; ++i) v[i] = factor[i] * rounded(norm.y, v[i] * scale);
    if (c >= width) continue;
    const Bf16Chunk chunk = Bf16Chunk::of(v);
    *reinterpret_cast<uint4*>(&rows[row][c]) = chunk.bits;
    if (blockIdx.x == 0) chunk.store(norm.y, row, c);
  }
  __syncthreads();
  for (int row = 0; row < p.rows; ++row) {
    float sum = 0;
#pragma unroll
    for (int i = 0; i < kLines; ++i) {
      const int k = i * kLine + lane * kFour;
      if (k >= p.k) continue;
      const uint2 bits = *reinterpret_cast<const uint2*>(&rows[row][k]);
      const float2 low = __bfloat1622float2(*reinterpret_cast<const __nv_bfloat162*>(&bits.x));
      const float2 high = __bfloat1622float2(*reinterpret_cast<const __nv_bfloat162*>(&bits.y));
      sum = fmaf(held[i].x, low.x, fmaf(held[i].y, low.y, sum));
      sum = fmaf(held[i].z, high.x, fmaf(held[i].w, high.y, sum));
    }
    const float total[1] = {warp_sum(sum)};
    if (lane == 0 && output < p.n) few_rows::store_result<false>(p, row, output, total, 1);
  }
  if (p.arrived != nullptr) arrive(p.arrived);
}

}  // namespace

bool normed_logits(Context& context, const RmsNorm& norm, const RouterScores& scores) {
  const View& w = scores.weight;
  const int64_t rows = norm.x.size(0), width = norm.x.size(1);
  if (!may_use_library() || rows > kMostRows || width <= kLeastWidth || width > kMostWidth) return false;
  if (w.dtype != DType::f32 || reinterpret_cast<uintptr_t>(w.data) % 16 != 0 || w.stride[0] % kFour != 0) return false;
  if (norm.gain.dtype != DType::bf16 && norm.gain.dtype != DType::f32) return false;
  const Norm task{.x = matrix(norm.x),
                  .residual = matrix(norm.residual),
                  .sum = matrix(norm.sum),
                  .gain = matrix(norm.gain),
                  .y = matrix(norm.y),
                  .eps = norm.eps,
                  .inv_rms = norm.inv_rms.as<float>()};
  if (width % kChunk != 0 || !in_bf16_chunks(task.y, width)) return false;
  const FewRows p = few_rows::problem(context, Gemm{.a = scores.x, .b = w, .c = scores.scores, .transpose_b = true});
  const dim3 grid = blocks(ceil_div(scores.scores.size(1), kWarps));
  few_rows::note_arrivals(context, p, grid);
  launch_early(context, normed_logits_kernel, grid, dim3(kThreads), 0, p, task);
  return true;
}

}  // namespace moe::cuda
