#include <algorithm>

#include "tests/conformance/magnitudes.h"

namespace moe::conformance {

using oracle::read;
using oracle::read_indices;

Bounds bounds(const Reference<RouterScores>& run) {
  const Reals x = read(run.before.x), weight = read(run.before.weight), scores = read(run.after.scores);
  Reals result(scores.shape()), log_sums(run.after.log_sum.shape);
  for (int64_t t = 0; t < x.size(0); ++t) {
    double logit_error = 0;
    for (int64_t e = 0; e < weight.size(0); ++e) {
      double logit = 0, magnitude = 0;
      for (int64_t d = 0; d < x.size(1); ++d) {
        logit += x(t, d) * weight(e, d);
        magnitude += std::abs(x(t, d) * weight(e, d));
      }
      logit_error = std::max(logit_error, (growth(x.size(1)) * magnitude + 4 * std::abs(logit)) * kU);
    }
    if (run.given.log_sum) {
      const double log_sum = read(run.after.log_sum)(t);
      log_sums(t) = logit_error + (growth(weight.size(0)) + 8 + 4 * std::abs(log_sum)) * kU;
    }
    for (int64_t e = 0; e < weight.size(0); ++e) {
      result(t, e) = scores(t, e) * (2 * logit_error + (growth(weight.size(0)) + 8) * kU);
      if (run.given.scoring == Scoring::none) result(t, e) = logit_error;
    }
  }
  return {{"scores", result}, {"log_sum", log_sums}};
}

Bounds bounds(const Reference<RouterTopk>& run) {
  (void)run;
  return {};
}

Bounds bounds(const Reference<RouterGates>& run) {
  Reals gates = read(run.after.gates);
  if (run.given.form == GateForm::one || (run.given.form == GateForm::score && run.given.scale == 1)) return {};
  // An exponential's argument is a difference of scores, which are exact.
  const double exponential = run.given.form == GateForm::softmax ? 24 : 0;
  const double factor = (static_cast<double>(run.given.ids.size(1)) + 4 + 2 * exponential) * kU;
  for (double& gate : gates.values()) gate = std::abs(gate) * factor;
  return {{"gates", gates}};
}

Bounds bounds(const Reference<RoutePlan>& run) {
  (void)run;
  return {};
}

Bounds bounds(const Reference<RowsCombine>& run) {
  const double factor = (static_cast<double>(run.given.slot_row.size(1)) + 1) * kU;
  return {{"y", scaled(sum_of_magnitudes(run.before, &RowsCombine::y), factor)}};
}

Bounds bounds(const Reference<RowsGather>& run) {
  (void)run;
  return {};
}

Bounds bounds(const Reference<RouterBackward>& run) {
  const Reals scores = read(run.before.scores), d_gates = read(run.before.d_gates);
  const Reals coefficients = read(run.before.coefficients), by_gate = read(run.before.gate_coefficients);
  const Indices ids = read_indices(run.before.ids), group = read_indices(run.before.group);
  const Indices kept = run.given.kept ? read_indices(run.before.kept) : ids;
  Reals result(scores.shape());
  const int64_t experts = scores.size(1), top_k = ids.size(1);
  const bool softmax = run.given.form == GateForm::softmax, divided = softmax || run.given.form == GateForm::normalized;
  const double scale = static_cast<double>(run.given.scale);
  for (int64_t t = 0; t < scores.size(0); ++t) {
    if (group(t) < 0) continue;
    std::vector<double> d_scores(static_cast<size_t>(experts));  // sums of magnitudes
    double largest = -INFINITY, sum = softmax ? 0 : 1e-20, weighted = 0, mean = 0;
    for (int64_t k = 0; k < top_k; ++k) largest = std::max(largest, scores(t, ids(t, k)));
    const auto weight = [&](int64_t k) {
      return softmax ? std::exp(scores(t, ids(t, k)) - largest) : scores(t, ids(t, k));
    };
    const auto magnitude = [&](int64_t k) {
      return (kept(t, k) < 0 ? 0 : std::abs(d_gates(t, k))) +
             (run.given.gate_coefficients ? std::abs(by_gate(group(t), ids(t, k))) : 0);
    };
    for (int64_t k = 0; k < top_k; ++k) {
      sum += weight(k);
      weighted += magnitude(k) * weight(k);
    }
    for (int64_t k = 0; k < top_k && run.given.form != GateForm::one; ++k) {
      const double by_weight = divided ? magnitude(k) / sum + weighted / (sum * sum) : magnitude(k);
      d_scores[static_cast<size_t>(ids(t, k))] = scale * by_weight * (softmax ? weight(k) : 1);
    }
    double score_sum = 0, balance_mean = 0;
    for (int64_t i = 0; i < experts && run.given.coefficients; ++i) {
      score_sum += scores(t, i);
      balance_mean += std::abs(coefficients(group(t), i)) * scores(t, i);
    }
    for (int64_t i = 0; i < experts; ++i) {
      double& d = d_scores[static_cast<size_t>(i)];
      const bool normalized = run.given.balance_normalized;
      if (run.given.coefficients) {
        const double own = std::abs(coefficients(group(t), i));
        d += normalized ? own / score_sum + balance_mean / (score_sum * score_sum) : own;
      }
      mean += scores(t, i) * d;
    }
    const double z = run.given.log_sum ? 2 * static_cast<double>(run.given.z_loss) * read(run.before.inv_tokens)(0) *
                                             std::abs(read(run.before.log_sum)(t))
                                       : 0;
    const double factor = (2 * growth(experts) + 4 * static_cast<double>(top_k) + (softmax ? 60 : 16)) * kU;
    for (int64_t i = 0; i < experts; ++i) {
      const double score = scores(t, i), d = d_scores[static_cast<size_t>(i)];
      const double total = run.given.scoring == Scoring::softmax   ? score * (d + mean + z)
                           : run.given.scoring == Scoring::sigmoid ? score * d
                                                                   : d;
      result(t, i) = factor * total;
    }
  }
  return {{"d_logits", result}};
}

}  // namespace moe::conformance
