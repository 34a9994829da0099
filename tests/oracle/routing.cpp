#include <algorithm>
#include <cmath>
#include <numeric>

#include "tests/oracle/array.h"
#include "tests/oracle/naive.h"

namespace moe::oracle {
namespace {

constexpr double kNormalizeEps = 1e-20;

// Scores that are not numbers come last, beside minus infinity.
double rank(double score) { return std::isnan(score) ? -INFINITY : score; }

}  // namespace

void compute(const RouterScores& op) {
  const Reals x = read(op.x), weight = read(op.weight);
  Reals scores(op.scores.shape), log_sums(op.log_sum.shape);
  const int64_t experts = weight.size(0);
  for (int64_t t = 0; t < x.size(0); ++t) {
    double largest = -INFINITY, sum = 0;
    for (int64_t e = 0; e < experts; ++e) {
      for (int64_t d = 0; d < x.size(1); ++d) scores(t, e) += x(t, d) * weight(e, d);
      largest = std::max(largest, scores(t, e));
    }
    if (op.scoring == Scoring::none) continue;
    for (int64_t e = 0; e < experts; ++e) sum += std::exp(scores(t, e) - largest);
    if (op.log_sum) log_sums(t) = largest + std::log(sum);
    for (int64_t e = 0; e < experts; ++e) {
      const double logit = scores(t, e);
      scores(t, e) = op.scoring == Scoring::softmax ? std::exp(logit - largest) / sum : 1 / (1 + std::exp(-logit));
    }
  }
  write(op.scores, scores);
  if (op.log_sum) write(op.log_sum, log_sums);
}

void compute(const RouterTopk& op) {
  const Indices group = read_indices(op.group);
  Indices ids(op.ids.shape, -1);
  Reals keys = read(op.scores);
  // Sums by which experts and groups are chosen are rounded as they are stored.
  const auto rounded = [&](double value) { return round_to(op.scores.dtype, value); };
  const Reals bias = op.bias ? read(op.bias) : Reals(Shape{keys.size(1)});
  const int64_t experts = keys.size(1), members = experts / op.limit.groups;
  for (int64_t t = 0; t < keys.size(0); ++t) {
    if (group(t) < 0) continue;
    for (int64_t e = 0; e < experts; ++e) keys(t, e) = rank(op.bias ? rounded(keys(t, e) + bias(e)) : keys(t, e));
    std::vector<double> group_scores;
    for (int64_t g = 0; g < op.limit.groups; ++g) {
      std::vector<double> values;
      for (int64_t e = g * members; e < (g + 1) * members; ++e) values.push_back(keys(t, e));
      std::sort(values.rbegin(), values.rend());
      double sum = 0;
      for (int64_t i = 0; i < op.limit.best; ++i) sum = rounded(sum + values[static_cast<size_t>(i)]);
      group_scores.push_back(rank(sum));
    }
    const auto in_used_group = [&](int64_t e) {
      const double own = group_scores[static_cast<size_t>(e / members)];
      int64_t before = 0;
      for (int64_t g = 0; g < op.limit.groups; ++g) {
        const double other = group_scores[static_cast<size_t>(g)];
        before += other > own || (other == own && g < e / members) ? 1 : 0;
      }
      return before < op.limit.used;
    };
    std::vector<int64_t> order(static_cast<size_t>(experts));
    std::iota(order.begin(), order.end(), 0);
    for (int64_t e = 0; e < experts; ++e) {
      if (!in_used_group(e)) keys(t, e) = -INFINITY;
    }
    std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return keys(t, a) > keys(t, b); });
    for (int64_t k = 0; k < ids.size(1); ++k) {
      ids(t, k) = op.even ? (t * ids.size(1) + k) % experts : order[static_cast<size_t>(op.skip + k)];
    }
  }
  write(op.ids, ids);
}

void compute(const RouterGates& op) {
  const Reals scores = read(op.scores);
  const Indices ids = read_indices(op.ids);
  Reals gates(op.gates.shape);
  for (int64_t t = 0; t < ids.size(0); ++t) {
    double largest = -INFINITY, sum = op.form == GateForm::normalized ? kNormalizeEps : 0;
    for (int64_t k = 0; k < ids.size(1); ++k) {
      if (ids(t, k) >= 0 && op.scores) largest = std::max(largest, scores(t, ids(t, k)));
    }
    for (int64_t k = 0; k < ids.size(1); ++k) {
      if (ids(t, k) < 0) continue;
      gates(t, k) = op.form == GateForm::one ? 1 : scores(t, ids(t, k));
      if (op.form == GateForm::softmax) gates(t, k) = std::exp(gates(t, k) - largest);
      sum += gates(t, k);
    }
    for (int64_t k = 0; k < ids.size(1); ++k) {
      if (ids(t, k) < 0) continue;
      if (op.form == GateForm::normalized || op.form == GateForm::softmax) gates(t, k) /= sum;
      gates(t, k) *= static_cast<double>(op.scale);
    }
  }
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
        if (ids(t, k) != op.first + e) continue;
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

void compute(const RowsGather& op) {
  const Reals x = read(op.x);
  const Indices slot_row = read_indices(op.slot_row);
  Reals rows = read(op.rows);
  for (int64_t t = 0; t < x.size(0); ++t) {
    for (int64_t k = 0; k < slot_row.size(1); ++k) {
      for (int64_t d = 0; d < x.size(1) && slot_row(t, k) >= 0; ++d) rows(slot_row(t, k), d) = x(t, d);
    }
  }
  write(op.rows, rows);
}

void compute(const RouterBackward& op) {
  const Reals scores = read(op.scores), d_gates = read(op.d_gates), coefficients = read(op.coefficients);
  const Reals gate_coefficients = read(op.gate_coefficients), log_sum = read(op.log_sum),
              inv_tokens = read(op.inv_tokens);
  const Indices ids = read_indices(op.ids), group = read_indices(op.group);
  const Indices kept = op.kept ? read_indices(op.kept) : ids;
  Reals d_logits(op.d_logits.shape);
  const int64_t experts = scores.size(1), top_k = ids.size(1);
  const double scale = static_cast<double>(op.scale);
  for (int64_t t = 0; t < scores.size(0); ++t) {
    if (group(t) < 0) continue;
    std::vector<double> d_scores(static_cast<size_t>(experts));
    if (op.coefficients) {
      double sum = 0, weighted = 0;
      for (int64_t i = 0; i < experts; ++i) {
        sum += scores(t, i);
        weighted += coefficients(group(t), i) * scores(t, i);
      }
      for (int64_t i = 0; i < experts; ++i) {
        const double c = coefficients(group(t), i);
        d_scores[static_cast<size_t>(i)] = op.balance_normalized ? c / sum - weighted / (sum * sum) : c;
      }
    }
    // gate_k = scale w_k / sum, w the score or its exponential; weighted = sum of d_gate_k w_k
    const bool softmax = op.form == GateForm::softmax, divided = softmax || op.form == GateForm::normalized;
    double largest = -INFINITY, sum = softmax ? 0 : kNormalizeEps, weighted = 0;
    for (int64_t k = 0; k < top_k; ++k) {
      if (ids(t, k) >= 0) largest = std::max(largest, scores(t, ids(t, k)));
    }
    const auto weight = [&](int64_t k) {
      return softmax ? std::exp(scores(t, ids(t, k)) - largest) : scores(t, ids(t, k));
    };
    const auto d_gate = [&](int64_t k) {
      return (kept(t, k) < 0 ? 0 : d_gates(t, k)) + (op.gate_coefficients ? gate_coefficients(group(t), ids(t, k)) : 0);
    };
    for (int64_t k = 0; k < top_k; ++k) {
      if (ids(t, k) < 0) continue;
      sum += weight(k);
      weighted += d_gate(k) * weight(k);
    }
    for (int64_t k = 0; k < top_k; ++k) {
      if (ids(t, k) < 0 || op.form == GateForm::one) continue;
      const double by_weight = divided ? d_gate(k) / sum - weighted / (sum * sum) : d_gate(k);
      d_scores[static_cast<size_t>(ids(t, k))] += scale * by_weight * (softmax ? weight(k) : 1);
    }
    double mean = 0;
    for (int64_t i = 0; i < experts; ++i) mean += scores(t, i) * d_scores[static_cast<size_t>(i)];
    for (int64_t i = 0; i < experts; ++i) {
      const double score = scores(t, i), d = d_scores[static_cast<size_t>(i)];
      d_logits(t, i) = d;
      if (op.scoring == Scoring::softmax) d_logits(t, i) = score * (d - mean);
      if (op.scoring == Scoring::sigmoid) d_logits(t, i) = score * (1 - score) * d;
      if (op.log_sum) d_logits(t, i) += 2 * static_cast<double>(op.z_loss) * inv_tokens(0) * log_sum(t) * score;
    }
  }
  write(op.d_logits, d_logits);
}

}  // namespace moe::oracle
