#include "backend/cuda/kernel.cuh"
#include "ops/routing.h"

namespace moe::cuda {
namespace {

constexpr unsigned kThreads = 256;
constexpr float kNormalizeEps = 1e-20f;

__device__ int lane() { return static_cast<int>(threadIdx.x % kWarp); }

struct RouterBackwardArgs {
  const float* scores;
  int64_t score_step;
  const int* ids;
  int64_t id_step;
  const int* kept;
  int64_t kept_step;
  const float* d_gates;
  int64_t gate_step;
  const int* group;
  const float* coefficients;
  int64_t coefficient_step;
  const float* gate_coefficients;
  int64_t gate_coefficient_step;
  Scoring scoring;
  GateForm form;
  float scale;
  bool balance_normalized;
  const float* log_sum;
  const float* inv_tokens;
  float z_loss;
  float* d_logits;
  int64_t d_step;
  int64_t rows;
  int experts;
  int count;
};

/// One warp per token.
__global__ void router_backward_kernel(RouterBackwardArgs a) {
  const int64_t row = static_cast<int64_t>(blockIdx.x) * (kThreads / kWarp) + threadIdx.x / kWarp;
  if (row >= a.rows) return;
  float* const d = a.d_logits + row * a.d_step;
  const int g = a.group[row], count = a.count, experts = a.experts;
  if (g < 0) {
    for (int e = lane(); e < experts; e += kWarp) d[e] = 0;
    return;
  }
  const float* const score = a.scores + row * a.score_step;
  const int* const id = a.ids + row * a.id_step;
  const int* const kept = a.kept == nullptr ? id : a.kept + row * a.kept_step;
  const float* const d_gate = a.d_gates + row * a.gate_step;
  const float* const by_gate =
      a.gate_coefficients == nullptr ? nullptr : a.gate_coefficients + g * a.gate_coefficient_step;
  const float* const by_score = a.coefficients == nullptr ? nullptr : a.coefficients + g * a.coefficient_step;
  const auto slot = [&](int k) {
    return (kept[k] < 0 ? 0.0f : d_gate[k]) + (by_gate == nullptr ? 0.0f : by_gate[id[k]]);
  };
  // Gates g = w / sum of w:  dw_k = (dg_k - sum_j g_j dg_j) / sum, where w is the score or its exponential.
  const bool softmax = a.form == GateForm::softmax, divided = softmax || a.form == GateForm::normalized;
  float largest = -INFINITY, total = softmax ? 0.0f : kNormalizeEps, mean = 0;
  for (int k = 0; k < count && softmax; ++k) largest = id[k] < 0 ? largest : fmaxf(largest, score[id[k]]);
  const auto weight = [&](int k) { return softmax ? expf(score[id[k]] - largest) : score[id[k]]; };
  for (int k = 0; k < count && divided; ++k) {
    if (id[k] < 0) continue;
    total += weight(k);
    mean += weight(k) * slot(k);
  }
  mean /= total;
  float score_sum = 0, balance_mean = 0;
  if (a.balance_normalized && by_score != nullptr) {
    for (int e = lane(); e < experts; e += kWarp) {
      score_sum += score[e];
      balance_mean += by_score[e] * score[e];
    }
    score_sum = warp_sum(score_sum);
    balance_mean = warp_sum(balance_mean) / score_sum;
  }
  float dot = 0;
  for (int e = lane(); e < experts; e += kWarp) {
    float value = by_score == nullptr ? 0.0f : by_score[e];
    if (a.balance_normalized && by_score != nullptr) value = (value - balance_mean) / score_sum;
    for (int k = 0; k < count && a.form != GateForm::one; ++k) {
      if (id[k] != e) continue;
      value += a.scale * (divided ? (slot(k) - mean) / total * (softmax ? weight(k) : 1.0f) : slot(k));
    }
    d[e] = value;
    dot += score[e] * value;
  }
  if (a.scoring == Scoring::none) return;
  dot = warp_sum(dot);
  const float z = a.log_sum == nullptr ? 0.0f : 2 * a.z_loss * *a.inv_tokens * a.log_sum[row];
  for (int e = lane(); e < experts; e += kWarp) {
    d[e] = score[e] * (a.scoring == Scoring::softmax ? d[e] - dot : (1 - score[e]) * d[e]) + z * score[e];
  }
}

}  // namespace

template <>
void execute(Context& context, const RouterBackward& op) {
  const auto floats = [](const View& view) { return view ? view.as<const float>() : nullptr; };
  const auto step = [](const View& view) { return view ? view.stride[0] : 0; };
  launch(context, router_backward_kernel, warps_for(op.scores.size(0), kThreads), kThreads, 0,
         RouterBackwardArgs{.scores = floats(op.scores),
                            .score_step = step(op.scores),
                            .ids = op.ids.as<const int32_t>(),
                            .id_step = step(op.ids),
                            .kept = op.kept ? op.kept.as<const int32_t>() : nullptr,
                            .kept_step = step(op.kept),
                            .d_gates = floats(op.d_gates),
                            .gate_step = step(op.d_gates),
                            .group = op.group.as<const int32_t>(),
                            .coefficients = floats(op.coefficients),
                            .coefficient_step = step(op.coefficients),
                            .gate_coefficients = floats(op.gate_coefficients),
                            .gate_coefficient_step = step(op.gate_coefficients),
                            .scoring = op.scoring,
                            .form = op.form,
                            .scale = op.scale,
                            .balance_normalized = op.balance_normalized,
                            .log_sum = floats(op.log_sum),
                            .inv_tokens = floats(op.inv_tokens),
                            .z_loss = op.z_loss,
                            .d_logits = op.d_logits.as<float>(),
                            .d_step = step(op.d_logits),
                            .rows = op.scores.size(0),
                            .experts = static_cast<int>(op.scores.size(1)),
                            .count = static_cast<int>(op.ids.size(1))});
}

}  // namespace moe::cuda
