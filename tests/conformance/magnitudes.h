#pragma once
/// Bounds for operations that are linear with positive coefficients.

#include <cmath>

#include "tests/conformance/bounds.h"
#include "tests/conformance/placed.h"
#include "tests/oracle/naive.h"

namespace moe::conformance {

/// The oracle's result for `field` if every float input is replaced by its absolute value: for each element the sum of
/// the absolute values of all terms.
template <class Op>
Reals sum_of_magnitudes(const Op& before, View Op::*field) {
  const auto device = make_host_device();
  Placed<Op> placed(before, *device);
  for_each_view(placed.op(), [](const Field<Op>&, const View& view) {
    if (!is_float(view.dtype)) return;
    Reals values = oracle::read(view);
    for (double& value : values.values()) value = std::abs(value);
    oracle::write(view, values);
  });
  oracle::compute(placed.op());
  return oracle::read(placed.op().*field);
}

inline Reals scaled(Reals values, double factor) {
  for (double& value : values.values()) value *= factor;
  return values;
}

}  // namespace moe::conformance
