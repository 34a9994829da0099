#pragma once
/// Converts views to the arguments of kernels, and divides rows into tasks.

#include <algorithm>
#include <cstring>

#include "backend/cpu/widened.h"

namespace moe::cpu {

/// The address of element [row, 0] of a matrix, or of element 0 of a vector with row 0.
inline void* address(const View& view, int64_t row) {
  const int64_t offset = row * (view.rank() > 1 ? view.stride[0] : 0);
  return static_cast<char*>(view.data) + bytes_of(view.dtype, offset);
}

inline In in_row(const float* row) { return {row, Storage::f32}; }
inline Out out_row(float* row) { return {row, Storage::f32}; }

/// A row of a type that kernels read; absent views give absent rows.
inline In in_row(const View& view, int64_t row = 0) {
  if (!view) return {nullptr, Storage::f32};
  return {address(view, row), storage_of(view.dtype)};
}
inline Out out_row(const View& view, int64_t row = 0) {
  if (!view) return {nullptr, Storage::f32};
  return {address(view, row), storage_of(view.dtype)};
}

/// `row`, advanced by some elements.
inline In at(In row, int64_t element) {
  return {static_cast<const char*>(row.data) + element * size_of(row.type), row.type};
}
inline Out at(Out row, int64_t element) {
  return {static_cast<char*>(row.data) + element * size_of(row.type), row.type};
}

template <class T>
T* row_as(const View& view, int64_t row) {
  MOE_CHECK(view.dtype == dtype_of<T>::value);
  return static_cast<T*>(address(view, row));
}

inline void convert(const Context& context, In x, Out y, int64_t n) {
  if (x.type == y.type) {
    std::memcpy(y.data, x.data, static_cast<size_t>(n * size_of(x.type)));
  } else {
    context.kernels.rows.convert(x, y, n);
  }
}

/// The bytes that a task moves: enough to make the cost of its start small, and few enough that the workers finish
/// together.
constexpr int64_t kTaskBytes = int64_t{128} << 10;

/// Calls body(begin, end) in parallel for ranges that cover rows [0, rows) and begin at multiples of `unit`.
/// `row_bytes`: the bytes that a row moves, or the bytes that would take the same time.
template <class Body>
void for_rows(ThreadPool& pool, int64_t rows, int64_t row_bytes, const Body& body, int64_t unit = 1) {
  const int64_t wanted = kTaskBytes / std::max<int64_t>(row_bytes, 1);
  const int64_t step = std::max(wanted / unit, int64_t{1}) * unit;
  pool.parallel_for((rows + step - 1) / step,
                    [&](int64_t task, int) { body(task * step, std::min(rows, (task + 1) * step)); });
}

/// The same for single elements, in whole vectors. So an element's neighbours in its vector do not depend on the
/// ranges.
template <class Body>
void for_elements(ThreadPool& pool, int64_t count, int64_t element_bytes, const Body& body) {
  for_rows(pool, count, element_bytes, body, 64);
}

/// True if all values are in [low, high). For assertions about values that check(op) cannot see.
inline bool values_in(const View& indices, int64_t low, int64_t high) {
  const int64_t rows = indices.rank() > 1 ? indices.size(0) : 1;
  const int64_t columns = indices.size(indices.rank() - 1);
  for (int64_t row = 0; row < rows; ++row) {
    const auto* values = row_as<int32_t>(indices, row);
    for (int64_t i = 0; i < columns; ++i) {
      if (values[i] < low || values[i] >= high) return false;
    }
  }
  return true;
}

}  // namespace moe::cpu
