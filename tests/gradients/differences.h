#pragma once
/// Central differences on operations of the oracle in double precision.

#include <algorithm>
#include <cmath>
#include <functional>
#include <string>

#include <gtest/gtest.h>

#include "tests/oracle/array.h"
#include "tests/oracle/oracle.h"
#include "tests/oracle/store.h"

namespace moe::oracle {

/// Sum of the products of elements.
inline double dot(const View& a, const View& b) {
  const Reals x = read(a), y = read(b);
  MOE_CHECK(x.values().size() == y.values().size());
  double sum = 0;
  for (size_t i = 0; i < x.values().size(); ++i) sum += x.values()[i] * y.values()[i];
  return sum;
}

/// The derivative of loss() with respect to each element of `input`, by a five-point formula. Its error of order h^4
/// (1e-12), and the rounding of the loss divided by h (1e-13), are both far below the tolerance of expect_gradient.
inline Reals differentiate(const View& input, const std::function<double()>& loss) {
  constexpr double h = 1e-3;
  Reals values = read(input);
  Reals derivative(input.shape);
  const auto loss_at = [&](int64_t i, double value) {
    const double kept = values(i);
    values(i) = value;
    write(input, values);
    const double result = loss();
    values(i) = kept;
    return result;
  };
  for (int64_t i = 0; i < input.elements(); ++i) {
    const double x = values(i);
    const double near = loss_at(i, x + h) - loss_at(i, x - h), far = loss_at(i, x + 2 * h) - loss_at(i, x - 2 * h);
    derivative(i) = (8 * near - far) / (12 * h);
  }
  write(input, values);
  return derivative;
}

/// Compares `found` with the derivative of loss() with respect to `input`, element by element.
inline void expect_gradient(const std::string& what, const Reals& found, const View& input,
                            const std::function<double()>& loss) {
  const Reals expected = differentiate(input, loss);
  ASSERT_EQ(found.values().size(), expected.values().size()) << what;
  double largest = 0;
  for (const double value : expected.values()) largest = std::max(largest, std::abs(value));
  EXPECT_GT(largest, 0) << what << ": the loss does not depend on it";
  for (int64_t i = 0; i < input.elements(); ++i) {
    ASSERT_NEAR(found(i), expected(i), 1e-8 * std::max(1.0, largest)) << what << ", element " << i;
  }
}

}  // namespace moe::oracle
