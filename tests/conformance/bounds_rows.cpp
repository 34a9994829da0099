#include <algorithm>

#include "tests/conformance/magnitudes.h"

namespace moe::conformance {
namespace {

using oracle::read;
using oracle::read_indices;

/// The relative error of exp(z) or of a sigmoid: its condition number times that of z, and the function's own.
double exp_error(double z) { return (8 + 2 * std::abs(z)) * kU; }

double sigmoid(double z) { return 1 / (1 + std::exp(-z)); }

}  // namespace

Bounds bounds(const Reference<RmsNorm>& run) {
  const Reals x = read(run.before.x), residual = read(run.before.residual), gain = read(run.before.gain);
  const Reals sum = run.given.sum ? read(run.after.sum) : x, inv_rms = read(run.after.inv_rms);
  const double kept = run.given.sum ? unit(run.given.sum.dtype) : 0;  // the rounding of the sum that is normalised
  const double statistics = kept + (growth(x.size(1)) / 2 + 4) * kU;
  Reals sum_bound(sum.shape()), y_bound(sum.shape()), inv_bound(inv_rms.shape());
  for (int64_t t = 0; t < x.size(0); ++t) {
    inv_bound(t) = statistics * inv_rms(t);
    for (int64_t d = 0; d < x.size(1); ++d) {
      if (run.given.sum) sum_bound(t, d) = kU * (std::abs(x(t, d)) + std::abs(residual(t, d)));
      const double normalised = std::abs(sum(t, d)) * (statistics + kept + unit(run.given.y.dtype) + 4 * kU);
      y_bound(t, d) = std::abs(gain(d)) * inv_rms(t) * (normalised + sum_bound(t, d));
    }
  }
  Bounds result{{"y", y_bound}, {"inv_rms", inv_bound}};
  if (run.given.sum) result.emplace("sum", sum_bound);
  return result;
}

Bounds bounds(const Reference<RmsNormBackward>& run) {
  const Reals dy = read(run.before.dy), x = read(run.before.x), gain = read(run.before.gain);
  const Reals inv_rms = read(run.before.inv_rms);
  Reals dx = read(run.before.dx), dgain = read(run.before.dgain);
  const int64_t rows = x.size(0), width = x.size(1);
  for (double& value : dx.values()) value = 2 * kU * std::abs(value);
  for (double& value : dgain.values()) value = growth(rows + 1) * kU * std::abs(value);
  for (int64_t t = 0; t < rows; ++t) {
    double mean = 0;
    for (int64_t d = 0; d < width; ++d) {
      mean += std::abs(x(t, d) * inv_rms(t) * gain(d) * dy(t, d)) / static_cast<double>(width);
    }
    for (int64_t d = 0; d < width; ++d) {
      const double n = std::abs(x(t, d) * inv_rms(t));
      dx(t, d) += kU * inv_rms(t) * (6 * std::abs(gain(d) * dy(t, d)) + (growth(width) + 8) * n * mean);
      dgain(d) += (growth(rows + 1) + 2) * kU * std::abs(dy(t, d)) * n;
    }
  }
  return {{"dx", dx}, {"dgain", dgain}};
}

Bounds bounds(const Reference<SwiGlu>& run) {
  const Reals gate_up = read(run.before.gate_up), y = read(run.after.y);
  Reals result(y.shape());
  for (int64_t t = 0; t < y.size(0); ++t) {
    for (int64_t f = 0; f < y.size(1); ++f) result(t, f) = std::abs(y(t, f)) * exp_error(gate_up(t, f));
  }
  return {{"y", result}};
}

Bounds bounds(const Reference<SwiGluBackward>& run) {
  const Reals gate_up = read(run.before.gate_up), dy = read(run.before.dy), scale = read(run.before.scale);
  const Indices index = read_indices(run.before.scale_index);
  const int64_t width = dy.size(1);
  const int64_t rows = run.before.row_count ? read_indices(run.before.row_count)(0) : dy.size(0);
  Reals d_gate_up(gate_up.shape()), y(dy.shape()), d_scale(scale.shape());
  for (int64_t t = 0; t < std::min(rows, dy.size(0)); ++t) {
    const double s = run.given.scale ? std::abs(scale(index(t))) : 1;
    double row_sum = 0;
    for (int64_t f = 0; f < width; ++f) {
      const double z = gate_up(t, f), up = std::abs(gate_up(t, width + f)), gradient = std::abs(dy(t, f));
      const double silu = std::abs(z) * sigmoid(z), error = exp_error(z);
      const double derivative = sigmoid(z) * (1 + std::abs(z) * sigmoid(-z));  // of terms that may cancel
      d_gate_up(t, f) = s * gradient * up * (derivative * error + sigmoid(z) * std::abs(z) * kU);
      d_gate_up(t, width + f) = s * gradient * silu * error;
      y(t, f) = s * silu * up * error;
      row_sum += gradient * silu * up * (error + growth(width) * kU);
    }
    if (run.given.scale) d_scale(index(t)) = row_sum;
  }
  Bounds result{{"d_gate_up", d_gate_up}};
  if (run.given.y) result.emplace("y", y);
  if (run.given.scale) result.emplace("d_scale", d_scale);
  return result;
}

Bounds bounds(const Reference<RopeTable>& run) {
  const Indices positions = read_indices(run.before.positions);
  Reals table(run.after.table.shape);
  for (int64_t t = 0; t < table.size(0); ++t) {
    // No angle is larger than the position; pow, product and reduction each cost a few units of double precision.
    for (int64_t j = 0; j < table.size(1); ++j) table(t, j) = 8 * 0x1p-53 * (1 + std::abs(double(positions(t))));
  }
  return {{"table", table}};
}

Bounds bounds(const Reference<Rope>& run) {
  const Reals x = read(run.before.x), table = read(run.before.table);
  Reals result(x.shape());
  const int64_t half = table.size(1) / 2;
  for (int64_t t = 0; t < x.size(0); ++t) {
    for (int64_t head = 0; head < x.size(1); head += 2 * half) {
      for (int64_t j = 0; j < half; ++j) {
        const double x1 = std::abs(x(t, head + j)), x2 = std::abs(x(t, head + half + j));
        const double cosine = std::abs(table(t, j)), sine = std::abs(table(t, half + j));
        result(t, head + j) = 2 * kU * (x1 * cosine + x2 * sine);
        result(t, head + half + j) = 2 * kU * (x2 * cosine + x1 * sine);
      }
    }
  }
  return {{"x", result}};
}

Bounds bounds(const Reference<Add>& run) { return {{"y", scaled(sum_of_magnitudes(run.before, &Add::y), kU)}}; }

}  // namespace moe::conformance
