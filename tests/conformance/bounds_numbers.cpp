#include "tests/conformance/magnitudes.h"

namespace moe::conformance {

using oracle::read;

Bounds bounds(const Reference<Fill>& run) {
  (void)run;
  return {};
}

Bounds bounds(const Reference<Cast>& run) {
  (void)run;
  return {};
}

Bounds bounds(const Reference<SumSquares>& run) {
  return {{"sum", scaled(read(run.after.sum), growth(run.given.x.elements() + 1) * unit(DType::f64))}};
}

Bounds bounds(const Reference<ClipScale>& run) {
  return {{"norm", scaled(read(run.after.norm), 2 * kU)}, {"scale", scaled(read(run.after.scale), 4 * kU)}};
}

Bounds bounds(const Reference<Blend>& run) {
  const Blend& op = run.given;
  const double scale = run.before.x_scale ? read(run.before.x_scale)(0) : 1;
  if (!std::isfinite(scale) || (op.guard && !std::isfinite(read(run.before.guard)(0)))) return {};
  const Reals x = read(run.before.x);
  Reals bound = read(run.before.y);
  for (int64_t i = 0; i < bound.shape().elements(); ++i) {
    const double terms = std::abs(static_cast<double>(op.y_factor) * bound(i)) +
                         std::abs(static_cast<double>(op.x_factor) * scale * x(i));
    bound(i) = 4 * kU * terms;
  }
  return {{"y", bound}};
}

// The factor and the product are rounded once each; the norm's own error is one of f64.
Bounds bounds(const Reference<UnitMatrices>& run) {
  Reals bound = read(run.after.y);
  for (double& value : bound.values()) value = 3 * kU * std::abs(value);
  return {{"y", bound}};
}

Bounds bounds(const Reference<AdamW>& run) {
  const AdamW& op = run.given;
  if (!std::isfinite(read(run.before.gradient_scale)(0))) return {};  // everything keeps its bits
  const View& kept = op.master ? run.before.master : run.before.param;
  const Reals param = read(kept), gradient = read(run.before.gradient);
  const Reals exp_avg = read(run.before.exp_avg), exp_avg_sq = read(run.before.exp_avg_sq);
  const double gradient_scale = read(run.before.gradient_scale)(0);
  const double b1 = op.beta1, b2 = op.beta2, step = static_cast<double>(op.step);
  Reals moved(param.shape()), avg(exp_avg.shape()), avg_sq(exp_avg_sq.shape());
  for (int64_t i = 0; i < gradient.shape().elements(); ++i) {
    const double g = std::abs(gradient_scale * gradient(i));
    const double mean = b1 * std::abs(exp_avg(i)) + (1 - b1) * g;  // of magnitudes: the two terms may cancel
    const double square = b2 * exp_avg_sq(i) + (1 - b2) * g * g;
    avg(i) = 4 * kU * mean;
    avg_sq(i) = 6 * kU * square;
    const double denominator = std::sqrt(square / (1 - std::pow(b2, step))) + static_cast<double>(op.eps);
    const double update = op.learning_rate * mean / (1 - std::pow(b1, step)) / denominator;
    moved(i) = 16 * kU * update + 4 * kU * std::abs(param(i));
  }
  Bounds result{{"param", moved}, {"exp_avg", avg}, {"exp_avg_sq", avg_sq}};
  if (op.master) result.emplace("master", moved);
  return result;
}

}  // namespace moe::conformance
