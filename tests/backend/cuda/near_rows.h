#pragma once
/// How near results of attention in bf16 are to those in f32 arithmetic.

#include <cmath>
#include <vector>

#include <gtest/gtest.h>

namespace moe {

/// The usual size of each element's row of a head of `size` elements. The parts of ds = p (dp - delta) are products of
/// p and numbers of size 1: what they cancel to may be small, what is rounded is not. `parts`: the result whose rows
/// are p times such numbers, or null where nothing cancels.
inline std::vector<double> usual_sizes(const std::vector<float>& x, size_t size,
                                       const std::vector<float>* parts = nullptr) {
  std::vector<double> result(x.size());
  const auto root_mean_square = [&](const std::vector<float>& of, size_t first) {
    double sum = 0;
    for (size_t i = first; i < first + size; ++i) sum += static_cast<double>(of[i]) * static_cast<double>(of[i]);
    return std::sqrt(sum / static_cast<double>(size));
  };
  for (size_t first = 0; first < x.size(); first += size) {
    const double usual = root_mean_square(x, first) + (parts != nullptr ? root_mean_square(*parts, first) : 0);
    std::fill_n(result.begin() + static_cast<std::ptrdiff_t>(first), size, usual);
  }
  return result;
}

/// Of rounded p, ds and results, whose rows differ in size: a document's first queries and keys have few and large
/// weights. The root mean square of the errors, as shares of their rows' sizes, stays below three units of bf16's
/// rounding (2^-9), of which the simulated kernels have 1.6; each error below that of its result's rounding, twice,
/// and that of the terms: where they are few, they are up to 5 times as large as usual (simulated: 8 units).
inline void expect_near(const char* what, const std::vector<float>& found, const std::vector<float>& expected,
                        const std::vector<double>& usual) {
  constexpr double kUnit = 0x1p-9;
  ASSERT_EQ(found.size(), expected.size());
  double error = 0;
  int told = 0;
  for (size_t i = 0; i < found.size(); ++i) {
    const double x = static_cast<double>(expected[i]);
    const double difference = std::fabs(static_cast<double>(found[i]) - x);
    if (usual[i] > 0) error += std::pow(difference / usual[i], 2);
    if (difference <= kUnit * (2 * std::fabs(x) + 15 * usual[i]) || told++ >= 3) continue;
    ADD_FAILURE() << what << "[" << i << "]: " << found[i] << ", expected " << x << " (usual in its row: " << usual[i]
                  << ")";
  }
  EXPECT_LT(std::sqrt(error / static_cast<double>(found.size())), 3 * kUnit) << what;
}

}  // namespace moe
