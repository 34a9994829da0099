#include "backend/cuda/kernel.cuh"
#include "backend/cuda/random.cuh"
#include "ops/dropout.h"
#include "ops/routing_methods.h"

namespace moe::cuda {
namespace {

constexpr unsigned kThreads = 256;

__device__ double softplus(double x) { return fmax(x, 0.0) + log1p(exp(-fabs(x))); }

/// The number of tokens in a row that are not padding, counted by one warp and given to every lane.
__device__ int tokens_of_row(const int* group, int64_t length) {
  int tokens = 0;
  for (int64_t t = threadIdx.x % kWarp; t < length; t += kWarp) tokens += group[t] >= 0 ? 1 : 0;
  return warp_sum(tokens);
}

/// One thread per token.
__global__ void thin_kernel(const int* ids, int64_t id_step, const float* gates, int64_t gate_step, const int* group,
                            float threshold, Draws draws, int* kept, int64_t kept_step, int64_t tokens, int count) {
  const int64_t t = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (t >= tokens) return;
  for (int k = 0; k < count; ++k) kept[t * kept_step + k] = ids[t * id_step + k];
  if (threshold <= 0 || group[t] < 0) return;
  const float* const gate = gates + t * gate_step;
  const float share = gate[1] / (gate[0] + gate[1]) / threshold;
  if (!(random_uniform(draws, draws.first + t) < static_cast<double>(share))) kept[t * kept_step + 1] = -1;
}

/// One warp per row and expert. It sees the row's choices 32 at a time, in the order of the queue.
__global__ void capacity_kernel(const int* group, int64_t factor, int64_t length, int* kept, int64_t kept_step,
                                int* dropped, int64_t rows, int experts, int count) {
  const int64_t warp = (static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) / kWarp;
  if (warp >= rows * experts) return;
  const int64_t begin = warp / experts * length;
  const int expert = static_cast<int>(warp % experts), lane = static_cast<int>(threadIdx.x % kWarp);
  const int64_t capacity = expert_capacity(tokens_of_row(group + begin, length), experts, factor);
  int64_t taken = 0;
  for (int k = 0; k < count; ++k) {
    for (int64_t first = 0; first < length; first += kWarp) {
      const int64_t t = first + lane;
      int* const id = kept + (begin + t) * kept_step + k;
      const bool mine = t < length && *id == expert;
      const unsigned all = __ballot_sync(0xffffffffu, mine);
      if (mine && taken + __popc(all & ((1u << lane) - 1)) >= capacity) *id = -1;
      taken += __popc(all);
    }
  }
  if (lane == 0 && taken > capacity) atomicAdd(dropped, static_cast<int>(taken - capacity));
}

/// One thread per element.
__global__ void jitter_kernel(Matrix x, float amount, Draws draws, Matrix y, bool accumulate, int64_t tokens,
                              int64_t width) {
  const int64_t index = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (index >= tokens * width) return;
  const int64_t t = index / width, d = index % width;
  const double u = random_uniform(draws, (draws.first + t) * width + d);
  const auto factor = static_cast<float>(1 + static_cast<double>(amount) * (2 * u - 1));
  store(y, t, d, (accumulate ? load(y, t, d) : 0.0f) + load(x, t, d) * factor);
}

/// One thread per element.
__global__ void dropout_kernel(Matrix x, const int* keys, const int* row_count, float probability, Draws draws,
                               Matrix y, bool accumulate, int64_t rows, int64_t width) {
  const int64_t index = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (index >= (row_count != nullptr ? *row_count : rows) * width) return;
  const int64_t t = index / width, d = index % width;
  const int64_t key = draws.first + (keys != nullptr ? keys[t] : t);
  const auto p = static_cast<double>(probability);
  const bool dropped = random_uniform(draws, key * width + d) < p;
  const float kept = dropped ? 0.0f : load(x, t, d) * static_cast<float>(1 / (1 - p));
  store(y, t, d, (accumulate ? load(y, t, d) : 0.0f) + kept);
}

/// One thread per element.
__global__ void noise_kernel(const float* clean, int64_t clean_step, const float* raw, int64_t raw_step, Draws draws,
                             float* noisy, int64_t noisy_step, int64_t tokens, int experts) {
  const int64_t index = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (index >= tokens * experts) return;
  const int64_t t = index / experts, e = index % experts;
  const double n = random_normal(draws, (draws.first + t) * experts + e);
  const double noise = n * softplus(static_cast<double>(raw[t * raw_step + e]));
  noisy[t * noisy_step + e] = static_cast<float>(static_cast<double>(clean[t * clean_step + e]) + noise);
}

/// True if a comes before b in the falling order of scores; among equal scores the lower index comes first.
__device__ bool comes_before(float a, int64_t a_index, float b, int64_t b_index) {
  return rank(a) > rank(b) || (rank(a) == rank(b) && a_index < b_index);
}

/// The K-th and the next of a token's noisy logits in falling order. One of them is the threshold of each expert.
struct Thresholds {
  int kth, next;
  __device__ bool chosen(const float* noisy, int e) const { return comes_before(noisy[e], e, noisy[next], next); }
  __device__ int of(const float* noisy, int e) const { return chosen(noisy, e) ? next : kth; }
};

/// By one warp: an expert's place in the falling order is the number of experts before it.
__device__ Thresholds thresholds(const float* noisy, int experts, int top_k) {
  Thresholds found{-1, -1};
  for (int e = static_cast<int>(threadIdx.x % kWarp); e < experts; e += kWarp) {
    int before = 0;
    for (int i = 0; i < experts; ++i) before += comes_before(noisy[i], i, noisy[e], e) ? 1 : 0;
    if (before == top_k - 1) found.kth = e;
    if (before == top_k) found.next = e;
  }
#pragma unroll
  for (int other = kWarp / 2; other > 0; other /= 2) {
    found.kth = max(found.kth, __shfl_xor_sync(0xffffffffu, found.kth, other));
    found.next = max(found.next, __shfl_xor_sync(0xffffffffu, found.next, other));
  }
  return found;
}

/// One warp per token.
__global__ void load_kernel(const float* clean, int64_t clean_step, const float* raw, int64_t raw_step,
                            const float* noisy, int64_t noisy_step, int top_k, float* load, int64_t load_step,
                            int64_t tokens, int experts) {
  const int64_t t = (static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) / kWarp;
  if (t >= tokens) return;
  const float* const row = noisy + t * noisy_step;
  const Thresholds limits = thresholds(row, experts, top_k);
  for (int e = static_cast<int>(threadIdx.x % kWarp); e < experts; e += kWarp) {
    const double distance =
        static_cast<double>(clean[t * clean_step + e]) - static_cast<double>(row[limits.of(row, e)]);
    const double spread = softplus(static_cast<double>(raw[t * raw_step + e]));
    load[t * load_step + e] = static_cast<float>(0.5 * erfc(-distance / spread * sqrt(0.5)));
  }
}

struct NoiseBackwardArgs {
  const float *clean, *raw, *noisy, *d_noisy, *coefficients;
  int64_t clean_step, raw_step, noisy_step, d_noisy_step, coefficient_step;
  const int* group;
  int top_k;
  Draws draws;
  float *d_clean, *d_raw;
  int64_t d_clean_step, d_raw_step, tokens;
  int experts;
};

/// One warp per token. Only the two threshold experts get a part from others, which is added in a fixed order.
__global__ void noise_backward_kernel(NoiseBackwardArgs a) {
  const int64_t t = (static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) / kWarp;
  if (t >= a.tokens) return;
  const int experts = a.experts, lane = static_cast<int>(threadIdx.x % kWarp), g = a.group[t];
  const float *const clean = a.clean + t * a.clean_step, *const raw = a.raw + t * a.raw_step;
  const float *const noisy = a.noisy + t * a.noisy_step, *const d_noisy = a.d_noisy + t * a.d_noisy_step;
  const bool loaded = a.coefficients != nullptr && g >= 0;
  const Thresholds limits = loaded ? thresholds(noisy, experts, a.top_k) : Thresholds{0, 0};
  // For expert e: the density times the slope of the loss, and the distance from its threshold.
  const auto slope = [&](int e, double* z) {
    const double spread = softplus(static_cast<double>(raw[e]));
    *z = (static_cast<double>(clean[e]) - static_cast<double>(noisy[limits.of(noisy, e)])) / spread;
    return static_cast<double>(a.coefficients[g * a.coefficient_step + e]) * exp(-0.5 * *z * *z) * 0.3989422804014327 /
           spread;
  };
  double to_kth = 0, to_next = 0;
  for (int e = lane; e < experts && loaded; e += kWarp) {
    double z;
    const double value = slope(e, &z);
    (limits.chosen(noisy, e) ? to_next : to_kth) += value;
  }
  to_kth = warp_sum(to_kth);
  to_next = warp_sum(to_next);
  for (int e = lane; e < experts; e += kWarp) {
    double by_noisy = static_cast<double>(d_noisy[e]), by_clean = 0, by_spread = 0;
    if (loaded) {
      double z;
      by_clean = slope(e, &z);
      by_spread = -by_clean * z;
      if (e == limits.kth) by_noisy -= to_kth;
      if (e == limits.next) by_noisy -= to_next;
    }
    const double n = random_normal(a.draws, (a.draws.first + t) * experts + e);
    a.d_clean[t * a.d_clean_step + e] = static_cast<float>(by_noisy + by_clean);
    a.d_raw[t * a.d_raw_step + e] =
        static_cast<float>((by_noisy * n + by_spread) / (1 + exp(-static_cast<double>(raw[e]))));
  }
}

__global__ void table_kernel(const int* tokens, const int* table, const int* group, int* ids, int64_t step,
                             int64_t count) {
  const int64_t t = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (t < count) ids[t * step] = group[t] < 0 ? -1 : table[tokens[t]];
}

/// A block per row and expert. A token's place is the number of tokens before it in the falling order of scores. Places
/// are distinct for any scores, so exactly `wanted` tokens are taken.
__global__ void expert_choice_kernel(const float* scores, int64_t score_step, const int* group, int64_t factor,
                                     int length, int* ids, int64_t id_step, int experts) {
  constexpr int kTile = 1024;
  __shared__ float tile[kTile];
  const int64_t begin = static_cast<int64_t>(blockIdx.x) * length;
  const int expert = static_cast<int>(blockIdx.y);
  const int64_t tokens = tokens_of_row(group + begin, length);
  const int64_t wanted = tokens_per_expert(tokens, experts, factor);
  const auto score = [&](int64_t t) { return scores[(begin + t) * score_step + expert]; };
  for (int first = 0; first < length; first += static_cast<int>(blockDim.x)) {
    const int t = first + static_cast<int>(threadIdx.x);
    const bool real = t < length && group[begin + t] >= 0;
    const float mine = real ? rank(score(t)) : 0;
    int64_t before = 0;
    for (int from = 0; from < length; from += kTile) {
      const int size = length - from < kTile ? length - from : kTile;
      __syncthreads();
      for (int i = static_cast<int>(threadIdx.x); i < size; i += static_cast<int>(blockDim.x)) {
        tile[i] = group[begin + from + i] >= 0 ? rank(score(from + i)) : NAN;  // only padding; it comes before no token
      }
      __syncthreads();
      for (int i = 0; i < size && real; ++i) before += tile[i] > mine || (tile[i] == mine && from + i < t) ? 1 : 0;
    }
    if (t < length) ids[(begin + t) * id_step + expert] = real && before < wanted ? expert : -1;
  }
}

/// One thread per element.
__global__ void distillation_kernel(const float* scores, int64_t step, const int* ids, int64_t id_step,
                                    const int* group, const float* inv_tokens, float weight, float* d, int64_t d_step,
                                    int64_t tokens, int experts) {
  const int64_t index = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (index >= tokens * experts) return;
  const int64_t t = index / experts;
  const int e = static_cast<int>(index % experts);
  const double factor = static_cast<double>(weight) * static_cast<double>(*inv_tokens);
  const double difference = static_cast<double>(scores[t * step + e]) - (ids[t * id_step] == e ? 1 : 0);
  d[t * d_step + e] = group[t] < 0 ? 0.0f : static_cast<float>(factor * difference);
}

/// One block.
__global__ void distillation_loss_kernel(const float* scores, int64_t step, const int* ids, int64_t id_step,
                                         const int* group, const float* inv_tokens, float weight, float* loss,
                                         int64_t tokens) {
  __shared__ double shared[kThreads / kWarp];
  double sum = 0;
  for (int64_t t = threadIdx.x; t < tokens; t += blockDim.x) {
    if (group[t] >= 0) sum -= log(fmax(static_cast<double>(scores[t * step + ids[t * id_step]]), 1e-38));
  }
  sum = block_sum(sum, shared);
  if (threadIdx.x == 0) {
    *loss += static_cast<float>(static_cast<double>(weight) * static_cast<double>(*inv_tokens) * sum);
  }
}

}  // namespace

template <>
void execute(Context& context, const RouterDrop& op) {
  const int64_t tokens = op.ids.size(0), rows = tokens / op.row_length;
  const int count = static_cast<int>(op.ids.size(1));
  launch(context, thin_kernel, threads_for(tokens, kThreads), kThreads, 0, op.ids.as<const int32_t>(), op.ids.stride[0],
         op.gates.as<const float>(), op.gates.stride[0], op.group.as<const int32_t>(), op.threshold, op.draws,
         op.kept.as<int32_t>(), op.kept.stride[0], tokens, count);
  if (op.factor == 0) return;
  launch(context, capacity_kernel, warps_for(rows * op.experts, kThreads), kThreads, 0, op.group.as<const int32_t>(),
         op.factor, op.row_length, op.kept.as<int32_t>(), op.kept.stride[0], op.dropped.as<int32_t>(), rows,
         static_cast<int>(op.experts), count);
}

template <>
void execute(Context& context, const RouterJitter& op) {
  launch(context, jitter_kernel, threads_for(op.x.elements(), kThreads), kThreads, 0, matrix(op.x), op.amount, op.draws,
         matrix(op.y), op.accumulate, op.x.size(0), op.x.size(1));
}

template <>
void execute(Context& context, const Dropout& op) {
  launch(context, dropout_kernel, threads_for(op.x.elements(), kThreads), kThreads, 0, matrix(op.x),
         op.keys ? op.keys.as<const int32_t>() : nullptr, op.row_count ? op.row_count.as<const int32_t>() : nullptr,
         op.probability, op.draws, matrix(op.y), op.accumulate, op.x.size(0), op.x.size(1));
}

template <>
void execute(Context& context, const RouterNoise& op) {
  launch(context, noise_kernel, threads_for(op.clean.elements(), kThreads), kThreads, 0, op.clean.as<const float>(),
         op.clean.stride[0], op.raw.as<const float>(), op.raw.stride[0], op.draws, op.noisy.as<float>(),
         op.noisy.stride[0], op.clean.size(0), static_cast<int>(op.clean.size(1)));
}

template <>
void execute(Context& context, const NoiseLoad& op) {
  launch(context, load_kernel, warps_for(op.clean.size(0), kThreads), kThreads, 0, op.clean.as<const float>(),
         op.clean.stride[0], op.raw.as<const float>(), op.raw.stride[0], op.noisy.as<const float>(), op.noisy.stride[0],
         static_cast<int>(op.top_k), op.load.as<float>(), op.load.stride[0], op.clean.size(0),
         static_cast<int>(op.clean.size(1)));
}

template <>
void execute(Context& context, const NoiseBackward& op) {
  launch(context, noise_backward_kernel, warps_for(op.clean.size(0), kThreads), kThreads, 0,
         NoiseBackwardArgs{.clean = op.clean.as<const float>(),
                           .raw = op.raw.as<const float>(),
                           .noisy = op.noisy.as<const float>(),
                           .d_noisy = op.d_noisy.as<const float>(),
                           .coefficients = op.coefficients ? op.coefficients.as<const float>() : nullptr,
                           .clean_step = op.clean.stride[0],
                           .raw_step = op.raw.stride[0],
                           .noisy_step = op.noisy.stride[0],
                           .d_noisy_step = op.d_noisy.stride[0],
                           .coefficient_step = op.coefficients ? op.coefficients.stride[0] : 0,
                           .group = op.group.as<const int32_t>(),
                           .top_k = static_cast<int>(op.top_k),
                           .draws = op.draws,
                           .d_clean = op.d_clean.as<float>(),
                           .d_raw = op.d_raw.as<float>(),
                           .d_clean_step = op.d_clean.stride[0],
                           .d_raw_step = op.d_raw.stride[0],
                           .tokens = op.clean.size(0),
                           .experts = static_cast<int>(op.clean.size(1))});
}

template <>
void execute(Context& context, const TableRoute& op) {
  launch(context, table_kernel, threads_for(op.ids.size(0), kThreads), kThreads, 0, op.tokens.as<const int32_t>(),
         op.table.as<const int32_t>(), op.group.as<const int32_t>(), op.ids.as<int32_t>(), op.ids.stride[0],
         op.ids.size(0));
}

template <>
void execute(Context& context, const ExpertChoice& op) {
  const auto rows = static_cast<unsigned>(op.scores.size(0) / op.row_length);
  const auto experts = static_cast<unsigned>(op.scores.size(1));
  launch(context, expert_choice_kernel, dim3(rows, experts), kThreads, 0, op.scores.as<const float>(),
         op.scores.stride[0], op.group.as<const int32_t>(), op.factor, static_cast<int>(op.row_length),
         op.ids.as<int32_t>(), op.ids.stride[0], static_cast<int>(experts));
}

template <>
void execute(Context& context, const Distillation& op) {
  const int64_t tokens = op.scores.size(0);
  const int experts = static_cast<int>(op.scores.size(1));
  if (op.d_logits) {
    launch(context, distillation_kernel, threads_for(tokens * experts, kThreads), kThreads, 0,
           op.scores.as<const float>(), op.scores.stride[0], op.ids.as<const int32_t>(), op.ids.stride[0],
           op.group.as<const int32_t>(), op.inv_tokens.as<const float>(), op.weight, op.d_logits.as<float>(),
           op.d_logits.stride[0], tokens, experts);
  }
  if (op.loss) {
    launch(context, distillation_loss_kernel, dim3(1), kThreads, 0, op.scores.as<const float>(), op.scores.stride[0],
           op.ids.as<const int32_t>(), op.ids.stride[0], op.group.as<const int32_t>(), op.inv_tokens.as<const float>(),
           op.weight, op.loss.as<float>(), tokens);
  }
}

}  // namespace moe::cuda
