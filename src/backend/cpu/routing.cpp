#include "ops/routing.h"

#include <cassert>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "backend/cpu/elements.h"
#include "backend/cpu/rank.h"

namespace moe::cpu {
namespace {

/// The first `count` in the order of rank(value), best first; among equals the lower index comes first. The ids are
/// distinct for any values. `best` gets their ranks.
void choose(const float* values, int64_t size, int64_t count, int32_t* ids, float* best) {
  int64_t chosen = 0;
  for (int64_t e = 0; e < size; ++e) {
    const float score = rank(values[e]);
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

/// Sets `keys` to minus infinity for the experts of groups that a token does not use. `ids` and `best` have room for
/// any choice.
void exclude_groups(const GroupLimit& limit, int64_t experts, float* keys, float* sums, int32_t* ids, float* best) {
  const int64_t members = experts / limit.groups;
  for (int64_t g = 0; g < limit.groups; ++g) {
    choose(keys + g * members, members, limit.best, ids, best);
    sums[g] = 0;
    for (int64_t i = 0; i < limit.best; ++i) sums[g] += best[i];
  }
  choose(sums, limit.groups, limit.used, ids, best);
  std::sort(ids, ids + limit.used);
  const int32_t* used = ids;
  for (int64_t g = 0; g < limit.groups; ++g) {
    if (used < ids + limit.used && *used == g) {
      ++used;
    } else {
      std::fill(keys + g * members, keys + (g + 1) * members, -std::numeric_limits<float>::infinity());
    }
  }
}

constexpr float kNormalizeEps = 1e-20f;

float log_sum_exp(const float* logits, int64_t count) {
  const float largest = *std::max_element(logits, logits + count);
  float sum = 0;
  for (int64_t e = 0; e < count; ++e) sum += std::exp(logits[e] - largest);
  return largest + std::log(sum);
}

}  // namespace

template <>
void execute(Context& context, const RouterScores& op) {
  const int64_t width = op.x.size(1);
  const int64_t experts = op.weight.size(0);
  const View weight = readable(context, op.weight);
  const auto& kernels = context.kernels.rows.softmax;
  constexpr int64_t kTile = 4;  // number of rows that share a pass over the weights
  for_rows(
      context.pool, op.x.size(0), width * experts / 8,
      [&](int64_t begin, int64_t end) {
        kernels.router_logits({.x = in_row(op.x, begin),
                               .x_stride = op.x.stride[0],
                               .tokens = end - begin,
                               .weight = in_row(weight),
                               .weight_stride = weight.stride[0],
                               .experts = experts,
                               .width = width,
                               .logits = row_as<float>(op.scores, begin),
                               .logits_stride = op.scores.stride[0]});
        for (int64_t t = begin; t < end; ++t) {
          auto* scores = row_as<float>(op.scores, t);
          if (op.log_sum) op.log_sum.as<float>()[t] = log_sum_exp(scores, experts);
          if (op.scoring == Scoring::softmax) kernels.softmax(scores, experts);
          if (op.scoring == Scoring::sigmoid) {
            for (int64_t e = 0; e < experts; ++e) scores[e] = 1 / (1 + std::exp(-scores[e]));
          }
        }
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
    std::vector<int32_t> chosen(static_cast<size_t>(experts));
    std::vector<float> best(chosen.size()), keys(chosen.size()), sums(static_cast<size_t>(op.limit.groups));
    for (int64_t t = begin; t < end; ++t) {
      const auto* scores = row_as<float>(op.scores, t);
      auto* ids = row_as<int32_t>(op.ids, t);
      if (group[t] < 0) {
        std::fill(ids, ids + count, -1);
        continue;
      }
      if (op.even) {
        for (int64_t k = 0; k < count; ++k) ids[k] = static_cast<int32_t>((t * count + k) % experts);
        continue;
      }
      const float* choose_by = scores;
      if (bias != nullptr || op.limit.active()) {
        for (size_t e = 0; e < keys.size(); ++e) keys[e] = bias == nullptr ? scores[e] : scores[e] + bias[e];
        if (op.limit.active()) exclude_groups(op.limit, experts, keys.data(), sums.data(), chosen.data(), best.data());
        choose_by = keys.data();
      }
      choose(choose_by, experts, op.skip + count, chosen.data(), best.data());
      std::copy_n(chosen.begin() + op.skip, count, ids);
    }
  });
}

template <>
void execute(Context& context, const RouterGates& op) {
  const int64_t count = op.ids.size(1);
  assert(!op.scores || values_in(op.ids, INT32_MIN, op.scores.size(1)));
  for_rows(context.pool, op.ids.size(0), 16 * count, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      const auto* scores = op.scores ? row_as<float>(op.scores, t) : nullptr;
      const auto* ids = row_as<int32_t>(op.ids, t);
      auto* gates = row_as<float>(op.gates, t);
      float largest = -std::numeric_limits<float>::infinity();
      float sum = 0;
      for (int64_t k = 0; k < count; ++k) {
        gates[k] = ids[k] < 0 ? 0 : (scores ? scores[ids[k]] : 1);
        if (ids[k] >= 0) largest = std::max(largest, gates[k]);
      }
      if (op.form == GateForm::softmax) {
        for (int64_t k = 0; k < count; ++k) gates[k] = ids[k] < 0 ? 0 : std::exp(gates[k] - largest);
      }
      if (op.form == GateForm::one) {
        for (int64_t k = 0; k < count; ++k) gates[k] = ids[k] < 0 ? 0 : 1;
      }
      for (int64_t k = 0; k < count; ++k) sum += gates[k];
      if (op.form == GateForm::normalized) sum += kNormalizeEps;
      const bool divide = (op.form == GateForm::normalized || op.form == GateForm::softmax) && sum > 0;
      for (int64_t k = 0; k < count; ++k) gates[k] = (divide ? gates[k] / sum : gates[k]) * op.scale;
    }
  });
}

// A counting sort on one thread. A pass over T * K small integers takes less time than distributing the work.
template <>
void execute(Context& context, const RoutePlan& op) {
  const int64_t experts = op.offsets.size(0) - 1;
  const int64_t tokens = op.ids.size(0);
  const int64_t count = op.ids.size(1);
  const auto first = static_cast<int32_t>(op.first);
  const auto place = [&](int32_t id) { return id >= first && id - first < experts ? id - first : -1; };
  auto* offsets = op.offsets.as<int32_t>();
  auto* row_slot = op.row_slot.as<int32_t>();
  auto* row_token = op.row_token.as<int32_t>();
  MOE_CHECK(static_cast<size_t>(experts) * sizeof(int32_t) <= Scratch::kBytes);
  auto* next = static_cast<int32_t*>(context.scratch.of(0));

  std::fill(offsets, offsets + experts + 1, 0);
  for (int64_t t = 0; t < tokens; ++t) {
    const auto* ids = row_as<int32_t>(op.ids, t);
    for (int64_t k = 0; k < count; ++k) {
      if (const int32_t e = place(ids[k]); e >= 0) ++offsets[e + 1];
    }
  }
  for (int64_t e = 0; e < experts; ++e) {
    offsets[e + 1] += offsets[e];
    next[e] = offsets[e];
  }
  MOE_CHECK(offsets[experts] <= op.row_slot.size(0));
  for (int64_t t = 0; t < tokens; ++t) {
    const auto* ids = row_as<int32_t>(op.ids, t);
    auto* slot_row = row_as<int32_t>(op.slot_row, t);
    for (int64_t k = 0; k < count; ++k) {
      const int32_t e = place(ids[k]);
      slot_row[k] = e < 0 ? -1 : next[e]++;
      if (slot_row[k] < 0) continue;
      row_slot[slot_row[k]] = static_cast<int32_t>(t * count + k);
      row_token[slot_row[k]] = static_cast<int32_t>(t);
    }
  }
  std::fill(row_slot + offsets[experts], row_slot + op.row_slot.size(0), -1);
  std::fill(row_token + offsets[experts], row_token + op.row_token.size(0), 0);
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
void execute(Context& context, const RowsGather& op) {
  const int64_t count = op.slot_row.size(1), width = op.x.size(1);
  const auto bytes = static_cast<size_t>(width) * size_of(op.x.dtype);
  assert(values_in(op.slot_row, -1, op.rows.size(0)));
  for_rows(context.pool, op.x.size(0), 2 * width * (count + 1), [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      const auto* const rows = row_as<int32_t>(op.slot_row, t);
      for (int64_t k = 0; k < count; ++k) {
        if (rows[k] >= 0) std::memcpy(op.rows.rows(rows[k], 1).data, op.x.rows(t, 1).data, bytes);
      }
    }
  });
}

namespace {

/// Adds the gradients of the token's scores through its gates to `d`. `d_gates` has one per slot.
void gates_backward(const RouterBackward& op, const float* scores, const int32_t* ids, const float* d_gates,
                    int64_t count, float* d) {
  switch (op.form) {
    case GateForm::one:
      return;
    case GateForm::score:
      for (int64_t k = 0; k < count; ++k) {
        if (ids[k] >= 0) d[ids[k]] += op.scale * d_gates[k];
      }
      return;
    case GateForm::normalized:
    case GateForm::softmax:
      break;
  }
  // Gates g = w / sum of w:  dw_k = (dg_k - sum_j g_j dg_j) / sum, where w is the score or its exponential.
  const bool softmax = op.form == GateForm::softmax;
  float largest = -std::numeric_limits<float>::infinity();
  for (int64_t k = 0; k < count; ++k) largest = ids[k] < 0 ? largest : std::max(largest, scores[ids[k]]);
  const auto weight = [&](int64_t k) { return softmax ? std::exp(scores[ids[k]] - largest) : scores[ids[k]]; };
  float total = softmax ? 0 : kNormalizeEps;
  float mean = 0;
  for (int64_t k = 0; k < count; ++k) {
    if (ids[k] < 0) continue;
    total += weight(k);
    mean += weight(k) * d_gates[k];
  }
  mean /= total;
  for (int64_t k = 0; k < count; ++k) {
    if (ids[k] >= 0) d[ids[k]] += op.scale * (d_gates[k] - mean) / total * (softmax ? weight(k) : 1.0f);
  }
}

/// The coefficients, for scores or for scores divided by their sum.
void balance_backward(const RouterBackward& op, const float* scores, const float* coefficients, int64_t experts,
                      float* d) {
  if (!op.balance_normalized) return static_cast<void>(std::copy(coefficients, coefficients + experts, d));
  float total = 0, mean = 0;
  for (int64_t e = 0; e < experts; ++e) {
    total += scores[e];
    mean += coefficients[e] * scores[e];
  }
  for (int64_t e = 0; e < experts; ++e) d[e] = (coefficients[e] - mean / total) / total;
}

}  // namespace

template <>
void execute(Context& context, const RouterBackward& op) {
  const int64_t experts = op.scores.size(1);
  const int64_t count = op.ids.size(1);
  const auto* group = op.group.as<int32_t>();
  const float z = op.log_sum ? 2 * op.z_loss * *op.inv_tokens.as<float>() : 0.0f;
  for_rows(context.pool, op.scores.size(0), 16 * experts, [&](int64_t begin, int64_t end) {
    std::vector<float> slot(static_cast<size_t>(count));
    for (int64_t t = begin; t < end; ++t) {
      auto* d = row_as<float>(op.d_logits, t);
      std::fill(d, d + experts, 0.0f);
      if (group[t] < 0) continue;
      const auto* scores = row_as<float>(op.scores, t);
      const auto* ids = row_as<int32_t>(op.ids, t);
      const auto* kept = op.kept ? row_as<int32_t>(op.kept, t) : ids;
      const auto* d_gates = row_as<float>(op.d_gates, t);
      const auto* by_gate = op.gate_coefficients ? row_as<float>(op.gate_coefficients, group[t]) : nullptr;
      for (int64_t k = 0; k < count; ++k) {
        float& value = slot[static_cast<size_t>(k)];
        value = kept[k] < 0 ? 0 : d_gates[k];
        if (by_gate != nullptr && ids[k] >= 0) value += by_gate[ids[k]];
      }
      if (op.coefficients) balance_backward(op, scores, row_as<float>(op.coefficients, group[t]), experts, d);
      gates_backward(op, scores, ids, slot.data(), count, d);
      if (op.scoring == Scoring::softmax) context.kernels.rows.softmax.softmax_backward(scores, d, experts);
      if (op.scoring == Scoring::sigmoid) {
        for (int64_t e = 0; e < experts; ++e) d[e] *= scores[e] * (1 - scores[e]);
      }
      if (z == 0) continue;
      const float weight = z * op.log_sum.as<float>()[t];
      for (int64_t e = 0; e < experts; ++e) d[e] += weight * scores[e];
    }
  });
}

}  // namespace moe::cpu
