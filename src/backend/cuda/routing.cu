#include "backend/cuda/kernel.cuh"
#include "backend/cuda/products.h"
#include "backend/cuda/sort.h"
#include "ops/routing.h"

namespace moe::cuda {
namespace {

constexpr unsigned kThreads = 256;
constexpr unsigned kWarps = kThreads / kWarp;
constexpr float kNormalizeEps = 1e-20f;

/// The row that this warp works on.
__device__ int64_t warp_row() { return static_cast<int64_t>(blockIdx.x) * kWarps + threadIdx.x / kWarp; }
__device__ int lane() { return static_cast<int>(threadIdx.x % kWarp); }

/// One warp per row, in place.
__global__ void softmax_kernel(float* x, int64_t step, int64_t rows, int64_t width) {
  const int64_t row = warp_row();
  if (row >= rows) return;
  float* const v = x + row * step;
  float largest = -INFINITY, sum = 0;
  for (int64_t i = lane(); i < width; i += kWarp) largest = fmaxf(largest, v[i]);
  largest = warp_max(largest);
  for (int64_t i = lane(); i < width; i += kWarp) sum += expf(v[i] - largest);
  sum = warp_sum(sum);
  for (int64_t i = lane(); i < width; i += kWarp) v[i] = expf(v[i] - largest) / sum;
}

struct Best {
  float score;
  int expert;
};

/// The larger score, or the lower expert of two equals; any expert before none.
__device__ bool better(const Best& a, const Best& b) {
  if (a.expert < 0 || b.expert < 0) return a.expert >= 0;
  return a.score > b.score || (a.score == b.score && a.expert < b.expert);
}

/// An order of all scores, those that are not numbers last: the choices are distinct whatever the values.
__device__ float rank(float score) { return isnan(score) ? -INFINITY : score; }

/// One warp per token: K times the best of the experts that come after the last choice in the order of choices. Not
/// changing the scores keeps them free to be read by others.
__global__ void topk_kernel(const float* scores, int64_t score_step, const float* bias, const int* group,
                            bool normalize, int skip, int* ids, int64_t id_step, float* gates, int64_t gate_step,
                            int64_t rows, int experts, int count) {
  const int64_t row = warp_row();
  if (row >= rows) return;
  int* const id = ids + row * id_step;
  float* const gate = gates + row * gate_step;
  if (group[row] < 0) {
    for (int k = lane(); k < count; k += kWarp) id[k] = -1, gate[k] = 0;
    return;
  }
  const float* const score = scores + row * score_step;
  Best last{INFINITY, -1};
  float sum = 0;
  for (int k = -skip; k < count; ++k) {
    Best best{-INFINITY, -1};
    for (int e = lane(); e < experts; e += kWarp) {
      const Best candidate{rank(bias == nullptr ? score[e] : score[e] + bias[e]), e};
      const bool chosen_before = k > -skip && !better(last, candidate);
      if (!chosen_before && better(candidate, best)) best = candidate;
    }
#pragma unroll
    for (int other = kWarp / 2; other > 0; other /= 2) {
      const Best theirs{__shfl_xor_sync(0xffffffffu, best.score, other),
                        __shfl_xor_sync(0xffffffffu, best.expert, other)};
      if (better(theirs, best)) best = theirs;
    }
    last = best;
    if (k < 0) continue;
    sum += score[best.expert];
    if (lane() == 0) {
      id[k] = best.expert;
      gate[k] = score[best.expert];
    }
  }
  if (!normalize) return;
  __syncwarp();
  for (int k = lane(); k < count; k += kWarp) gate[k] /= sum + kNormalizeEps;
}

/// A slot's sort key: its expert, or `experts` for none.
__global__ void keys_kernel(const int* ids, int64_t id_step, int64_t tokens, int count, int experts, int* keys) {
  const int64_t slot = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (slot >= tokens * count) return;
  const int id = ids[slot / count * id_step + slot % count];
  keys[slot] = id < 0 ? experts : id;
}

/// One thread per row of the plan; the first rows also find where experts begin.
__global__ void plan_kernel(Sorted sorted, int64_t rows, int count, int experts, int* offsets, int* row_slot,
                            int* row_token, int* slot_row, int64_t slot_step) {
  const int64_t row = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (row <= experts) {
    int64_t low = 0, high = rows;  // the first row whose expert is not below `row`
    while (low < high) {
      const int64_t middle = (low + high) / 2;
      if (sorted.keys[middle] < row) {
        low = middle + 1;
      } else {
        high = middle;
      }
    }
    offsets[row] = static_cast<int>(low);
  }
  if (row >= rows) return;
  const bool none = sorted.keys[row] == experts;
  const int slot = sorted.places[row];
  row_slot[row] = none ? -1 : slot;
  row_token[row] = none ? 0 : slot / count;
  slot_row[slot / count * slot_step + slot % count] = none ? -1 : static_cast<int>(row);
}

/// One thread per chunk of a token.
__global__ void combine_kernel(Matrix rows, const int* slot_row, int64_t slot_step, int count, Matrix residual,
                               Matrix y, bool accumulate, int64_t tokens, int64_t width) {
  const int64_t chunks = (width + kChunk - 1) / kChunk;
  const int64_t index = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  const int64_t t = index / chunks, c = index % chunks * kChunk;
  if (t >= tokens) return;
  float sum[kChunk] = {}, v[kChunk];
  if (accumulate) load_chunk(y, t, c, width, sum);
  if (residual) {
    load_chunk(residual, t, c, width, v);
#pragma unroll
    for (int i = 0; i < kChunk; ++i) sum[i] += v[i];
  }
  for (int k = 0; k < count; ++k) {
    const int row = slot_row[t * slot_step + k];
    if (row < 0) continue;
    load_chunk(rows, row, c, width, v);
#pragma unroll
    for (int i = 0; i < kChunk; ++i) sum[i] += v[i];
  }
  store_chunk(y, t, c, width, sum);
}

/// Integers: the order of the additions does not matter.
__global__ void counts_kernel(const int* ids, int64_t id_step, const int* group, int* counts, int64_t counts_step,
                              int64_t tokens, int count) {
  const int64_t slot = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (slot >= tokens * count) return;
  const int64_t t = slot / count;
  const int id = ids[t * id_step + slot % count];
  if (id >= 0 && group[t] >= 0) atomicAdd(counts + group[t] * counts_step + id, 1);
}

/// One warp per token.
__global__ void router_backward_kernel(const float* scores, int64_t score_step, const int* ids, int64_t id_step,
                                       const float* d_gates, int64_t gate_step, const int* group,
                                       const float* coefficients, int64_t coefficient_step, bool normalize,
                                       float* d_logits, int64_t d_step, int64_t rows, int experts, int count) {
  const int64_t row = warp_row();
  if (row >= rows) return;
  float* const d = d_logits + row * d_step;
  const int g = group[row];
  if (g < 0) {
    for (int e = lane(); e < experts; e += kWarp) d[e] = 0;
    return;
  }
  const float* const score = scores + row * score_step;
  const int* const id = ids + row * id_step;
  const float* const d_gate = d_gates + row * gate_step;
  // Normalised gates g = s / S:  ds_k = (dg_k - sum_j g_j dg_j) / S.
  float total = 0, mean = 0;
  for (int k = 0; k < count; ++k) {
    total += score[id[k]];
    mean += score[id[k]] * d_gate[k];
  }
  total += kNormalizeEps;
  mean /= total;
  float dot = 0;
  for (int e = lane(); e < experts; e += kWarp) {
    float value = coefficients != nullptr ? coefficients[g * coefficient_step + e] : 0.0f;
    for (int k = 0; k < count; ++k) {
      if (id[k] == e) value += normalize ? (d_gate[k] - mean) / total : d_gate[k];
    }
    d[e] = value;
    dot += score[e] * value;
  }
  dot = warp_sum(dot);
  for (int e = lane(); e < experts; e += kWarp) d[e] = score[e] * (d[e] - dot);
}

dim3 warps_for(int64_t rows) { return blocks(ceil_div(rows, kWarps)); }

}  // namespace

template <>
void execute(Context& context, const RouterScores& op) {
  product(context, Gemm{.a = op.x, .b = op.weight, .c = op.scores, .transpose_b = true});
  launch(context, softmax_kernel, warps_for(op.scores.size(0)), kThreads, 0, op.scores.as<float>(), op.scores.stride[0],
         op.scores.size(0), op.scores.size(1));
}

template <>
void execute(Context& context, const RouterTopk& op) {
  const int64_t rows = op.scores.size(0);
  launch(context, topk_kernel, warps_for(rows), kThreads, 0, op.scores.as<const float>(), op.scores.stride[0],
         op.bias ? op.bias.as<const float>() : nullptr, op.group.as<const int32_t>(), op.normalize,
         static_cast<int>(op.skip), op.ids.as<int32_t>(), op.ids.stride[0], op.gates.as<float>(), op.gates.stride[0],
         rows, static_cast<int>(op.scores.size(1)), static_cast<int>(op.ids.size(1)));
}

template <>
void execute(Context& context, const RoutePlan& op) {
  const int64_t tokens = op.ids.size(0), rows = op.ids.elements();
  const int experts = static_cast<int>(op.offsets.size(0) - 1), count = static_cast<int>(op.ids.size(1));
  Carver carver(context, RoutePlan::name);
  Sorted sorted{};
  if (rows > 0) {
    auto* const keys = carver.take<int>(rows);
    launch(context, keys_kernel, blocks(ceil_div(rows, kThreads)), kThreads, 0, op.ids.as<const int32_t>(),
           op.ids.stride[0], tokens, count, experts, keys);
    sorted = sort_by_key(context, carver, keys, rows, experts);
  }
  launch(context, plan_kernel, blocks(ceil_div(std::max<int64_t>(rows, experts + 1), kThreads)), kThreads, 0, sorted,
         rows, count, experts, op.offsets.as<int32_t>(), op.row_slot.as<int32_t>(), op.row_token.as<int32_t>(),
         op.slot_row.as<int32_t>(), op.slot_row.stride[0]);
}

template <>
void execute(Context& context, const RowsCombine& op) {
  const int64_t tokens = op.y.size(0), width = op.y.size(1);
  launch(context, combine_kernel, blocks(ceil_div(tokens * ceil_div(width, kChunk), kThreads)), kThreads, 0,
         matrix(op.rows), op.slot_row.as<const int32_t>(), op.slot_row.stride[0], static_cast<int>(op.slot_row.size(1)),
         matrix(op.residual), matrix(op.y), op.accumulate, tokens, width);
}

template <>
void execute(Context& context, const RouterCounts& op) {
  const int64_t tokens = op.ids.size(0);
  launch(context, counts_kernel, blocks(ceil_div(op.ids.elements(), kThreads)), kThreads, 0, op.ids.as<const int32_t>(),
         op.ids.stride[0], op.group.as<const int32_t>(), op.counts.as<int32_t>(), op.counts.stride[0], tokens,
         static_cast<int>(op.ids.size(1)));
}

template <>
void execute(Context& context, const RouterBackward& op) {
  const int64_t rows = op.scores.size(0);
  launch(context, router_backward_kernel, warps_for(rows), kThreads, 0, op.scores.as<const float>(),
         op.scores.stride[0], op.ids.as<const int32_t>(), op.ids.stride[0], op.d_gates.as<const float>(),
         op.d_gates.stride[0], op.group.as<const int32_t>(),
         op.coefficients ? op.coefficients.as<const float>() : nullptr, op.coefficients ? op.coefficients.stride[0] : 0,
         op.normalize, op.d_logits.as<float>(), op.d_logits.stride[0], rows, static_cast<int>(op.scores.size(1)),
         static_cast<int>(op.ids.size(1)));
}

}  // namespace moe::cuda
