#pragma once
/// Shapes and non-owning views of tensors.

#include <array>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <type_traits>

#include "base/bfloat16.h"
#include "base/error.h"
#include "tensor/dtype.h"

namespace moe {

constexpr int kMaxRank = 4;

/// Up to four sizes, outermost first. Several threads may read it.
class Shape {
 public:
  Shape() = default;
  Shape(std::initializer_list<int64_t> sizes);

  int rank() const { return rank_; }
  int64_t operator[](int axis) const { return sizes_[static_cast<size_t>(axis)]; }
  /// The product of the sizes; 1 for rank 0.
  int64_t elements() const;
  bool operator==(const Shape& other) const = default;
  /// "[2, 3]"
  std::string text() const;
  /// The shape without its first axis.
  Shape inner() const;
  /// The same shape with another first size.
  Shape with_first(int64_t size) const;

 private:
  std::array<int64_t, kMaxRank> sizes_{};
  int rank_ = 0;
};

/// A tensor in memory that something else owns: an address (host or device), a type, a shape, and strides in elements.
/// The last axis is contiguous. Outer axes may be strided (columns of a wider matrix). If elements are stored in
/// blocks, rows and the gaps between them are whole blocks. A view without data is absent.
struct View {
  void* data = nullptr;
  DType dtype = DType::f32;
  Shape shape;
  std::array<int64_t, kMaxRank> stride{};

  View() = default;
  /// A contiguous view.
  View(void* data, DType dtype, Shape shape);

  explicit operator bool() const { return data != nullptr; }
  int rank() const { return shape.rank(); }
  int64_t size(int axis) const { return shape[axis]; }
  int64_t elements() const { return shape.elements(); }
  /// Bytes of the elements (not of the gaps between strided rows).
  size_t bytes() const { return static_cast<size_t>(bytes_of(dtype, elements())); }
  bool contiguous() const;
  /// The address after the last element.
  const void* end() const;

  /// Rows [begin, begin + count) along the first axis.
  View rows(int64_t begin, int64_t count) const;
  /// Columns [begin, begin + count) along the last axis.
  View columns(int64_t begin, int64_t count) const;
  /// The part at `index` of the first axis; the result has one axis less.
  View at(int64_t index) const;
  /// The same contiguous elements in another shape.
  View reshaped(Shape new_shape) const;

  /// The data as elements of T (const or not); the dtype must be T's.
  template <class T>
  T* as() const;
};

template <class T>
struct dtype_of;
template <>
struct dtype_of<double> {
  static constexpr DType value = DType::f64;
};
template <>
struct dtype_of<float> {
  static constexpr DType value = DType::f32;
};
template <>
struct dtype_of<bf16> {
  static constexpr DType value = DType::bf16;
};
template <>
struct dtype_of<int32_t> {
  static constexpr DType value = DType::i32;
};
template <>
struct dtype_of<uint8_t> {
  static constexpr DType value = DType::u8;
};

template <class T>
T* View::as() const {
  MOE_CHECK(data == nullptr || dtype == dtype_of<std::remove_const_t<T>>::value);
  return static_cast<T*>(data);
}

}  // namespace moe
