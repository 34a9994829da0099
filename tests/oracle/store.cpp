#include "tests/oracle/store.h"

#include <algorithm>

#include "tests/oracle/array.h"

namespace moe::oracle {

View Store::allocate(DType dtype, Shape shape) {
  View view(nullptr, dtype, shape);
  const int64_t block = storage(dtype).block, gap = (row_gap_ + block - 1) / block * block;
  int64_t step = 1;
  for (int axis = shape.rank() - 1; axis >= 0; --axis) {
    view.stride[static_cast<size_t>(axis)] = step;
    step = step * shape[axis] + (axis > 0 ? gap : 0);
  }
  const auto bytes = static_cast<size_t>(bytes_of(dtype, std::max(step, block)));
  uint64_t pattern = kPoison;
  pattern |= pattern << 16;
  pattern |= pattern << 32;
  blocks_.emplace_back(bytes / sizeof(uint64_t) + 1, pattern);
  view.data = blocks_.back().data();
  return view;
}

View Store::poison(DType dtype, Shape shape) { return allocate(dtype, shape); }

View Store::constant(DType dtype, Shape shape, double value) {
  const View view = allocate(dtype, shape);
  write(view, Reals(shape, value));
  return view;
}

View Store::reals(DType dtype, Shape shape, const std::vector<double>& values) {
  const View view = allocate(dtype, shape);
  Reals array(shape);
  MOE_CHECK(array.values().size() == values.size());
  array.values() = values;
  write(view, array);
  return view;
}

View Store::normal(DType dtype, Shape shape, double deviation) {
  const Random random(seed_, stream_++);
  const View view = allocate(dtype, shape);
  Reals array(shape);
  uint64_t index = 0;
  for (double& value : array.values()) value = deviation * random.normal(index++);
  write(view, array);
  return view;
}

View Store::indices(Shape shape, const std::vector<int64_t>& values) {
  const View view = allocate(DType::i32, shape);
  Indices array(shape);
  MOE_CHECK(array.values().size() == values.size());
  array.values() = values;
  write(view, array);
  return view;
}

View Store::random_indices(Shape shape, int64_t low, int64_t high) {
  const Random random(seed_, stream_++);
  std::vector<int64_t> values(static_cast<size_t>(shape.elements()));
  uint64_t index = 0;
  for (int64_t& value : values) {
    value = low + static_cast<int64_t>(random.below(index++, static_cast<uint64_t>(high - low)));
  }
  return indices(shape, values);
}

View Store::copy(const View& view) {
  const View result = allocate(view.dtype, view.shape);
  write(result, read(view));
  return result;
}

}  // namespace moe::oracle
