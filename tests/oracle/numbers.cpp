#include <algorithm>
#include <cmath>

#include "tests/oracle/array.h"
#include "tests/oracle/naive.h"

namespace moe::oracle {

void compute(const Fill& op) { write(op.x, Reals(op.x.shape, op.value)); }

void compute(const Cast& op) { write(op.y, read(op.x)); }

void compute(const SumSquares& op) {
  const Reals x = read(op.x);
  Reals sum = read(op.sum);
  for (const double value : x.values()) sum(0) += value * value;
  write(op.sum, sum);
}

void compute(const ClipScale& op) {
  const double norm = std::sqrt(read(op.sum_squares)(0));
  const double max_norm = static_cast<double>(op.max_norm);
  const double clipped = max_norm == 0 ? 1 : std::min(1.0, max_norm / (norm + 1e-6));
  write(op.norm, Reals(op.norm.shape, norm));
  write(op.scale, Reals(op.scale.shape, std::isfinite(static_cast<float>(norm)) ? clipped : NAN));
}

void compute(const Blend& op) {
  const double scale = op.x_scale ? read(op.x_scale)(0) : 1;
  if (!std::isfinite(scale) || (op.guard && !std::isfinite(read(op.guard)(0)))) return;
  const Reals x = read(op.x);
  Reals y = read(op.y);
  for (int64_t i = 0; i < op.y.elements(); ++i) {
    y(i) = static_cast<double>(op.y_factor) * y(i) + static_cast<double>(op.x_factor) * scale * x(i);
  }
  write(op.y, y);
}

void compute(const UnitMatrices& op) {
  const Reals x = read(op.x);
  Reals y = x;
  const int64_t count = op.x.size(1) * op.x.size(2);
  for (int64_t m = 0; m < op.x.size(0); ++m) {
    double squares = 0;
    for (int64_t i = 0; i < count; ++i) squares += x(m * count + i) * x(m * count + i);
    const double norm = std::max(std::sqrt(squares), static_cast<double>(op.eps));
    for (int64_t i = 0; i < count; ++i) y(m * count + i) = x(m * count + i) / norm;
  }
  write(op.y, y);
}

void compute(const AdamW& op) {
  const View& kept = op.master ? op.master : op.param;
  const Reals gradient = read(op.gradient);
  const double gradient_scale = read(op.gradient_scale)(0);
  if (!std::isfinite(gradient_scale)) return;
  const double rate = static_cast<double>(op.learning_rate), decay = static_cast<double>(op.weight_decay);
  const double b1 = static_cast<double>(op.beta1), b2 = static_cast<double>(op.beta2);
  const double step = static_cast<double>(op.step);
  Reals param = read(kept), exp_avg = read(op.exp_avg), exp_avg_sq = read(op.exp_avg_sq);
  for (int64_t i = 0; i < op.param.elements(); ++i) {
    const double g = gradient_scale * gradient(i);
    exp_avg(i) = b1 * exp_avg(i) + (1 - b1) * g;
    exp_avg_sq(i) = b2 * exp_avg_sq(i) + (1 - b2) * g * g;
    const double mean = exp_avg(i) / (1 - std::pow(b1, step));
    const double mean_square = exp_avg_sq(i) / (1 - std::pow(b2, step));
    param(i) = param(i) * (1 - rate * decay) - rate * mean / (std::sqrt(mean_square) + static_cast<double>(op.eps));
  }
  write(op.exp_avg, exp_avg);
  write(op.exp_avg_sq, exp_avg_sq);
  write(kept, param);
  if (op.master) write(op.param, param);
}

}  // namespace moe::oracle
