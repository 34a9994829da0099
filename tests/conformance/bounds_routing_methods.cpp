#include <algorithm>

#include "tests/conformance/magnitudes.h"

namespace moe::conformance {

using oracle::read;
using oracle::read_indices;

Bounds bounds(const Reference<RouterDrop>& run) {
  (void)run;
  return {};
}

Bounds bounds(const Reference<RouterJitter>& run) {
  return {{"y", scaled(sum_of_magnitudes(run.before, &RouterJitter::y), 4 * kU)}};
}

Bounds bounds(const Reference<Dropout>& run) {
  return {{"y", scaled(sum_of_magnitudes(run.before, &Dropout::y), 4 * kU)}};
}

/// Computed in double, rounded once.
Bounds bounds(const Reference<RouterNoise>& run) {
  Reals noisy = read(run.after.noisy);
  for (double& value : noisy.values()) value = std::abs(value) * kU + 1e-12;
  return {{"noisy", noisy}};
}

Bounds bounds(const Reference<NoiseLoad>& run) {
  Reals load = read(run.after.load);
  for (double& value : load.values()) value = value * kU + 1e-12;
  return {{"load", load}};
}

/// Computed in double, rounded once: the terms of an element are sums over experts of slopes that are at most of this
/// size.
Bounds bounds(const Reference<NoiseBackward>& run) {
  const auto rounded = [](const View& view) {
    Reals values = read(view);
    for (double& value : values.values()) value = std::abs(value) * kU + 1e-10;
    return values;
  };
  return {{"d_clean", rounded(run.after.d_clean)}, {"d_raw", rounded(run.after.d_raw)}};
}

Bounds bounds(const Reference<TableRoute>& run) {
  (void)run;
  return {};
}

Bounds bounds(const Reference<ExpertChoice>& run) {
  (void)run;
  return {};
}

Bounds bounds(const Reference<Distillation>& run) {
  const double count = static_cast<double>(run.given.scores.size(0));
  Bounds result;
  if (run.given.loss) {
    const double magnitude = std::abs(read(run.before.loss)(0)) + std::abs(read(run.after.loss)(0)) + count * 0.3 / 126;
    result["loss"] = Reals(Shape{1}, 8 * kU * magnitude);
  }
  if (run.given.d_logits) {
    Reals d = read(run.after.d_logits);
    const double weight = static_cast<double>(run.given.weight) * read(run.before.inv_tokens)(0);
    for (double& value : d.values()) value = (std::abs(value) + weight) * 4 * kU;
    result["d_logits"] = d;
  }
  return result;
}

}  // namespace moe::conformance
