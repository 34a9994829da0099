#include "tensor/blocks/k_search.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace moe::blocks {
namespace {

/// The nearest integer in [low, high]; low if x is not a number.
int nearest(float x, int low, int high) {
  if (x >= static_cast<float>(high)) return high;
  return x > static_cast<float>(low) ? static_cast<int>(std::lrint(x)) : low;
}

/// How many codes the ends of the range may lie beyond its own ends. Below 0, numbers outside are cut off.
constexpr float kFirst = -1.5f, kLast = 1.5f, kBetween = 0.125f;

float inverse(float step) { return step == 0 || !std::isfinite(1 / step) ? 0.0f : 1 / step; }

}  // namespace

float line_error(const float* x, int count, int most, Line line, unsigned char* codes) {
  const float scale = inverse(line.step);
  float error = 0;
  for (int i = 0; i < count; ++i) {
    const int q = nearest((x[i] + line.floor) * scale, 0, most);
    const float difference = line.step * static_cast<float>(q) - line.floor - x[i];
    error += difference * difference;
    if (codes != nullptr) codes[i] = static_cast<unsigned char>(q);
  }
  return error;
}

namespace {

/// Least squares for the codes that the numbers take on a line.
Line fitted(const float* x, int count, int most, Line line) {
  const float scale = inverse(line.step);
  double q_sum = 0, q_squares = 0, x_sum = 0, products = 0;
  for (int i = 0; i < count; ++i) {
    const auto q = static_cast<double>(nearest((x[i] + line.floor) * scale, 0, most));
    q_sum += q;
    q_squares += q * q;
    x_sum += static_cast<double>(x[i]);
    products += q * static_cast<double>(x[i]);
  }
  const double determinant = count * q_squares - q_sum * q_sum;
  if (determinant <= 0) return line;
  const double step = (count * products - q_sum * x_sum) / determinant;
  const double floor = (q_sum * products - q_squares * x_sum) / determinant;
  if (floor >= 0 && step >= 0) return {static_cast<float>(step), static_cast<float>(floor)};
  return q_squares > 0 ? Line{static_cast<float>(std::max(0.0, products / q_squares)), 0.0f} : line;
}

}  // namespace

Line find_line(const float* x, int count, int most) {
  const auto [low, high] = std::minmax_element(x, x + count);
  const float floor = std::max(0.0f, -*low), range = std::max(0.0f, *high) + floor;
  if (!(range > 0)) return {};
  Line best;
  float least = std::numeric_limits<float>::infinity();
  for (float extra = kFirst; extra <= kLast; extra += kBetween) {
    Line line{range / (static_cast<float>(most) + extra), floor};
    for (int round = 0; round < 2; ++round) {
      line = fitted(x, count, most, line);
      if (const float error = line_error(x, count, most, line); error < least) least = error, best = line;
    }
  }
  return best;
}

float step_error(const float* x, int count, int most, float step, signed char* codes) {
  const float scale = inverse(step);
  float error = 0;
  for (int i = 0; i < count; ++i) {
    const int q = nearest(x[i] * scale, -most - 1, most);
    const float difference = step * static_cast<float>(q) - x[i];
    error += difference * difference;
    if (codes != nullptr) codes[i] = static_cast<signed char>(q);
  }
  return error;
}

float find_step(const float* x, int count, int most) {
  const float largest = *std::max_element(x, x + count, [](float a, float b) { return std::abs(a) < std::abs(b); });
  float best = 0, least = step_error(x, count, most, 0);
  for (const int side : {-most - 1, most}) {
    for (float extra = kFirst; extra <= kLast; extra += kBetween) {
      const float steps = static_cast<float>(side) + (side < 0 ? -extra : extra);
      float step = largest / steps;
      const float scale = inverse(step);
      double products = 0, squares = 0;
      for (int i = 0; i < count; ++i) {
        const auto q = static_cast<double>(nearest(x[i] * scale, -most - 1, most));
        products += q * static_cast<double>(x[i]);
        squares += q * q;
      }
      if (squares > 0) step = static_cast<float>(products / squares);
      if (const float error = step_error(x, count, most, step); error < least) least = error, best = step;
    }
  }
  return best;
}

}  // namespace moe::blocks
