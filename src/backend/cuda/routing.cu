#include "backend/cuda/combine.cuh"
#include "backend/cuda/early.cuh"
#include "backend/cuda/few_rows.h"
#include "backend/cuda/few_tokens.h"
#include "backend/cuda/products.h"
#include "backend/cuda/sort.h"
#include "backend/cuda/tile_product.h"
#include "backend/cuda/token_choice.cuh"
#include "backend/cuda/weight_element.cuh"
#include "ops/routing.h"

namespace moe::cuda {
namespace {

constexpr unsigned kThreads = 256;
constexpr unsigned kWarps = kThreads / kWarp;

/// The row that this warp works on.
__device__ int64_t warp_row() { return static_cast<int64_t>(blockIdx.x) * kWarps + threadIdx.x / kWarp; }

/// One warp per row; `in` may be x itself.
__global__ void scoring_kernel(const float* in, int64_t in_step, float* x, int64_t step, Scoring scoring,
                               float* log_sum, int64_t rows, int64_t width) {
  let_next_start();
  wait_for_previous();
  const int64_t row = warp_row();
  if (row >= rows) return;
  score_row(in + row * in_step, x + row * step, scoring, log_sum == nullptr ? nullptr : log_sum + row, width);
}

void score(Context& context, const View& logits, const RouterScores& op, int64_t first) {
  const View scores = op.scores.rows(first, logits.size(0));
  launch_early(context, scoring_kernel, warps_for(scores.size(0), kThreads), kThreads, 0, logits.as<const float>(),
               logits.stride[0], scores.as<float>(), scores.stride[0], op.scoring,
               op.log_sum ? op.log_sum.as<float>() + first : nullptr, scores.size(0), scores.size(1));
}

/// Scores of bf16 operands if the number of experts is not a multiple of 8. It pads a copy of the weight with zeros,
/// because the library's kernels for rows of other lengths are several times slower. Returns false, with nothing done,
/// in other cases.
bool scores_of_padded_weight(Context& context, const RouterScores& op) {
  constexpr int64_t kMostBytes = int64_t{32} << 20;
  const int64_t experts = op.weight.size(0), padded = ceil_div(experts, kChunk) * kChunk, width = op.weight.size(1);
  const size_t row_bytes = static_cast<size_t>(width) * sizeof(__nv_bfloat16);
  const int64_t most = kMostBytes / (padded * static_cast<int64_t>(sizeof(float)));
  if (!may_use_library() || experts == padded || width == 0 || most == 0) return false;
  if (op.x.dtype != DType::bf16 || op.weight.dtype != DType::bf16) return false;
  if (static_cast<size_t>(padded) * row_bytes > static_cast<size_t>(kMostBytes)) return false;
  Carver carver(context, RouterScores::name);
  const View weight(carver.take<__nv_bfloat16>(padded * width), DType::bf16, {padded, width});
  const View logits(carver.take<float>(most * padded), DType::f32, {most, padded});
  check(cudaMemsetAsync(weight.data, 0, weight.bytes(), context.stream), "padding a router's weight");
  check(cudaMemcpy2DAsync(weight.data, row_bytes, op.weight.data,
                          static_cast<size_t>(op.weight.stride[0]) * sizeof(__nv_bfloat16), row_bytes,
                          static_cast<size_t>(experts), cudaMemcpyDeviceToDevice, context.stream),
        "copying a router's weight");
  for (int64_t first = 0; first < op.x.size(0); first += most) {
    const int64_t count = std::min(most, op.x.size(0) - first);
    const Gemm product{.a = op.x.rows(first, count), .b = weight, .c = logits.rows(0, count), .transpose_b = true};
    if (!context.products.run(product, context.stream, carver.rest())) return false;
    score(context, product.c, op, first);
  }
  return true;
}

/// One warp per token. The scores are not changed, so other threads may read them.
__global__ void topk_kernel(ChoiceRule rule, const float* scores, int64_t score_step, const int* group, int* ids,
                            int64_t id_step, int64_t rows) {
  let_next_start();
  wait_for_previous();
  const int64_t row = warp_row();
  if (row < rows) choose_row(rule, scores + row * score_step, group[row] < 0, row, ids + row * id_step);
}

/// One warp per token.
__global__ void gates_kernel(const float* scores, int64_t score_step, const int* ids, int64_t id_step, GateForm form,
                             float scale, float* gates, int64_t gate_step, int64_t rows, int count) {
  let_next_start();
  wait_for_previous();
  const int64_t row = warp_row();
  if (row >= rows) return;
  gate_row(scores + row * score_step, ids + row * id_step, form, scale, gates + row * gate_step, count);
}

__global__ void keys_kernel(const int* ids, int64_t id_step, int64_t tokens, int count, int first, int experts,
                            int* keys) {
  const int64_t slot = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (slot >= tokens * count) return;
  keys[slot] = key_of(ids[slot / count * id_step + slot % count], first, experts);
}

/// One thread per slot, in the order of rows; the first rows also find where experts begin.
__global__ void plan_kernel(Sorted sorted, int64_t slots, int64_t rows, int count, int experts, int* offsets,
                            int* row_slot, int* row_token, int* slot_row, int64_t slot_step) {
  const int64_t row = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (row <= experts) {
    int64_t low = 0, high = slots;  // the first row whose expert is not below `row`
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
  if (row >= slots) return;
  const bool none = sorted.keys[row] == experts;
  const int slot = sorted.places[row];
  if (row < rows) {
    row_slot[row] = none ? -1 : slot;
    row_token[row] = none ? 0 : slot / count;
  }
  slot_row[slot / count * slot_step + slot % count] = none ? -1 : static_cast<int>(row);
}

/// A thread for each chunk of a token.
template <bool in_bf16>
__global__ void combine_kernel(const __grid_constant__ Combine op, int64_t tokens, int64_t width) {
  let_next_start();
  wait_for_previous();
  const int64_t t = grid_row(), c = grid_column();
  if (t >= tokens || c >= width) return;
  float sum[kChunk] = {};
  combine_chunk<in_bf16>(op, t, c, width, sum);
  store_chunk(op.y, t, c, width, sum);
}

/// A thread for each chunk of a token, read once. `in_bf16`: in Bf16Chunks.
template <bool in_bf16>
__global__ void gather_kernel(Matrix x, const int* slot_row, int64_t slot_step, int count, Matrix rows, int64_t tokens,
                              int64_t width) {
  const int64_t t = grid_row(), c = grid_column();
  if (t >= tokens || c >= width) return;
  const int* const to = slot_row + t * slot_step;
  if constexpr (in_bf16) {
    const Bf16Chunk chunk = Bf16Chunk::load(x, t, c);
#pragma unroll 4
    for (int k = 0; k < count; ++k) {
      if (to[k] >= 0) chunk.store(rows, to[k], c);
    }
  } else {
    float v[kChunk];
    load_chunk(x, t, c, width, v);
    for (int k = 0; k < count; ++k) {
      if (to[k] >= 0) store_chunk(rows, to[k], c, width, v);
    }
  }
}

}  // namespace

template <>
void execute(Context& context, const RouterScores& op) {
  const Gemm logits{.a = op.x, .b = op.weight, .c = op.scores, .transpose_b = true};
  if (!few_rows_product(context, logits)) {
    if (scores_of_padded_weight(context, op)) return;
    // Scores are exact: blocks are not widened to bf16.
    is_other_weight(op.weight.dtype) ? tile_product(context, logits) : product(context, logits);
  }
  if (op.scoring != Scoring::none) score(context, op.scores, op, 0);
}

template <>
void execute(Context& context, const RouterTopk& op) {
  const int64_t rows = op.scores.size(0);
  launch_early(context, topk_kernel, warps_for(rows, kThreads), kThreads, 0, rule_of(op), op.scores.as<const float>(),
               op.scores.stride[0], op.group.as<const int32_t>(), op.ids.as<int32_t>(), op.ids.stride[0], rows);
}

template <>
void execute(Context& context, const RouterGates& op) {
  const int64_t rows = op.ids.size(0);
  launch_early(context, gates_kernel, warps_for(rows, kThreads), kThreads, 0,
               op.scores ? op.scores.as<const float>() : nullptr, op.scores ? op.scores.stride[0] : 0,
               op.ids.as<const int32_t>(), op.ids.stride[0], op.form, op.scale, op.gates.as<float>(),
               op.gates.stride[0], rows, static_cast<int>(op.ids.size(1)));
}

template <>
void execute(Context& context, const RoutePlan& op) {
  const int64_t tokens = op.ids.size(0), slots = op.ids.elements();
  const int experts = static_cast<int>(op.offsets.size(0) - 1), count = static_cast<int>(op.ids.size(1));
  if (few_slots_plan(context, op)) return;
  Carver carver(context, RoutePlan::name);
  Sorted sorted{};
  if (slots > 0) {
    auto* const keys = carver.take<int>(slots);
    launch(context, keys_kernel, blocks(ceil_div(slots, kThreads)), kThreads, 0, op.ids.as<const int32_t>(),
           op.ids.stride[0], tokens, count, static_cast<int>(op.first), experts, keys);
    sorted = sort_by_key(context, carver, keys, slots, experts);
  }
  launch(context, plan_kernel, blocks(ceil_div(std::max<int64_t>(slots, experts + 1), kThreads)), kThreads, 0, sorted,
         slots, op.row_slot.size(0), count, experts, op.offsets.as<int32_t>(), op.row_slot.as<int32_t>(),
         op.row_token.as<int32_t>(), op.slot_row.as<int32_t>(), op.slot_row.stride[0]);
}

template <>
void execute(Context& context, const RowsCombine& op) {
  const int64_t tokens = op.y.size(0), width = op.y.size(1);
  const RowGrid shape(tokens, width);
  const Combine task = combine_of(op);
  launch_early(context, in_bf16_chunks(task, width) ? combine_kernel<true> : combine_kernel<false>, shape.grid,
               shape.threads, 0, task, tokens, width);
}

template <>
void execute(Context& context, const RowsGather& op) {
  const int64_t tokens = op.x.size(0), width = op.x.size(1);
  const Matrix x = matrix(op.x), rows = matrix(op.rows);
  const bool in_bf16 = in_bf16_chunks(x, width) && in_bf16_chunks(rows, width);
  const RowGrid shape(tokens, width);
  launch(context, in_bf16 ? gather_kernel<true> : gather_kernel<false>, shape.grid, shape.threads, 0, x,
         op.slot_row.as<const int32_t>(), op.slot_row.stride[0], static_cast<int>(op.slot_row.size(1)), rows, tokens,
         width);
}

}  // namespace moe::cuda
