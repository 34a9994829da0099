#include <algorithm>
#include <cmath>
#include <numeric>

#include "tests/oracle/array.h"
#include "tests/oracle/naive.h"

namespace moe::oracle {
namespace {

constexpr double kNormalizeEps = 1e-20;

}  // namespace

void compute(const RouterScores& op) {
  const Reals x = read(op.x), weight = read(op.weight);
  Reals scores(op.scores.shape);
  const int64_t experts = weight.size(0);
  for (int64_t t = 0; t < x.size(0); ++t) {
    double largest = -INFINITY, sum = 0;
    for (int64_t e = 0; e < experts; ++e) {
      for (int64_t d = 0; d < x.size(1); ++d) scores(t, e) += x(t, d) * weight(e, d);
      largest = std::max(largest, scores(t, e));
    }
    for (int64_t e = 0; e < experts; ++e) sum += std::exp(scores(t, e) - largest);
    for (int64_t e = 0; e < experts; ++e) scores(t, e) = std::exp(scores(t, e) - largest) / sum;
  }
  write(op.scores, scores);
}

void compute(const RouterTopk& op) {
  const Reals scores = read(op.scores);
  const Indices group = read_indices(op.group);
  Indices ids(op.ids.shape, -1);
  Reals gates(op.gates.shape);
  // The sum by which experts are chosen is rounded as it is stored.
  Reals keys = scores;
  const Reals bias = op.bias ? read(op.bias) : Reals(Shape{scores.size(1)});
  for (int64_t t = 0; t < scores.size(0) && op.bias; ++t) {
    for (int64_t e = 0; e < scores.size(1); ++e) {
      const double sum = scores(t, e) + bias(e);
      keys(t, e) = op.scores.dtype == DType::f32 ? static_cast<double>(static_cast<float>(sum)) : sum;
    }
  }
  for (int64_t t = 0; t < scores.size(0); ++t) {
    if (group(t) < 0) continue;
    std::vector<int64_t> order(static_cast<size_t>(scores.size(1)));
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return keys(t, a) > keys(t, b); });
    double sum = kNormalizeEps;
    for (int64_t k = 0; k < ids.size(1); ++k) {
      ids(t, k) = order[static_cast<size_t>(op.skip + k)];
      gates(t, k) = scores(t, ids(t, k));
      sum += gates(t, k);
    }
    for (int64_t k = 0; k < ids.size(1) && op.normalize; ++k) gates(t, k) /= sum;
  }
  write(op.ids, ids);
  write(op.gates, gates);
}

void compute(const RoutePlan& op) {
  const Indices ids = read_indices(op.ids);
  Indices offsets(op.offsets.shape), row_slot(op.row_slot.shape, -1), row_token(op.row_token.shape, 0);
  Indices slot_row(op.slot_row.shape, -1);
  int64_t row = 0;
  for (int64_t e = 0; e + 1 < offsets.size(0); ++e) {
    for (int64_t t = 0; t < ids.size(0); ++t) {
      for (int64_t k = 0; k < ids.size(1); ++k) {
        if (ids(t, k) != e) continue;
        row_slot(row) = t * ids.size(1) + k;
        row_token(row) = t;
        slot_row(t, k) = row++;
      }
    }
    offsets(e + 1) = row;
  }
  write(op.offsets, offsets);
  write(op.row_slot, row_slot);
  write(op.row_token, row_token);
  write(op.slot_row, slot_row);
}

void compute(const RowsCombine& op) {
  const Reals rows = read(op.rows), residual = read(op.residual);
  const Indices slot_row = read_indices(op.slot_row);
  Reals y = op.accumulate ? read(op.y) : Reals(op.y.shape);
  for (int64_t t = 0; t < y.size(0); ++t) {
    for (int64_t d = 0; d < y.size(1); ++d) {
      if (op.residual) y(t, d) += residual(t, d);
      for (int64_t k = 0; k < slot_row.size(1); ++k) {
        if (slot_row(t, k) >= 0) y(t, d) += rows(slot_row(t, k), d);
      }
    }
  }
  write(op.y, y);
}

void compute(const RouterCounts& op) {
  const Indices ids = read_indices(op.ids), group = read_indices(op.group);
  Indices counts = read_indices(op.counts);
  for (int64_t t = 0; t < ids.size(0); ++t) {
    for (int64_t k = 0; k < ids.size(1); ++k) {
      if (group(t) >= 0 && ids(t, k) >= 0) ++counts(group(t), ids(t, k));
    }
  }
  write(op.counts, counts);
}

void compute(const BalanceCoefficients& op) {
  const Indices counts = read_indices(op.counts), group_tokens = read_indices(op.group_tokens);
  const double inv_tokens = read(op.inv_tokens)(0);
  Reals coefficients = op.accumulate ? read(op.coefficients) : Reals(op.coefficients.shape);
  const int64_t experts = counts.size(1), device_experts = experts / op.devices;
  for (int64_t g = 0; g < counts.size(0); ++g) {
    if (group_tokens(g) == 0) continue;
    const double per_count = static_cast<double>(experts) / static_cast<double>(op.top_k * group_tokens(g));
    for (int64_t i = 0; i < experts; ++i) {
      const int64_t first = i / device_experts * device_experts;
      double mean_f = 0;
      for (int64_t j = first; j < first + device_experts; ++j) {
        mean_f += per_count * static_cast<double>(counts(g, j)) / static_cast<double>(device_experts);
      }
      coefficients(g, i) += static_cast<double>(op.alpha) * inv_tokens * mean_f;
    }
  }
  write(op.coefficients, coefficients);
}

void compute(const BalanceLoss& op) {
  const Reals scores = read(op.scores), coefficients = read(op.coefficients);
  const Indices group = read_indices(op.group);
  Reals loss = read(op.loss);
  for (int64_t t = 0; t < scores.size(0); ++t) {
    if (group(t) < 0) continue;
    for (int64_t i = 0; i < scores.size(1); ++i) loss(0) += coefficients(group(t), i) * scores(t, i);
  }
  write(op.loss, loss);
}

void compute(const RouterBackward& op) {
  const Reals scores = read(op.scores), d_gates = read(op.d_gates), coefficients = read(op.coefficients);
  const Indices ids = read_indices(op.ids), group = read_indices(op.group);
  Reals d_logits(op.d_logits.shape);
  const int64_t experts = scores.size(1), top_k = ids.size(1);
  for (int64_t t = 0; t < scores.size(0); ++t) {
    if (group(t) < 0) continue;
    std::vector<double> d_scores(static_cast<size_t>(experts));
    if (op.coefficients) {
      for (int64_t i = 0; i < experts; ++i) d_scores[static_cast<size_t>(i)] = coefficients(group(t), i);
    }
    double sum = kNormalizeEps, weighted = 0;  // gate_k = score_k / sum; weighted = sum of d_gate_k score_k
    for (int64_t k = 0; k < top_k; ++k) {
      sum += scores(t, ids(t, k));
      weighted += d_gates(t, k) * scores(t, ids(t, k));
    }
    for (int64_t k = 0; k < top_k; ++k) {
      const double d_score = op.normalize ? d_gates(t, k) / sum - weighted / (sum * sum) : d_gates(t, k);
      d_scores[static_cast<size_t>(ids(t, k))] += d_score;
    }
    double mean = 0;
    for (int64_t i = 0; i < experts; ++i) mean += scores(t, i) * d_scores[static_cast<size_t>(i)];
    for (int64_t i = 0; i < experts; ++i) {
      d_logits(t, i) = scores(t, i) * (d_scores[static_cast<size_t>(i)] - mean);
    }
  }
  write(op.d_logits, d_logits);
}

}  // namespace moe::oracle
