#include "tests/conformance/compare.h"

#include <bit>
#include <cmath>

namespace moe::conformance {
namespace {

/// The smallest normal number: below it a float type has fewer digits than its unit roundoff promises.
double tiny(DType dtype) { return dtype == DType::f64 ? 0x1p-1022 : 0x1p-126; }

bool same_bits(double a, double b) { return std::bit_cast<uint64_t>(a) == std::bit_cast<uint64_t>(b); }

std::string index_text(const Shape& shape, int64_t i) {
  std::string result;
  for (int axis = shape.rank() - 1; axis >= 0; --axis) {
    result = fmt::format("{}{}{}", i % shape[axis], result.empty() ? "" : ", ", result);
    i /= shape[axis];
  }
  return result;
}

}  // namespace

std::optional<std::string> first_difference(const View& found_view, const View& found_before_view,
                                            const View& expected_view, const View& expected_before_view,
                                            const Reals* bound) {
  const Reals found = oracle::read(found_view), found_before = oracle::read(found_before_view);
  const Reals expected = oracle::read(expected_view), expected_before = oracle::read(expected_before_view);
  const DType dtype = found_view.dtype;
  for (int64_t i = 0; i < found_view.elements(); ++i) {
    const auto report = [&](const std::string& wanted) {
      return fmt::format("[{}]: found {}, expected {}", index_text(found_view.shape, i), found(i), wanted);
    };
    if (std::isnan(expected(i))) {
      const bool left_alone = same_bits(expected(i), expected_before(i));
      if (left_alone && !same_bits(found(i), found_before(i))) return report("it left alone");
      if (!left_alone && (!std::isnan(found(i)) || same_bits(found(i), found_before(i)))) return report("NaN");
      continue;
    }
    const double rounded = oracle::round_to(dtype, expected(i));
    if (found(i) == rounded) continue;
    if (!bound) return report(fmt::format("exactly {}", rounded));
    const double tolerance = (*bound)(i) + unit(dtype) * (std::abs(expected(i)) + (*bound)(i)) + tiny(dtype);
    if (!(std::abs(found(i) - expected(i)) <= tolerance)) {
      return report(
          fmt::format("{} within {:.3g}, off by {:.3g}", expected(i), tolerance, std::abs(found(i) - expected(i))));
    }
  }
  return std::nullopt;
}

}  // namespace moe::conformance
