#include <algorithm>

#include "tests/conformance/magnitudes.h"

namespace moe::conformance {

double unit(DType dtype) {
  switch (dtype) {
    case DType::f64:
      return 0x1p-53;
    case DType::f32:
      return 0x1p-24;
    case DType::bf16:
      return 0x1p-8;
    default:
      return 0;
  }
}

double growth(int64_t terms) {
  const double n = static_cast<double>(terms);
  return std::min(n, 4 * std::sqrt(n)) + 2;
}

Bounds bounds(const Reference<Gemm>& run) {
  const int64_t depth = run.given.a.size(run.given.transpose_a ? 0 : 1);
  return {{"c", scaled(sum_of_magnitudes(run.before, &Gemm::c), growth(depth + 1) * kU)}};
}

Bounds bounds(const Reference<GroupedGemm>& run) {
  return {{"c", scaled(sum_of_magnitudes(run.before, &GroupedGemm::c), growth(run.given.a.size(1)) * kU)}};
}

Bounds bounds(const Reference<GroupedGemmReduce>& run) {
  const Indices offsets = oracle::read_indices(run.given.offsets);
  Reals c = sum_of_magnitudes(run.before, &GroupedGemmReduce::c);
  for (int64_t e = 0; e < c.size(0); ++e) {
    const double factor = growth(offsets(e + 1) - offsets(e) + 1) * kU;
    for (int64_t m = 0; m < c.size(1); ++m) {
      for (int64_t n = 0; n < c.size(2); ++n) c(e, m, n) *= factor;
    }
  }
  if (!run.given.squares) return {{"c", c}};
  // An element's error in its square, and a few f32 roundings of sums of squares.
  constexpr double kSums = 16;
  const Reals found = oracle::read(run.after.c);
  Reals squares = oracle::read(run.after.squares);
  squares(0) *= kSums * kU;
  for (size_t i = 0; i < found.values().size(); ++i) {
    const double off = c.values()[i];
    squares(0) += (2 * std::abs(found.values()[i]) + off) * off;
  }
  return {{"c", c}, {"squares", squares}};
}

}  // namespace moe::conformance
