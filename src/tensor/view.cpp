#include "tensor/view.h"

namespace moe {

Shape::Shape(std::initializer_list<int64_t> sizes) {
  MOE_CHECK(sizes.size() <= kMaxRank);
  for (const int64_t size : sizes) {
    MOE_CHECK(size >= 0);
    sizes_[static_cast<size_t>(rank_++)] = size;
  }
}

int64_t Shape::elements() const {
  int64_t product = 1;
  bool overflows = false, empty = false;
  for (int axis = 0; axis < rank_; ++axis) {
    empty = empty || (*this)[axis] == 0;
    overflows = __builtin_mul_overflow(product, (*this)[axis], &product) || overflows;
  }
  if (empty) return 0;
  if (overflows) {
    fail("a tensor of shape {} has more elements than 63 bits count; use a smaller model or fewer tokens at once",
         text());
  }
  return product;
}

std::string Shape::text() const {
  std::string result = "[";
  for (int axis = 0; axis < rank_; ++axis) result += (axis > 0 ? ", " : "") + std::to_string((*this)[axis]);
  return result + "]";
}

Shape Shape::inner() const {
  MOE_CHECK(rank_ > 0);
  Shape result;
  for (int axis = 1; axis < rank_; ++axis) result.sizes_[static_cast<size_t>(result.rank_++)] = (*this)[axis];
  return result;
}

Shape Shape::with_first(int64_t size) const {
  MOE_CHECK(rank_ > 0);
  Shape result = *this;
  result.sizes_[0] = size;
  return result;
}

View::View(void* data_in, DType dtype_in, Shape shape_in) : data(data_in), dtype(dtype_in), shape(shape_in) {
  int64_t step = 1;
  for (int axis = shape.rank() - 1; axis >= 0; --axis) {
    stride[static_cast<size_t>(axis)] = step;
    step *= shape[axis];
  }
}

bool View::contiguous() const {
  int64_t step = 1;
  for (int axis = rank() - 1; axis >= 0; --axis) {
    if (shape[axis] != 1 && stride[static_cast<size_t>(axis)] != step) return false;
    step *= shape[axis];
  }
  return true;
}

namespace {
void* offset(void* data, DType dtype, int64_t elements) {
  MOE_CHECK(elements % storage(dtype).block == 0);
  return data == nullptr ? nullptr : static_cast<char*>(data) + bytes_of(dtype, elements);
}
}  // namespace

const void* View::end() const {
  if (elements() == 0) return data;
  int64_t last = 1;
  for (int axis = 0; axis < rank(); ++axis) last += (shape[axis] - 1) * stride[static_cast<size_t>(axis)];
  return offset(data, dtype, last);
}

View View::rows(int64_t begin, int64_t count) const {
  MOE_CHECK(rank() >= 1 && begin >= 0 && count >= 0 && begin + count <= shape[0]);
  View result = *this;
  result.data = offset(data, dtype, begin * stride[0]);
  result.shape = shape.with_first(count);
  return result;
}

View View::columns(int64_t begin, int64_t count) const {
  MOE_CHECK(rank() == 2 && begin >= 0 && count >= 0 && begin + count <= shape[1]);
  View result = *this;
  result.data = offset(data, dtype, begin);
  result.shape = {shape[0], count};
  return result;
}

View View::at(int64_t index) const {
  MOE_CHECK(rank() >= 1 && index >= 0 && index < shape[0]);
  View result = *this;
  result.data = offset(data, dtype, index * stride[0]);
  result.shape = shape.inner();
  for (int axis = 0; axis + 1 < rank(); ++axis) {
    result.stride[static_cast<size_t>(axis)] = stride[static_cast<size_t>(axis) + 1];
  }
  result.stride[static_cast<size_t>(rank() - 1)] = 0;
  return result;
}

View View::reshaped(Shape new_shape) const {
  MOE_CHECK(contiguous() && new_shape.elements() == elements());
  return View(data, dtype, new_shape);
}

}  // namespace moe
