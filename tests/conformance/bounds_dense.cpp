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

namespace {

/// Adds what the rounding of a's rows to 8 bits may change: half a step of largest / 127 in each group of 32.
template <class Op>
void add_rounding_of_rows(const Reference<Op>& run, Reals& c) {
  constexpr size_t kGroup = 32;
  constexpr double kMore = 1.0001;  // the scale itself is rounded to f32
  const auto device = make_host_device();
  Placed<Op> placed(run.before, *device);
  const Op& op = placed.op();
  Reals a = oracle::read(op.a), b = oracle::read(op.b), nothing = oracle::read(op.c);
  for (double& value : b.values()) value = std::abs(value);
  for (double& value : nothing.values()) value = 0;
  for (size_t group = 0; group < a.values().size(); group += kGroup) {
    double largest = 0;
    for (size_t i = group; i < group + kGroup; ++i) largest = std::max(largest, std::abs(a.values()[i]));
    for (size_t i = group; i < group + kGroup; ++i) a.values()[i] = largest / 254 * kMore;
  }
  oracle::write(op.a, a);
  oracle::write(op.b, b);
  oracle::write(op.c, nothing);
  oracle::compute(op);
  const Reals more = oracle::read(op.c);
  for (size_t i = 0; i < c.values().size(); ++i) c.values()[i] += more.values()[i];
}

/// On a GPU, products of many rows of bf16 round weights in blocks to bf16: by at most 2^-8 of their magnitudes.
template <class Op>
void add_rounding_of_weights(const Reference<Op>& run, Reals& c) {
  constexpr double kMore = 1.0001;
  if (run.arithmetic != Arithmetic::tensor || is_plain(run.given.b.dtype) || run.given.a.dtype != DType::bf16) return;
  const Reals more = scaled(sum_of_magnitudes(run.before, &Op::c), kMore * unit(DType::bf16));
  for (size_t i = 0; i < c.values().size(); ++i) c.values()[i] += more.values()[i];
}

/// Whether the backend rounds a's rows: b's blocks run along the sum. Beside nf4, whose codes are no integers, it does
/// not.
template <class Op>
bool rounds_rows(const Reference<Op>& run) {
  const bool bytes = run.arithmetic == Arithmetic::bytes || run.arithmetic == Arithmetic::pairs;
  return bytes && !is_plain(run.given.b.dtype) && run.given.b.dtype != DType::nf4 && run.given.transpose_b;
}

}  // namespace

Bounds bounds(const Reference<Gemm>& run) {
  const int64_t depth = run.given.a.size(run.given.transpose_a ? 0 : 1);
  Reals c = scaled(sum_of_magnitudes(run.before, &Gemm::c), growth(depth + 1) * kU);
  if (rounds_rows(run) && !run.given.transpose_a) add_rounding_of_rows(run, c);
  add_rounding_of_weights(run, c);
  return {{"c", c}};
}

Bounds bounds(const Reference<GroupedGemm>& run) {
  Reals c = scaled(sum_of_magnitudes(run.before, &GroupedGemm::c), growth(run.given.a.size(1) + 1) * kU);
  if (rounds_rows(run)) add_rounding_of_rows(run, c);
  add_rounding_of_weights(run, c);
  return {{"c", c}};
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
