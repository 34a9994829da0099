#include "backend/cuda/early.cuh"
#include "backend/cuda/few_rows_problem.cuh"
#include "backend/cuda/wide_rows.h"

namespace moe::cuda {
namespace {

using namespace few_rows;

constexpr int kBlockWarps = 4;
constexpr int kFour = 4;    ///< weights that a lane loads at a time
constexpr int kAhead = 16;  ///< such loads that a lane has asked for: a row of 2048 at once
// Each tile of kTokens rows of x reads the weights again.
constexpr int64_t kMostRows = 8 * kTokens, kMostOutputs = 1024;

/// A warp for each output: it reads a row of the weight once, for up to kTokens rows of x. Tiles of tokens are along y.
__global__ void __launch_bounds__(kBlockWarps* kWarp) wide_rows_kernel(const __grid_constant__ FewRows p) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int output = static_cast<int>(blockIdx.x) * kBlockWarps + static_cast<int>(threadIdx.x) / kWarp;
  const int first = static_cast<int>(blockIdx.y) * kTokens, count = min(kTokens, p.rows - first);
  const float* const w = static_cast<const float*>(p.w) + output * p.w_step;
  constexpr int kLine = kWarp * kFour;
  float4 held[kAhead];
  const auto load = [&](int begin) {
#pragma unroll
    for (int i = 0; i < kAhead; ++i) {
      const int k = begin + i * kLine + lane * kFour;
      held[i] = output < p.n && k < p.k ? __ldcs(reinterpret_cast<const float4*>(w + k)) : float4{};
    }
  };
  let_next_start();
  if (p.early) load(0);
  wait_for_previous();
  if (!p.early) load(0);
  float sum[kTokens] = {};
  for (int begin = 0; begin < p.k; begin += kAhead * kLine) {
#pragma unroll
    for (int t = 0; t < kTokens; ++t) {
      if (t >= count) break;
      const __nv_bfloat16* const x = p.x + (first + t) * p.x_step;
#pragma unroll
      for (int i = 0; i < kAhead; ++i) {
        const int k = begin + i * kLine + lane * kFour;
        if (k >= p.k) continue;
        const uint2 bits = *reinterpret_cast<const uint2*>(x + k);
        const float2 low = __bfloat1622float2(*reinterpret_cast<const __nv_bfloat162*>(&bits.x));
        const float2 high = __bfloat1622float2(*reinterpret_cast<const __nv_bfloat162*>(&bits.y));
        sum[t] = fmaf(held[i].x, low.x, fmaf(held[i].y, low.y, sum[t]));
        sum[t] = fmaf(held[i].z, high.x, fmaf(held[i].w, high.y, sum[t]));
      }
    }
    if (begin + kAhead * kLine < p.k) load(begin + kAhead * kLine);
  }
#pragma unroll
  for (int t = 0; t < kTokens; ++t) {
    if (t >= count) break;
    const float total[1] = {warp_sum(sum[t])};
    if (lane == 0 && output < p.n) store_result<false>(p, first + t, output, total, 1);
  }
  if (p.arrived != nullptr) arrive(p.arrived);
}

bool suits(const Gemm& op) {
  const View& w = op.b;
  const bool aligned =
      w.dtype == DType::f32 && reinterpret_cast<uintptr_t>(w.data) % 16 == 0 && w.stride[0] % kFour == 0;
  return may_use_library() && !op.transpose_a && op.transpose_b && aligned && in_chunks(op.a) && op.a.size(1) > 0 &&
         op.a.size(1) < INT32_MAX && op.c.size(0) > 0 && op.c.size(0) <= kMostRows && op.c.size(1) > 0 &&
         op.c.size(1) <= kMostOutputs;
}

}  // namespace

bool wide_rows_product(Context& context, const Gemm& op) {
  if (!suits(op)) return false;
  dim3 grid = blocks(ceil_div(op.c.size(1), kBlockWarps));
  grid.y = static_cast<unsigned>(ceil_div(op.c.size(0), kTokens));
  const FewRows p = problem(context, op);
  note_arrivals(context, p, grid);
  launch_early(context, wide_rows_kernel, grid, dim3(kBlockWarps * kWarp), 0, p);
  return true;
}

}  // namespace moe::cuda
