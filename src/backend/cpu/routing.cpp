#include "ops/routing.h"

#include <cassert>
#include <vector>

#include "backend/cpu/elements.h"

namespace moe::cpu {
namespace {

/// The `count` largest of scores + bias (which may be null), best first, the lower expert before its equals: distinct
/// ids whatever the values.
void choose(const float* scores, const float* bias, int64_t experts, int64_t count, int32_t* ids, float* best) {
  int64_t chosen = 0;
  for (int64_t e = 0; e < experts; ++e) {
    const float score = bias == nullptr ? scores[e] : scores[e] + bias[e];
    if (chosen == count && !(score > best[count - 1])) continue;
    if (chosen < count) ++chosen;
    int64_t place = chosen - 1;
    for (; place > 0 && score > best[place - 1]; --place) {
      best[place] = best[place - 1];
      ids[place] = ids[place - 1];
    }
    best[place] = score;
    ids[place] = static_cast<int32_t>(e);
  }
}

constexpr float kNormalizeEps = 1e-20f;

float sum_of(const float* values, int64_t count) {
  float sum = 0;
  for (int64_t k = 0; k < count; ++k) sum += values[k];
  return sum;
}

}  // namespace

template <>
void execute(Context& context, const RouterScores& op) {
  const int64_t width = op.x.size(1);
  const int64_t experts = op.weight.size(0);
  const auto& kernels = context.kernels.rows.softmax;
  constexpr int64_t kTile = 4;  // rows that share a pass over the weights
  for_rows(
      context.pool, op.x.size(0), width * experts / 8,
      [&](int64_t begin, int64_t end) {
        kernels.router_logits({.x = in_row(op.x, begin),
                               .x_stride = op.x.stride[0],
                               .tokens = end - begin,
                               .weight = in_row(op.weight),
                               .weight_stride = op.weight.stride[0],
                               .experts = experts,
                               .width = width,
                               .logits = row_as<float>(op.scores, begin),
                               .logits_stride = op.scores.stride[0]});
        for (int64_t t = begin; t < end; ++t) kernels.softmax(row_as<float>(op.scores, t), experts);
      },
      kTile);
}

template <>
void execute(Context& context, const RouterTopk& op) {
  const int64_t experts = op.scores.size(1);
  const int64_t count = op.ids.size(1);
  const auto* group = op.group.as<int32_t>();
  const auto* bias = op.bias ? op.bias.as<float>() : nullptr;
  if (count == 0) return;
  for_rows(context.pool, op.scores.size(0), 16 * experts, [&](int64_t begin, int64_t end) {
    std::vector<int32_t> chosen(static_cast<size_t>(op.skip + count));
    std::vector<float> best(chosen.size());
    for (int64_t t = begin; t < end; ++t) {
      const auto* scores = row_as<float>(op.scores, t);
      auto* ids = row_as<int32_t>(op.ids, t);
      auto* gates = row_as<float>(op.gates, t);
      if (group[t] < 0) {
        std::fill(ids, ids + count, -1);
        std::fill(gates, gates + count, 0.0f);
        continue;
      }
      choose(scores, bias, experts, op.skip + count, chosen.data(), best.data());
      std::copy(chosen.begin() + op.skip, chosen.end(), ids);
      for (int64_t k = 0; k < count; ++k) gates[k] = scores[ids[k]];
      if (!op.normalize) continue;
      const float sum = sum_of(gates, count) + kNormalizeEps;
      for (int64_t k = 0; k < count; ++k) gates[k] /= sum;
    }
  });
}

// A counting sort on one thread: a pass over T * K small integers takes less than handing out the work.
template <>
void execute(Context& context, const RoutePlan& op) {
  const int64_t experts = op.offsets.size(0) - 1;
  const int64_t tokens = op.ids.size(0);
  const int64_t count = op.ids.size(1);
  assert(values_in(op.ids, -1, experts));
  auto* offsets = op.offsets.as<int32_t>();
  auto* row_slot = op.row_slot.as<int32_t>();
  auto* row_token = op.row_token.as<int32_t>();
  MOE_CHECK(static_cast<size_t>(experts) * sizeof(int32_t) <= Scratch::kBytes);
  auto* next = static_cast<int32_t*>(context.scratch.of(0));

  std::fill(offsets, offsets + experts + 1, 0);
  for (int64_t t = 0; t < tokens; ++t) {
    const auto* ids = row_as<int32_t>(op.ids, t);
    for (int64_t k = 0; k < count; ++k) {
      if (ids[k] >= 0) ++offsets[ids[k] + 1];
    }
  }
  for (int64_t e = 0; e < experts; ++e) {
    offsets[e + 1] += offsets[e];
    next[e] = offsets[e];
  }
  for (int64_t t = 0; t < tokens; ++t) {
    const auto* ids = row_as<int32_t>(op.ids, t);
    auto* slot_row = row_as<int32_t>(op.slot_row, t);
    for (int64_t k = 0; k < count; ++k) {
      slot_row[k] = ids[k] < 0 ? -1 : next[ids[k]]++;
      if (slot_row[k] < 0) continue;
      row_slot[slot_row[k]] = static_cast<int32_t>(t * count + k);
      row_token[slot_row[k]] = static_cast<int32_t>(t);
    }
  }
  std::fill(row_slot + offsets[experts], row_slot + tokens * count, -1);
  std::fill(row_token + offsets[experts], row_token + tokens * count, 0);
}

template <>
void execute(Context& context, const RowsCombine& op) {
  const int64_t count = op.slot_row.size(1);
  const int64_t width = op.y.size(1);
  assert(values_in(op.slot_row, -1, op.rows.size(0)));
  for_rows(context.pool, op.y.size(0), 4 * width * (count + 1), [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      context.kernels.rows.combine({.rows = in_row(op.rows),
                                    .row_stride = op.rows.stride[0],
                                    .index = row_as<int32_t>(op.slot_row, t),
                                    .count = count,
                                    .residual = in_row(op.residual, t),
                                    .y = out_row(op.y, t),
                                    .accumulate = op.accumulate,
                                    .width = width});
    }
  });
}

template <>
void execute(Context&, const RouterCounts& op) {
  assert(values_in(op.ids, -1, op.counts.size(1)));
  assert(values_in(op.group, INT32_MIN, op.counts.size(0)));
  const auto* group = op.group.as<int32_t>();
  for (int64_t t = 0; t < op.ids.size(0); ++t) {
    if (group[t] < 0) continue;
    const auto* ids = row_as<int32_t>(op.ids, t);
    auto* counts = row_as<int32_t>(op.counts, group[t]);
    for (int64_t k = 0; k < op.ids.size(1); ++k) {
      if (ids[k] >= 0) ++counts[ids[k]];
    }
  }
}

template <>
void execute(Context& context, const RouterBackward& op) {
  const int64_t experts = op.scores.size(1);
  const int64_t count = op.ids.size(1);
  const auto* group = op.group.as<int32_t>();
  for_rows(context.pool, op.scores.size(0), 16 * experts, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      auto* d = row_as<float>(op.d_logits, t);
      const float* coefficients = nullptr;
      if (op.coefficients && group[t] >= 0) coefficients = row_as<float>(op.coefficients, group[t]);
      if (coefficients) {
        std::copy(coefficients, coefficients + experts, d);
      } else {
        std::fill(d, d + experts, 0.0f);
      }
      if (group[t] < 0) continue;
      const auto* scores = row_as<float>(op.scores, t);
      const auto* ids = row_as<int32_t>(op.ids, t);
      const auto* d_gates = row_as<float>(op.d_gates, t);
      // Normalised gates g = s / S:  ds_k = (dg_k - sum_j g_j dg_j) / S.
      float total = 0;
      float mean = 0;
      for (int64_t k = 0; k < count; ++k) {
        total += scores[ids[k]];
        mean += scores[ids[k]] * d_gates[k];
      }
      total += kNormalizeEps;
      mean /= total;
      for (int64_t k = 0; k < count; ++k) d[ids[k]] += op.normalize ? (d_gates[k] - mean) / total : d_gates[k];
      context.kernels.rows.softmax.softmax_backward(scores, d, experts);
    }
  });
}

}  // namespace moe::cpu
