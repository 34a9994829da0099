#pragma once
/// Memory and values for the views of a test.

#include <deque>
#include <vector>

#include "base/random.h"
#include "tensor/view.h"

namespace moe::oracle {

/// The value of uninitialised memory in tests: a NaN in every float type, and an index far out of range.
constexpr uint16_t kPoison = 0x7ffe;

/// Host tensors with values that depend on the seed and the order of calls. The views are valid while their Store
/// exists.
class Store {
 public:
  explicit Store(uint64_t seed) : seed_(seed) {}
  Store(Store&&) = default;
  Store& operator=(Store&&) = default;

  /// Tensors of two or more axes made from here on have rows (and outer parts) this many elements apart, in whole
  /// blocks.
  void set_row_gap(int64_t elements) { row_gap_ = elements; }

  View poison(DType dtype, Shape shape);
  View constant(DType dtype, Shape shape, double value);
  View reals(DType dtype, Shape shape, const std::vector<double>& values);
  View normal(DType dtype, Shape shape, double deviation = 1);
  View indices(Shape shape, const std::vector<int64_t>& values);
  /// Uniform in [low, high).
  View random_indices(Shape shape, int64_t low, int64_t high);
  /// A new tensor with the same type, shape and values.
  View copy(const View& view);

  /// 64 random bits, for choices in a test.
  uint64_t draw() { return Random(seed_, stream_++).bits(0); }

 private:
  View allocate(DType dtype, Shape shape);

  uint64_t seed_;
  uint64_t stream_ = 0;
  int64_t row_gap_ = 0;
  std::deque<std::vector<uint64_t>> blocks_;
};

}  // namespace moe::oracle
