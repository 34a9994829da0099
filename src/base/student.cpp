#include "base/student.h"

#include <array>
#include <cmath>

#include "base/error.h"

namespace moe {
namespace {

// By degrees of freedom from 1.
constexpr std::array kSmall{12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
                            2.201,  2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086,
                            2.080,  2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042};
constexpr double kNormal = 1.959963984540054;  // the normal distribution's

}  // namespace

double student_95(double degrees) {
  MOE_CHECK(degrees >= 1);
  const double n = degrees, whole = std::floor(n);
  if (n >= static_cast<double>(kSmall.size())) {
    // The expansion in 1 / degrees; its next term is below 2e-6 here.
    constexpr double z = kNormal, z3 = z * z * z, z5 = z3 * z * z, z7 = z5 * z * z;
    return z + (z3 + z) / (4 * n) + (5 * z5 + 16 * z3 + 3 * z) / (96 * n * n) +
           (3 * z7 + 19 * z5 + 17 * z3 - 15 * z) / (384 * n * n * n);
  }
  const double below = kSmall[static_cast<size_t>(whole) - 1], above = kSmall[static_cast<size_t>(whole)];
  const double part = (1 / n - 1 / (whole + 1)) / (1 / whole - 1 / (whole + 1));  // 1 at `below`
  return above * std::pow(below / above, part);
}

}  // namespace moe
