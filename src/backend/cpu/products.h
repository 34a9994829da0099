#pragma once
/// From views to products, and the division of a product among tasks. A division changes no bits: every element of c is
/// computed along the whole of K by one task, in an order that depends on K alone.

#include <algorithm>

#include "backend/cpu/widened.h"

namespace moe::cpu {

/// One factor of a product, as it is stored: rows of contiguous elements, `step` elements apart.
struct Factor {
  const void* data;
  DType type;
  int64_t step;
  const int32_t* rows;    ///< as in Operand
  bool rows_are_reduced;  ///< likewise
};

/// A matrix of two axes; `rows` may be absent.
inline Factor factor(const View& matrix, const View& rows, bool rows_are_reduced) {
  return {matrix.data, matrix.dtype, matrix.stride[0], rows ? rows.as<int32_t>() : nullptr, rows_are_reduced};
}

/// The factor from its stored row `row` and column `column` (a whole block's) on.
inline Factor moved(Factor from, int64_t row, int64_t column) {
  if (from.rows != nullptr) from.rows += row, row = 0;
  from.data = static_cast<const char*>(from.data) + bytes_of(from.type, row * from.step + column);
  return from;
}

/// c[m, n] = a b, added to what c holds when `accumulate`. a is of a type that kernels read; b, where it is weights, of
/// any float type.
struct Multiplication {
  Factor a, b;
  void* c;
  Storage c_type;
  int64_t c_step;
  int64_t m, n, k;
  bool accumulate;
};

inline void* address(void* data, Storage type, int64_t elements) {
  return static_cast<char*>(data) + elements * size_of(type);
}

/// A product cut into m_parts x n_parts tiles, all about as large.
struct Grid {
  int64_t m_parts;
  int64_t n_parts;
  int64_t parts() const { return m_parts * n_parts; }
};

/// Columns are cut at multiples of this: of a cache line, and of whole blocks of b where its rows are reduced.
inline int64_t columns_unit(const Multiplication& p) {
  return p.b.rows_are_reduced ? std::max<int64_t>(16, storage(p.b.type).block) : 16;
}

/// Rows [m, m_end) and columns [n, n_end) of a product; n is a multiple of columns_unit().
inline Multiplication part_of(Multiplication p, int64_t m, int64_t m_end, int64_t n, int64_t n_end) {
  p.a = p.a.rows_are_reduced ? moved(p.a, 0, m) : moved(p.a, m, 0);
  p.b = p.b.rows_are_reduced ? moved(p.b, 0, n) : moved(p.b, n, 0);
  p.c = address(p.c, p.c_type, m * p.c_step + n);
  p.m = m_end - m;
  p.n = n_end - n;
  return p;
}

/// Tile number `index` of a product.
inline Multiplication tile_of(const Multiplication& p, const Grid& grid, int64_t index) {
  const auto begin = [](int64_t size, int64_t parts, int64_t i) { return size * i / parts; };
  const int64_t i = index / grid.n_parts, j = index % grid.n_parts;
  const int64_t unit = columns_unit(p), units = (p.n + unit - 1) / unit;
  return part_of(p, begin(p.m, grid.m_parts, i), begin(p.m, grid.m_parts, i + 1), begin(units, grid.n_parts, j) * unit,
                 std::min(p.n, begin(units, grid.n_parts, j + 1) * unit));
}

/// Computes it on this thread, which is `worker`.
void multiply(const Context& context, const Multiplication& product, int worker);

}  // namespace moe::cpu
