#include "backend/cuda/kernel.cuh"
#include "ops/routing.h"

namespace moe::cuda {
namespace {

constexpr unsigned kThreads = 256;

/// One thread per element; the few counts of a device group are added again by each of its experts.
__global__ void coefficients_kernel(const int* counts, int64_t counts_step, const int* group_tokens,
                                    const float* inv_tokens, int top_k, float alpha, int devices, float* coefficients,
                                    int64_t step, bool accumulate, int64_t groups, int experts) {
  const int64_t index = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  const int64_t g = index / experts;
  if (g >= groups) return;
  const int e = static_cast<int>(index % experts), neighbours = experts / devices;
  const double weight = static_cast<double>(alpha) * static_cast<double>(*inv_tokens);
  const double slots = static_cast<double>(top_k) * static_cast<double>(group_tokens[g]);
  const double per_count = group_tokens[g] > 0 ? weight * devices / slots : 0.0;  // mean over E / D of E / (K T)
  int64_t count = 0;
  for (int i = e / neighbours * neighbours; i < (e / neighbours + 1) * neighbours; ++i) {
    count += counts[g * counts_step + i];
  }
  float* const target = coefficients + g * step + e;
  *target = (accumulate ? *target : 0.0f) + static_cast<float>(per_count * static_cast<double>(count));
}

/// A block's rows are given by the shape alone; its threads add theirs in a fixed order.
__global__ void balance_partials_kernel(const float* scores, int64_t score_step, const int* group,
                                        const float* coefficients, int64_t step, double* partials, int64_t rows,
                                        int experts) {
  __shared__ double shared[kThreads / kWarp];
  double sum = 0;
  const int64_t lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  const int64_t warps = static_cast<int64_t>(gridDim.x) * (kThreads / kWarp);
  for (int64_t t = static_cast<int64_t>(blockIdx.x) * (kThreads / kWarp) + warp; t < rows; t += warps) {
    if (group[t] < 0) continue;
    for (int64_t e = lane; e < experts; e += kWarp) {
      sum += static_cast<double>(scores[t * score_step + e]) * static_cast<double>(coefficients[group[t] * step + e]);
    }
  }
  sum = block_sum(sum, shared);
  if (threadIdx.x == 0) partials[blockIdx.x] = sum;
}

__global__ void balance_total_kernel(const double* partials, int64_t count, float* loss) {
  __shared__ double shared[kThreads / kWarp];
  double sum = 0;
  for (int64_t i = threadIdx.x; i < count; i += blockDim.x) sum += partials[i];
  sum = block_sum(sum, shared);
  if (threadIdx.x == 0) *loss += static_cast<float>(sum);
}

}  // namespace

template <>
void execute(Context& context, const BalanceCoefficients& op) {
  const int64_t groups = op.counts.size(0);
  const int experts = static_cast<int>(op.counts.size(1));
  launch(context, coefficients_kernel, blocks(ceil_div(groups * experts, kThreads)), kThreads, 0,
         op.counts.as<const int32_t>(), op.counts.stride[0], op.group_tokens.as<const int32_t>(),
         op.inv_tokens.as<const float>(), op.top_k, op.alpha, op.devices, op.coefficients.as<float>(),
         op.coefficients.stride[0], op.accumulate, groups, experts);
}

template <>
void execute(Context& context, const BalanceLoss& op) {
  const int64_t rows = op.scores.size(0);
  constexpr int64_t kMostBlocks = 512;
  const int64_t parts = std::min(ceil_div(rows, kThreads / kWarp), kMostBlocks);
  if (parts == 0) return;
  auto* const partials = Carver(context, BalanceLoss::name).take<double>(parts);
  launch(context, balance_partials_kernel, blocks(parts), kThreads, 0, op.scores.as<const float>(), op.scores.stride[0],
         op.group.as<const int32_t>(), op.coefficients.as<const float>(), op.coefficients.stride[0], partials, rows,
         static_cast<int>(op.scores.size(1)));
  launch(context, balance_total_kernel, dim3(1), kThreads, 0, partials, parts, op.loss.as<float>());
}

}  // namespace moe::cuda
