#include "backend/cuda/early.cuh"
#include "backend/cuda/next_token.cuh"
#include "ops/next_token.h"

namespace moe::cuda {
namespace {

constexpr int kBestThreads = 512, kBestParts = 16;
constexpr int kWeightThreads = 256;

/// Blocks (row, part); the last one of a row to end merges their results. It ends rows at temperature 0 and those that
/// have no choice; the others go on with draw_kernel.
__global__ void __launch_bounds__(kBestThreads) best_kernel(NextTokens p) {
  __shared__ Key best_of[kBestThreads / kWarp];
  __shared__ Row row;
  let_next_start();
  wait_for_previous();
  const int t = static_cast<int>(blockIdx.x), part = static_cast<int>(blockIdx.y);
  if (threadIdx.x == 0) row = row_of(p, t);
  __syncthreads();
  Key best = 0;
  if (row.sequence >= 0) {
#pragma unroll 4
    for (int64_t v = part * kBestThreads + static_cast<int>(threadIdx.x); v < p.vocabulary;
         v += kBestParts * kBestThreads) {
      best = max(best, key_of(p, row, v));
    }
  }
  for (int other = kWarp / 2; other > 0; other /= 2) best = max(best, __shfl_xor_sync(0xffffffffu, best, other));
  if (threadIdx.x % kWarp == 0) best_of[threadIdx.x / kWarp] = best;
  __syncthreads();
  if (threadIdx.x != 0) return;
  for (const Key other : best_of) best = max(best, other);
  p.parts[t * kBestParts + part] = best;
  __threadfence();
  if (atomicAdd(p.arrived + t, 1) < kBestParts - 1) return;
  p.arrived[t] = 0;
  __threadfence();
  for (int other = 0; other < kBestParts; ++other) {
    best = max(best, *static_cast<volatile Key*>(p.parts + t * kBestParts + other));
  }
  const bool chosen = best != kRefused && score_of(best) > -INFINITY;
  p.best[t] = chosen ? best : 0;
  if (!row.sampled || !chosen) end_row(p, t, row, chosen ? id_of(best) : -1);
}

/// Blocks (row, part): the weights of a part of the vocabulary, and their sum.
__global__ void __launch_bounds__(kWeightThreads) weight_kernel(NextTokens p, int first_row) {
  __shared__ Mass sums[kWeightThreads / kWarp];
  __shared__ Row row;
  let_next_start();
  wait_for_previous();
  const int slot = static_cast<int>(blockIdx.x), t = first_row + slot, part = static_cast<int>(blockIdx.y);
  if (threadIdx.x == 0) row = row_of(p, t);
  __syncthreads();
  const Key best = p.best[t];
  if (!row.sampled || best == 0) return;
  const double largest = score_of(best), temperature = row.draw.temperature;
  // The options before it may take tokens away that this one leaves.
  const Mass least = row.selects() ? 0 : least_mass(p, row);
  Mass* const weights = p.weights + slot * p.vocabulary;
  const int64_t width = part_width(p), end = min((part + 1) * width, p.vocabulary);
  Mass sum = 0;
  for (int64_t v = part * width + static_cast<int>(threadIdx.x); v < end; v += kWeightThreads) {
    const Key key = key_of(p, row, v);
    Mass mass = 0;
    if (key != 0) {
      const double away = score_of(key) - largest;
      mass = away == 0 ? p.one : static_cast<Mass>(exp(away / temperature) * static_cast<double>(p.one));
    }
    if (mass < least) mass = 0;
    weights[v] = mass;
    sum += mass;
  }
  sum = block_sum<kWeightThreads>(sum, sums);
  if (threadIdx.x == 0) p.part_sums[slot * kDrawParts + part] = sum;
}

/// A block for each row: what top-k and top-p keep, and the draw.
__global__ void __launch_bounds__(kDrawThreads) draw_kernel(NextTokens p, int first_row) {
  __shared__ Selection selection;
  __shared__ Mass sums[kDrawParts];
  __shared__ Row row;
  let_next_start();
  wait_for_previous();
  const int slot = static_cast<int>(blockIdx.x), t = first_row + slot;
  if (threadIdx.x == 0) row = row_of(p, t);
  __syncthreads();
  if (!row.sampled || p.best[t] == 0) return;
  const Mass* const weights = p.weights + slot * p.vocabulary;
  const RowDraw& options = row.draw;
  Kept kept{.least_key = 1, .least_mass = 0};
  if (options.top_k > 0 && options.top_k < p.vocabulary) {
    kept.least_key = select<false>(p, row, weights, selection, kept, static_cast<Mass>(options.top_k));
  }
  if (options.top_p < 1) {
    const Mass total = kept_mass(p, row, weights, kept, 0, p.vocabulary, sums);
    const double share = ceil(options.top_p * static_cast<double>(total));
    kept.least_key = select<true>(p, row, weights, selection, kept, min(static_cast<Mass>(share), total));
  }
  kept.least_mass = least_mass(p, row);
  if (!row.selects()) {
    if (threadIdx.x < kDrawParts) sums[threadIdx.x] = p.part_sums[slot * kDrawParts + threadIdx.x];
    __syncthreads();
  } else {
    kept_mass(p, row, weights, kept, 0, p.vocabulary, sums);
  }
  const int64_t id = drawn(p, row, weights, kept, sums, p.positions[t] + 1);
  __syncthreads();
  if (threadIdx.x == 0) end_row(p, t, row, id);
}

}  // namespace

template <>
void execute(Context& context, const NextToken& op) {
  const int64_t rows = op.ids.size(0), vocabulary = op.logits.size(1);
  if (rows > kCounters) fail("{}: there are {} rows, on a GPU at most {}", NextToken::name, rows, kCounters);
  if (vocabulary > kMostIds) fail("{}: there are {} ids, on a GPU at most {}", NextToken::name, vocabulary, kMostIds);
  Carver carver(context, NextToken::name);
  NextTokens p{.logits = op.logits.as<const float>(),
               .logit_step = op.logits.stride[0],
               .allowed = op.allowed ? op.allowed.as<const int32_t>() : nullptr,
               .draws = op.draws ? op.draws.as<const int32_t>() : nullptr,
               .draw_step = op.draws ? op.draws.stride[0] : 0,
               .counts = op.counts ? op.counts.as<int32_t>() : nullptr,
               .count_step = op.counts ? op.counts.stride[0] : 0,
               .sequence = op.sequence ? op.sequence.as<const int32_t>() : nullptr,
               .ids = op.ids.as<int32_t>(),
               .positions = op.positions.as<int32_t>(),
               .chosen = op.chosen.as<int32_t>(),
               .vocabulary = vocabulary,
               .parts = carver.take<Key>(rows * kBestParts),
               .best = carver.take<Key>(rows),
               .arrived = context.counters};
  const auto grid = [](int64_t columns, int parts) {
    return dim3(static_cast<unsigned>(columns), static_cast<unsigned>(parts));
  };
  launch_early(context, best_kernel, grid(rows, kBestParts), dim3(kBestThreads), 0, p);
  if (p.draws == nullptr) return;
  // Weights of as many rows at once as the workspace has room for.
  const auto row_bytes = static_cast<int64_t>(sizeof(Mass)) * (vocabulary + kDrawParts);
  const auto room = static_cast<int64_t>(carver.rest().bytes) - 1024;
  const int64_t most = std::min(rows, std::max<int64_t>(room / row_bytes, 1));
  p.weights = carver.take<Mass>(most * vocabulary);
  p.part_sums = carver.take<Mass>(most * kDrawParts);
  p.piece_bits = piece_bits(vocabulary);
  p.one = Mass{1} << (3 * p.piece_bits - 1);
  for (int64_t first = 0; first < rows; first += most) {
    const int64_t some = std::min(most, rows - first);
    const int first_row = static_cast<int>(first);
    launch_early(context, weight_kernel, grid(some, kDrawParts), dim3(kWeightThreads), 0, p, first_row);
    launch_early(context, draw_kernel, grid(some, 1), dim3(kDrawThreads), 0, p, first_row);
  }
}

}  // namespace moe::cuda
