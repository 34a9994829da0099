#include "tensor/blocks/k_search.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

namespace moe::blocks {
namespace {

/// Numbers that are computed at once: one register of every processor. The sums of different lanes are added at the
/// end, so a result does not depend on the processor. They divide every part of a block.
using Lanes = float __attribute__((vector_size(16)));
constexpr int kLanes = 4;

Lanes all(float x) { return Lanes{x, x, x, x}; }
Lanes load(const float* x) {
  Lanes lanes;
  std::memcpy(&lanes, x, sizeof(lanes));
  return lanes;
}
double sum(Lanes x) {
  return (static_cast<double>(x[0]) + static_cast<double>(x[1])) +
         (static_cast<double>(x[2]) + static_cast<double>(x[3]));
}

/// The nearest integers in [low, high], of two the even one; low where x is not a number.
Lanes nearest(Lanes x, Lanes low, Lanes high) {
  x = x > low ? x : low;
  x = x < high ? x : high;
  const Lanes whole = all(0x1.8p23f);  // at this size floats are whole numbers
  return (x + whole) - whole;
}

/// How many codes the ends of the range may lie beyond its own ends. Below 0, numbers outside are cut off.
constexpr float kFirst = -1.5f, kLast = 1.5f, kBetween = 0.125f;

float inverse(float step) { return step == 0 || !std::isfinite(1 / step) ? 0.0f : 1 / step; }

/// What the codes of a part of a block say: the squared differences to its numbers x, and the sums that a better line
/// follows from. Codes are small, so the sums of q and of q^2 are exact.
struct Fit {
  float error = 0;
  double q = 0, q_squared = 0, qx = 0;
};

template <class Code>
Fit fit_of(const float* x, int count, Lanes low, Lanes high, Line line, Code* codes = nullptr) {
  const Lanes step = all(line.step), floor = all(line.floor), scale = all(inverse(line.step));
  Lanes error = all(0), q_sum = error, q_squares = error, products = error;
  for (int i = 0; i < count; i += kLanes) {
    const Lanes value = load(x + i), q = nearest((value + floor) * scale, low, high);
    const Lanes difference = step * q - floor - value;
    error += difference * difference;
    q_sum += q;
    q_squares += q * q;
    products += q * value;
    if (codes != nullptr) {
      for (int lane = 0; lane < kLanes; ++lane) codes[i + lane] = static_cast<Code>(q[lane]);
    }
  }
  return {static_cast<float>(sum(error)), sum(q_sum), sum(q_squares), sum(products)};
}

Fit fit_line(const float* x, int count, int most, Line line, unsigned char* codes = nullptr) {
  return fit_of(x, count, all(0), all(static_cast<float>(most)), line, codes);
}

Fit fit_step(const float* x, int count, int most, float step, signed char* codes = nullptr) {
  return fit_of(x, count, all(static_cast<float>(-most - 1)), all(static_cast<float>(most)), {step, 0}, codes);
}

/// Least squares for the codes that the numbers took on `line`. `x_sum`: of the numbers.
Line better_line(const Fit& fit, double x_sum, int count, Line line) {
  const double determinant = count * fit.q_squared - fit.q * fit.q;
  if (determinant <= 0) return line;
  const double step = (count * fit.qx - fit.q * x_sum) / determinant;
  const double floor = (fit.q * fit.qx - fit.q_squared * x_sum) / determinant;
  if (floor >= 0 && step >= 0) return {static_cast<float>(step), static_cast<float>(floor)};
  return fit.q_squared > 0 ? Line{static_cast<float>(std::max(0.0, fit.qx / fit.q_squared)), 0.0f} : line;
}

}  // namespace

float line_error(const float* x, int count, int most, Line line, unsigned char* codes) {
  return fit_line(x, count, most, line, codes).error;
}

Line find_line(const float* x, int count, int most) {
  const auto [low, high] = std::minmax_element(x, x + count);
  const float floor = std::max(0.0f, -*low), range = std::max(0.0f, *high) + floor;
  if (!(range > 0)) return {};
  double x_sum = 0;
  for (int i = 0; i < count; ++i) x_sum += static_cast<double>(x[i]);
  Line best;
  float least = std::numeric_limits<float>::infinity();
  for (float extra = kFirst; extra <= kLast; extra += kBetween) {
    Line line{range / (static_cast<float>(most) + extra), floor};
    Fit fit = fit_line(x, count, most, line);
    for (int round = 0; round < 2; ++round) {
      line = better_line(fit, x_sum, count, line);
      fit = fit_line(x, count, most, line);
      if (fit.error < least) least = fit.error, best = line;
    }
  }
  return best;
}

float step_error(const float* x, int count, int most, float step, signed char* codes) {
  return fit_step(x, count, most, step, codes).error;
}

float find_step(const float* x, int count, int most) {
  const float largest = *std::max_element(x, x + count, [](float a, float b) { return std::abs(a) < std::abs(b); });
  float best = 0, least = step_error(x, count, most, 0);
  for (const int side : {-most - 1, most}) {
    for (float extra = kFirst; extra <= kLast; extra += kBetween) {
      const float steps = static_cast<float>(side) + (side < 0 ? -extra : extra);
      float step = largest / steps;
      const Fit fit = fit_step(x, count, most, step);
      if (fit.q_squared > 0) step = static_cast<float>(fit.qx / fit.q_squared);
      if (const float error = step_error(x, count, most, step); error < least) least = error, best = step;
    }
  }
  return best;
}

}  // namespace moe::blocks
