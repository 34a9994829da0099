#include <algorithm>

#include "tests/conformance/magnitudes.h"

namespace moe::conformance {

using oracle::read;
using oracle::read_indices;

Bounds bounds(const Reference<Embed>& run) {
  (void)run;
  return {};
}

Bounds bounds(const Reference<EmbedBackward>& run) {
  const double factor = growth(run.given.tokens.size(0)) * kU;
  return {{"d_table", scaled(sum_of_magnitudes(run.before, &EmbedBackward::d_table), factor)}};
}

Bounds bounds(const Reference<CrossEntropy>& run) {
  const Reals logits = read(run.before.logits);
  const Indices targets = read_indices(run.before.targets);
  const double scale = run.given.gradient_scale ? std::abs(read(run.before.gradient_scale)(0)) : 0;
  Reals gradient(logits.shape()), row_loss(run.after.row_loss.shape);
  const Reals weights = run.given.weights ? read(run.before.weights) : row_loss;
  const int64_t vocabulary = logits.size(1);
  for (int64_t t = 0; t < logits.size(0); ++t) {
    if (targets(t) < 0) continue;
    double largest = logits(t, 0), sum = 0;
    for (int64_t v = 0; v < vocabulary; ++v) largest = std::max(largest, logits(t, v));
    for (int64_t v = 0; v < vocabulary; ++v) sum += std::exp(logits(t, v) - largest);
    const double log_sum = largest + std::log(sum);
    const double lse_error = (growth(vocabulary) + 8 + 2 * std::abs(largest) + 2 * std::abs(log_sum)) * kU;
    const double weight = run.given.weights ? std::abs(weights(t)) : 1;
    const double rounding = run.given.weights ? kU : 0;  // of the product with the weight
    row_loss(t) = weight * (lse_error + (kU + rounding) * (std::abs(log_sum) + std::abs(logits(t, targets(t)))));
    for (int64_t v = 0; v < vocabulary && run.given.gradient_scale; ++v) {
      const double p = std::exp(logits(t, v) - log_sum);
      if (p == 0) continue;
      const double p_error = p * (lse_error + (8 + 2 * std::abs(logits(t, v)) + 2 * std::abs(log_sum)) * kU);
      gradient(t, v) = scale * weight * (p_error + (2 * kU + rounding) * (p + (v == targets(t) ? 1 : 0)));
    }
  }
  Bounds result{{"row_loss", row_loss}};
  if (run.given.gradient_scale) result.emplace("d_logits", gradient);
  return result;
}

}  // namespace moe::conformance
