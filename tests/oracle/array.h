#pragma once
/// Host copies of views. The oracle and the tests compute on them.

#include <cstdint>
#include <utility>
#include <vector>

#include "tensor/view.h"

namespace moe::oracle {

/// Elements of a view in row-major order, with bounds checked. T is double, or int64_t for indices.
template <class T>
class Array {
 public:
  Array() = default;
  explicit Array(Shape shape, T value = T{}) : shape_(shape), values_(static_cast<size_t>(shape.elements()), value) {}

  const Shape& shape() const { return shape_; }
  int64_t size(int axis) const { return shape_[axis]; }
  std::vector<T>& values() & { return values_; }
  const std::vector<T>& values() const& { return values_; }
  std::vector<T> values() && { return std::move(values_); }

  /// Indexed by one number per axis, or by one number for any shape (row-major).
  T& operator()(int64_t i) { return values_[offset(i)]; }
  T& operator()(int64_t i, int64_t j) { return values_[offset(i, j)]; }
  T& operator()(int64_t i, int64_t j, int64_t k) { return values_[offset(i, j, k)]; }
  T operator()(int64_t i) const { return values_[offset(i)]; }
  T operator()(int64_t i, int64_t j) const { return values_[offset(i, j)]; }
  T operator()(int64_t i, int64_t j, int64_t k) const { return values_[offset(i, j, k)]; }

 private:
  size_t offset(int64_t i) const {
    MOE_CHECK(i >= 0 && i < static_cast<int64_t>(values_.size()));
    return static_cast<size_t>(i);
  }
  size_t offset(int64_t i, int64_t j) const {
    MOE_CHECK(shape_.rank() == 2 && i >= 0 && i < shape_[0] && j >= 0 && j < shape_[1]);
    return static_cast<size_t>(i * shape_[1] + j);
  }
  size_t offset(int64_t i, int64_t j, int64_t k) const {
    MOE_CHECK(shape_.rank() == 3 && i >= 0 && i < shape_[0] && j >= 0 && j < shape_[1] && k >= 0 && k < shape_[2]);
    return static_cast<size_t>((i * shape_[1] + j) * shape_[2] + k);
  }

  Shape shape_;
  std::vector<T> values_;
};

using Reals = Array<double>;
using Indices = Array<int64_t>;

/// The elements of a view on the host, of any dtype; an absent view gives an empty array.
Reals read(const View& view);
/// The elements of an i32 view.
Indices read_indices(const View& view);
/// Writes every element, rounded once to the view's type (integers: their integer part).
void write(const View& view, const Reals& array);
void write(const View& view, const Indices& array);

/// The value of `value` after it was stored as `dtype`.
double round_to(DType dtype, double value);

}  // namespace moe::oracle
