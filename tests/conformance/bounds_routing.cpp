#include <algorithm>

#include "tests/conformance/magnitudes.h"

namespace moe::conformance {

using oracle::read;
using oracle::read_indices;

Bounds bounds(const Reference<RouterScores>& run) {
  const Reals x = read(run.before.x), weight = read(run.before.weight), scores = read(run.after.scores);
  Reals result(scores.shape());
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
    for (int64_t e = 0; e < weight.size(0); ++e) {
      result(t, e) = scores(t, e) * (2 * logit_error + (growth(weight.size(0)) + 8) * kU);
    }
  }
  return {{"scores", result}};
}

Bounds bounds(const Reference<RouterTopk>& run) {
  if (!run.given.normalize) return {};
  Reals gates = read(run.after.gates);
  const double factor = (static_cast<double>(run.given.ids.size(1)) + 2) * kU;
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

Bounds bounds(const Reference<RouterCounts>& run) {
  (void)run;
  return {};
}

Bounds bounds(const Reference<BalanceCoefficients>& run) {
  const Reals terms = sum_of_magnitudes(run.before, &BalanceCoefficients::coefficients);
  return {{"coefficients", scaled(terms, 8 * kU)}};
}

Bounds bounds(const Reference<BalanceLoss>& run) {
  const double factor = growth(run.given.scores.elements() + 1) * kU;
  return {{"loss", scaled(sum_of_magnitudes(run.before, &BalanceLoss::loss), factor)}};
}

Bounds bounds(const Reference<RouterBackward>& run) {
  const Reals scores = read(run.before.scores), d_gates = read(run.before.d_gates);
  const Reals coefficients = read(run.before.coefficients);
  const Indices ids = read_indices(run.before.ids), group = read_indices(run.before.group);
  Reals result(scores.shape());
  const int64_t experts = scores.size(1), top_k = ids.size(1);
  for (int64_t t = 0; t < scores.size(0); ++t) {
    if (group(t) < 0) continue;
    std::vector<double> d_scores(static_cast<size_t>(experts));  // sums of magnitudes
    double sum = 1e-20, weighted = 0, mean = 0;
    for (int64_t k = 0; k < top_k; ++k) {
      sum += scores(t, ids(t, k));
      weighted += std::abs(d_gates(t, k)) * scores(t, ids(t, k));
    }
    for (int64_t k = 0; k < top_k; ++k) {
      const double gradient = std::abs(d_gates(t, k));
      d_scores[static_cast<size_t>(ids(t, k))] =
          run.given.normalize ? gradient / sum + weighted / (sum * sum) : gradient;
    }
    for (int64_t i = 0; i < experts; ++i) {
      if (run.given.coefficients) d_scores[static_cast<size_t>(i)] += std::abs(coefficients(group(t), i));
      mean += scores(t, i) * d_scores[static_cast<size_t>(i)];
    }
    const double factor = (growth(experts) + 4 * static_cast<double>(top_k) + 8) * kU;
    for (int64_t i = 0; i < experts; ++i) {
      result(t, i) = factor * scores(t, i) * (d_scores[static_cast<size_t>(i)] + mean);
    }
  }
  return {{"d_logits", result}};
}

}  // namespace moe::conformance
