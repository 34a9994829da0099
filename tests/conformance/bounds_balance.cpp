#include <algorithm>

#include "tests/conformance/magnitudes.h"

namespace moe::conformance {

using oracle::read;
using oracle::read_indices;

Bounds bounds(const Reference<RouterCounts>& run) {
  (void)run;
  return {};
}

Bounds bounds(const Reference<BalanceCoefficients>& run) {
  BalanceCoefficients positive = run.before;
  positive.offset = -positive.offset;
  const Reals terms = sum_of_magnitudes(positive, &BalanceCoefficients::coefficients);
  return {{"coefficients", scaled(terms, 8 * kU)}};
}

Bounds bounds(const Reference<BalanceLoss>& run) {
  const double factor = growth(run.given.scores.elements() + 1) * kU;
  return {{"loss", scaled(sum_of_magnitudes(run.before, &BalanceLoss::loss), factor)}};
}

Bounds bounds(const Reference<GateLoss>& run) {
  const double factor = growth(run.given.gates.elements() + 1) * kU;
  return {{"loss", scaled(sum_of_magnitudes(run.before, &GateLoss::loss), factor)}};
}

Bounds bounds(const Reference<RouterZLoss>& run) {
  const double factor = growth(run.given.log_sum.elements() + 1) * kU;
  return {{"loss", scaled(sum_of_magnitudes(run.before, &RouterZLoss::loss), factor)}};
}

/// Summed in double or in steps of 2^-32, rounded once.
Bounds bounds(const Reference<ExpertSums>& run) {
  Reals sums = read(run.after.sums);
  const double steps = static_cast<double>(run.given.values.elements()) * 0x1p-33;
  for (double& sum : sums.values()) sum = sum * kU + steps;
  return {{"sums", sums}};
}

/// CV^2 = E sum s^2 / (sum s)^2 - 1 cancels where sums are nearly equal, in double.
Bounds bounds(const Reference<VariationLoss>& run) {
  Reals coefficients(run.given.sums.shape);
  const Reals sums = read(run.before.sums);
  const Indices tokens = read_indices(run.before.group_tokens);
  double loss = run.given.loss ? std::abs(read(run.before.loss)(0)) + std::abs(read(run.after.loss)(0)) : 0;
  for (int64_t g = 0; g < sums.size(0); ++g) {
    double total = 0;
    for (int64_t e = 0; e < sums.size(1); ++e) total += sums(g, e);
    const double weight =
        static_cast<double>(run.given.weight) * static_cast<double>(tokens(g)) * read(run.before.inv_tokens)(0);
    for (int64_t e = 0; e < sums.size(1) && total > 0; ++e) {
      const double slope = 4 * weight * static_cast<double>(sums.size(1)) / total;  // each of the two terms at most
      coefficients(g, e) =
          (run.given.coefficients ? std::abs(read(run.after.coefficients)(g, e)) : 0) * 2 * kU + slope * 0x1p-48;
    }
    loss += weight * 0x1p-20;
  }
  return {{"coefficients", coefficients}, {"loss", Reals(Shape{1}, 4 * kU * loss)}};
}

Bounds bounds(const Reference<BiasUpdate>& run) {
  Reals bias = read(run.after.bias);
  for (double& value : bias.values()) value = (std::abs(value) + 1e-3) * kU;
  return {{"bias", bias}};
}

}  // namespace moe::conformance
