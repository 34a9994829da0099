#include "backend/cuda/kernel.cuh"
#include "ops/balance.h"

namespace moe::cuda {
namespace {

constexpr unsigned kThreads = 256;

constexpr int kCountedTokens = 256;        ///< of a block
constexpr int kMostCountedColumns = 1024;  ///< that a block counts in shared memory

/// A block first counts some tokens by itself, those in the group of its first token, and then adds its counts. If all
/// slots added to a few addresses, they would have to wait for each other. With integers the order of the additions
/// does not matter. A column that an earlier choice of the token reached is not counted again.
__global__ void counts_kernel(const int* ids, int64_t id_step, const int* group, int members, int* counts,
                              int64_t counts_step, int64_t tokens, int count, int columns) {
  __shared__ int mine[kMostCountedColumns];
  const int64_t first = static_cast<int64_t>(blockIdx.x) * kCountedTokens;
  const int here = static_cast<int>(tokens - first < kCountedTokens ? tokens - first : kCountedTokens);
  const int own = columns <= kMostCountedColumns ? group[first] : -1;
  for (int c = static_cast<int>(threadIdx.x); c < columns && own >= 0; c += static_cast<int>(blockDim.x)) mine[c] = 0;
  __syncthreads();
  for (int slot = static_cast<int>(threadIdx.x); slot < here * count; slot += static_cast<int>(blockDim.x)) {
    const int64_t t = first + slot / count;
    const int k = slot % count, g = group[t];
    const int* const id = ids + t * id_step;
    if (id[k] < 0 || g < 0) continue;
    const int column = id[k] / members;
    bool again = false;
    for (int j = 0; j < k && members > 1; ++j) again = again || (id[j] >= 0 && id[j] / members == column);
    if (again) continue;
    atomicAdd(g == own ? mine + column : counts + g * counts_step + column, 1);
  }
  __syncthreads();
  for (int c = static_cast<int>(threadIdx.x); c < columns && own >= 0; c += static_cast<int>(blockDim.x)) {
    if (mine[c] > 0) atomicAdd(counts + own * counts_step + c, mine[c]);
  }
}

/// One thread per element. The few counts of a device group are added again for each of its experts.
__global__ void coefficients_kernel(const int* counts, int64_t counts_step, const int* group_tokens,
                                    const float* inv_tokens, int top_k, float alpha, int devices, float offset,
                                    float* coefficients, int64_t step, bool accumulate, int64_t groups, int experts,
                                    int columns) {
  const int64_t index = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  const int64_t g = index / experts;
  if (g >= groups) return;
  const int e = static_cast<int>(index % experts), neighbours = columns / devices;
  const int first = e / (experts / columns) / neighbours * neighbours;
  const double weight = static_cast<double>(alpha) * static_cast<double>(*inv_tokens);
  const double slots = static_cast<double>(top_k) * static_cast<double>(group_tokens[g]);
  const bool any = group_tokens[g] > 0;
  const double per_count = any ? weight * devices / slots : 0.0;  // mean over C / D of C / (K T)
  int64_t count = 0;
  for (int i = first; i < first + neighbours; ++i) count += counts[g * counts_step + i];
  float* const target = coefficients + g * step + e;
  const double value = per_count * static_cast<double>(count) - (any ? weight * static_cast<double>(offset) : 0.0);
  *target = (accumulate ? *target : 0.0f) + static_cast<float>(value);
}

/// Partial sums of a loss, one per block of warps. A warp takes every warps-th token, so the division depends only on
/// the shape.
struct Partials {
  const int* group;
  double* sums;
  int64_t rows;
};

/// The sum of term(t, lane) over tokens that are not padding.
template <class Term>
__device__ void add_terms(const Partials& partials, const Term& term) {
  __shared__ double shared[kThreads / kWarp];
  double sum = 0;
  const int lane = static_cast<int>(threadIdx.x % kWarp), warp = static_cast<int>(threadIdx.x / kWarp);
  const int64_t warps = static_cast<int64_t>(gridDim.x) * (kThreads / kWarp);
  for (int64_t t = static_cast<int64_t>(blockIdx.x) * (kThreads / kWarp) + warp; t < partials.rows; t += warps) {
    if (partials.group[t] >= 0) sum += term(t, lane);
  }
  sum = block_sum(sum, shared);
  if (threadIdx.x == 0) partials.sums[blockIdx.x] = sum;
}

__global__ void balance_partials_kernel(Partials partials, const float* scores, int64_t score_step,
                                        const float* coefficients, int64_t step, bool normalized, int experts) {
  add_terms(partials, [&](int64_t t, int lane) {
    double sum = 0, total = 0;
    for (int64_t e = lane; e < experts; e += kWarp) {
      const double score = static_cast<double>(scores[t * score_step + e]);
      sum += score * static_cast<double>(coefficients[partials.group[t] * step + e]);
      total += score;
    }
    return normalized ? sum / warp_sum(total) : sum;
  });
}

__global__ void gate_partials_kernel(Partials partials, const float* gates, int64_t gate_step, const int* ids,
                                     int64_t id_step, const float* coefficients, int64_t step, int count) {
  add_terms(partials, [&](int64_t t, int lane) {
    double sum = 0;
    for (int k = lane; k < count; k += kWarp) {
      const int id = ids[t * id_step + k];
      if (id < 0) continue;
      sum += static_cast<double>(coefficients[partials.group[t] * step + id]) *
             static_cast<double>(gates[t * gate_step + k]);
    }
    return sum;
  });
}

__global__ void z_partials_kernel(Partials partials, const float* log_sum, const float* inv_tokens, float weight) {
  add_terms(partials, [&](int64_t t, int lane) {
    const double value = static_cast<double>(log_sum[t]);
    return lane == 0 ? static_cast<double>(weight) * static_cast<double>(*inv_tokens) * value * value : 0.0;
  });
}

__global__ void balance_total_kernel(const double* partials, int64_t count, float* loss) {
  __shared__ double shared[kThreads / kWarp];
  double sum = 0;
  for (int64_t i = threadIdx.x; i < count; i += blockDim.x) sum += partials[i];
  sum = block_sum(sum, shared);
  if (threadIdx.x == 0) *loss += static_cast<float>(sum);
}

/// Runs `partials_kernel` and adds its result to `loss`.
template <class... Parameters, class... Args>
void add_loss(Context& context, const char* operation, const View& group, const View& loss,
              void (*partials_kernel)(Partials, Parameters...), Args... args) {
  constexpr int64_t kMostBlocks = 512;
  const int64_t rows = group.size(0);
  const int64_t parts = std::min(ceil_div(rows, kThreads / kWarp), kMostBlocks);
  if (parts == 0) return;
  auto* const sums = Carver(context, operation).take<double>(parts);
  launch(context, partials_kernel, blocks(parts), kThreads, 0, Partials{group.as<const int32_t>(), sums, rows},
         args...);
  launch(context, balance_total_kernel, dim3(1), kThreads, 0, sums, parts, loss.as<float>());
}

constexpr double kFixedPoint = 4294967296.0;  // 2^32

/// One thread per value. Sums are in fixed point: integers give the same sum in any order.
__global__ void sums_kernel(const float* values, int64_t step, const int* ids, int64_t id_step, const int* group,
                            unsigned long long* sums, int64_t tokens, int count, int experts) {
  const int64_t slot = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (slot >= tokens * count) return;
  const int64_t t = slot / count, k = slot % count;
  const int expert = ids == nullptr ? static_cast<int>(k) : ids[t * id_step + k];
  if (group[t] < 0 || expert < 0) return;
  const auto fixed = __double2ll_rn(static_cast<double>(values[t * step + k]) * kFixedPoint);
  atomicAdd(sums + static_cast<int64_t>(group[t]) * experts + expert, static_cast<unsigned long long>(fixed));
}

__global__ void add_sums_kernel(const unsigned long long* fixed, float* sums, int64_t step, int64_t groups,
                                int experts) {
  const int64_t index = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (index >= groups * experts) return;
  float* const target = sums + index / experts * step + index % experts;
  const double sum = static_cast<double>(static_cast<long long>(fixed[index])) / kFixedPoint;
  *target = static_cast<float>(static_cast<double>(*target) + sum);
}

/// One block, one group after the other: CV^2 = E sum s^2 / (sum s)^2 - 1.
__global__ void variation_kernel(const float* sums, int64_t step, const int* group_tokens, const float* inv_tokens,
                                 float weight, float* loss, float* coefficients, int64_t coefficient_step,
                                 int64_t groups, int experts) {
  __shared__ double shared[kThreads / kWarp];
  double added = 0;
  for (int64_t g = 0; g < groups; ++g) {
    double total = 0, squares = 0;
    for (int e = static_cast<int>(threadIdx.x); e < experts; e += static_cast<int>(blockDim.x)) {
      const double value = static_cast<double>(sums[g * step + e]);
      total += value;
      squares += value * value;
    }
    total = block_sum(total, shared);
    squares = block_sum(squares, shared);
    const double factor = static_cast<double>(weight) * group_tokens[g] * static_cast<double>(*inv_tokens);
    const bool any = total > 0;
    if (any) added += factor * (experts * squares / (total * total) - 1);
    for (int e = static_cast<int>(threadIdx.x); e < experts && coefficients != nullptr;
         e += static_cast<int>(blockDim.x)) {
      const double slope =
          any ? 2.0 * experts / (total * total) * (static_cast<double>(sums[g * step + e]) - squares / total) : 0.0;
      coefficients[g * coefficient_step + e] = static_cast<float>(factor * slope);
    }
  }
  if (threadIdx.x == 0 && loss != nullptr) *loss += static_cast<float>(added);
}

/// One block.
__global__ void bias_kernel(const int* counts, float rate, float* bias, int experts) {
  __shared__ long long shared[kThreads / kWarp];
  long long total = 0;
  for (int e = static_cast<int>(threadIdx.x); e < experts; e += static_cast<int>(blockDim.x)) total += counts[e];
  total = block_sum(total, shared);
  for (int e = static_cast<int>(threadIdx.x); e < experts; e += static_cast<int>(blockDim.x)) {
    const long long above = total - static_cast<long long>(experts) * counts[e];  // E (mean - count)
    bias[e] += above > 0 ? rate : (above < 0 ? -rate : 0.0f);
  }
}

}  // namespace

template <>
void execute(Context& context, const RouterCounts& op) {
  const int64_t tokens = op.ids.size(0);
  launch(context, counts_kernel, blocks(ceil_div(tokens, kCountedTokens)), kThreads, 0, op.ids.as<const int32_t>(),
         op.ids.stride[0], op.group.as<const int32_t>(), static_cast<int>(op.experts / op.counts.size(1)),
         op.counts.as<int32_t>(), op.counts.stride[0], tokens, static_cast<int>(op.ids.size(1)),
         static_cast<int>(op.counts.size(1)));
}

template <>
void execute(Context& context, const BalanceCoefficients& op) {
  const int64_t groups = op.counts.size(0);
  const int experts = static_cast<int>(op.coefficients.size(1));
  launch(context, coefficients_kernel, blocks(ceil_div(groups * experts, kThreads)), kThreads, 0,
         op.counts.as<const int32_t>(), op.counts.stride[0], op.group_tokens.as<const int32_t>(),
         op.inv_tokens.as<const float>(), op.top_k, op.alpha, op.devices, op.offset, op.coefficients.as<float>(),
         op.coefficients.stride[0], op.accumulate, groups, experts, static_cast<int>(op.counts.size(1)));
}

template <>
void execute(Context& context, const BalanceLoss& op) {
  add_loss(context, BalanceLoss::name, op.group, op.loss, balance_partials_kernel, op.scores.as<const float>(),
           op.scores.stride[0], op.coefficients.as<const float>(), op.coefficients.stride[0], op.normalized,
           static_cast<int>(op.scores.size(1)));
}

template <>
void execute(Context& context, const GateLoss& op) {
  add_loss(context, GateLoss::name, op.group, op.loss, gate_partials_kernel, op.gates.as<const float>(),
           op.gates.stride[0], op.ids.as<const int32_t>(), op.ids.stride[0], op.coefficients.as<const float>(),
           op.coefficients.stride[0], static_cast<int>(op.ids.size(1)));
}

template <>
void execute(Context& context, const RouterZLoss& op) {
  add_loss(context, RouterZLoss::name, op.group, op.loss, z_partials_kernel, op.log_sum.as<const float>(),
           op.inv_tokens.as<const float>(), op.weight);
}

template <>
void execute(Context& context, const ExpertSums& op) {
  const int64_t groups = op.sums.size(0), tokens = op.values.size(0);
  const int experts = static_cast<int>(op.sums.size(1)), count = static_cast<int>(op.values.size(1));
  if (groups * experts == 0) return;
  auto* const fixed = Carver(context, ExpertSums::name).take<unsigned long long>(groups * experts);
  check(cudaMemsetAsync(fixed, 0, static_cast<size_t>(groups * experts) * sizeof(*fixed), context.stream),
        "filling with zeros");
  launch(context, sums_kernel, blocks(ceil_div(op.values.elements(), kThreads)), kThreads, 0,
         op.values.as<const float>(), op.values.stride[0], op.ids ? op.ids.as<const int32_t>() : nullptr,
         op.ids ? op.ids.stride[0] : 0, op.group.as<const int32_t>(), fixed, tokens, count, experts);
  launch(context, add_sums_kernel, blocks(ceil_div(groups * experts, kThreads)), kThreads, 0, fixed,
         op.sums.as<float>(), op.sums.stride[0], groups, experts);
}

template <>
void execute(Context& context, const VariationLoss& op) {
  launch(context, variation_kernel, dim3(1), kThreads, 0, op.sums.as<const float>(), op.sums.stride[0],
         op.group_tokens.as<const int32_t>(), op.inv_tokens.as<const float>(), op.weight,
         op.loss ? op.loss.as<float>() : nullptr, op.coefficients ? op.coefficients.as<float>() : nullptr,
         op.coefficients ? op.coefficients.stride[0] : 0, op.sums.size(0), static_cast<int>(op.sums.size(1)));
}

template <>
void execute(Context& context, const BiasUpdate& op) {
  launch(context, bias_kernel, dim3(1), kThreads, 0, op.counts.as<const int32_t>(), op.rate, op.bias.as<float>(),
         static_cast<int>(op.counts.size(0)));
}

}  // namespace moe::cuda
