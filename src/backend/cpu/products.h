#pragma once
/// From views to the product kernel's terms, and the division of a product among tasks. A division changes no bits:
/// every element of c is computed along the whole of K by one task, in an order that depends on K alone.

#include <algorithm>

#include "backend/cpu/context.h"
#include "tensor/view.h"

namespace moe::cpu {

inline Elements elements(const View& view) { return {view.data, view.dtype == DType::bf16}; }

/// A matrix of two axes; `rows` may be absent.
inline Operand operand(const View& matrix, const View& rows, bool rows_are_reduced) {
  return {elements(matrix), matrix.stride[0], rows ? rows.as<int32_t>() : nullptr, rows_are_reduced};
}

inline void* address(void* data, bool is_bf16, int64_t elements) {
  return static_cast<char*>(data) + elements * (is_bf16 ? 2 : 4);
}

/// The operand from its stored row `row` and column `column` on.
inline Operand moved(Operand from, int64_t row, int64_t column) {
  if (from.rows != nullptr) from.rows += row, row = 0;
  from.elements.data = address(const_cast<void*>(from.elements.data), from.elements.is_bf16, row * from.step + column);
  return from;
}

/// A product cut into m_parts x n_parts tiles, all about as large.
struct Grid {
  int64_t m_parts;
  int64_t n_parts;
  int64_t parts() const { return m_parts * n_parts; }
};

/// Tile number `index` of a product.
inline Product tile_of(Product p, const Grid& grid, int64_t index) {
  const auto begin = [](int64_t size, int64_t parts, int64_t i) { return size * i / parts; };
  const int64_t i = index / grid.n_parts, j = index % grid.n_parts;
  const int64_t m = begin(p.m, grid.m_parts, i), m_end = begin(p.m, grid.m_parts, i + 1);
  // Columns are cut at multiples of a cache line.
  const int64_t unit = 16, units = (p.n + unit - 1) / unit;
  const int64_t n = begin(units, grid.n_parts, j) * unit;
  const int64_t n_end = std::min(p.n, begin(units, grid.n_parts, j + 1) * unit);
  p.a = p.a.rows_are_reduced ? moved(p.a, 0, m) : moved(p.a, m, 0);
  p.b = p.b.rows_are_reduced ? moved(p.b, 0, n) : moved(p.b, n, 0);
  p.c = address(p.c, p.c_is_bf16, m * p.c_step + n);
  p.m = m_end - m;
  p.n = n_end - n;
  return p;
}

}  // namespace moe::cpu
