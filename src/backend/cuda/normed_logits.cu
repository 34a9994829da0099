#include "backend/cuda/early.cuh"
#include "backend/cuda/few_rows.h"
#include "backend/cuda/few_rows_problem.cuh"
#include "backend/cuda/norm_of_few.cuh"
#include "backend/cuda/normed_logits.h"

namespace moe::cuda {
namespace {

using few_rows::FewRows;

using namespace norm_of_few;

constexpr int kFour = 4;  ///< weights that a lane loads at a time
constexpr int kLine = kWarp * kFour, kLines = kMostWidth / kLine;

/// A warp for each output. Every block makes the norm of all rows; the first one stores it.
__global__ void __launch_bounds__(kThreads)
    normed_logits_kernel(const __grid_constant__ FewRows p, const __grid_constant__ Norm norm) {
  __shared__ float shared[kWarps];
  __shared__ __align__(16) Rows rows;
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
  make_norm(norm, rows, shared);
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
  const Gemm logits{.a = scores.x, .b = w, .c = scores.scores, .transpose_b = true};
  if (few_rows_product_of_norm(context, norm, logits)) return true;
  const std::optional<Norm> task = norm_of(norm);
  if (!may_use_library() || !task) return false;
  if (w.dtype != DType::f32 || reinterpret_cast<uintptr_t>(w.data) % 16 != 0 || w.stride[0] % kFour != 0) return false;
  const FewRows p = few_rows::problem(context, logits);
  const dim3 grid = blocks(ceil_div(scores.scores.size(1), kWarps));
  few_rows::note_arrivals(context, p, grid);
  launch_early(context, normed_logits_kernel, grid, dim3(kThreads), 0, p, *task);
  return true;
}

}  // namespace moe::cuda
