#pragma once
/// One description of all products for the tile kernels: dense, by an expert's rows (GroupedGemm), by reduction over an
/// expert's rows (GroupedGemmReduce). A block computes one tile of c and asks here which one.

#include "backend/cuda/kernel.cuh"

namespace moe::cuda {

/// A stored matrix whose rows may be picked. `reduced_rows`: its rows run along the reduced dimension (otherwise its
/// columns).
struct Operand {
  const void* data;
  int64_t step;  ///< elements from one row to the next
  bool bf16;
  const int* rows;  ///< stored row of row r; null: r itself
  DType type;       ///< if it is neither f32 nor bf16, only kernels for other weights read it
};

enum class Grouping { none, rows, reduction };

struct TileProblem {
  Operand a, b;
  void* c;
  int64_t c_step;
  bool c_bf16;
  bool c_wide;        ///< pairs of neighbours in c are aligned together
  bool c_chunked;     ///< rows of c are whole aligned 16-byte chunks of bf16
  bool c_quads;       ///< rows of c are whole aligned 16-byte chunks of f32
  bool c_transposed;  ///< element (row, column) of the product is stored at (column, row)
  bool accumulate;
  int64_t m, n, k;  ///< of one expert; m (rows) or k (reduction) is then an upper bound
  /// Grouping rows, on Hopper: the reduced dimension of a second product of the same rows and columns, whose operands
  /// are not gathered and which is added to the first in the sums; 0: there is none.
  int64_t k_added;
  const int* offsets;  ///< [experts + 1]; grouping none: null
  const int4* tiles;   ///< grouping rows: (expert, first row, the expert's end) of each tile of rows; expert -1: none
  const int* order;    ///< grouping reduction: the expert at place i; null: i
  int64_t b_expert;    ///< bytes from one expert's matrix to the next
  int64_t c_expert;    ///< elements from one expert's matrix to the next
  double* squares;     ///< of c's new values, summed by each multiplying warp of Hopper's kernel; null: not wanted
};

/// The part of one block: rows [m_begin, m_end) and columns [n_begin, n) of c, reduced over [k_begin, k_end).
struct Tile {
  Operand a, b;
  char* c;
  int64_t m_begin, m_end, n_begin;
  int64_t k_begin, k_end;
  int expert;
  bool empty;
};

/// The table's entry for tile number `index` (grouping rows). If it is loaded early, no thread waits for it.
__device__ inline int4 look_up_tile(const TileProblem& p, unsigned index, int tile_n) {
  return p.tiles[index / static_cast<unsigned>((p.n + tile_n - 1) / tile_n)];
}

/// Tile number `index`, columns fastest: neighbours share their rows of a, and an expert's b. With grouping by
/// reduction, all tiles of an expert come before those of the next. `found`: the result of look_up_tile for it, with
/// grouping by rows.
template <Grouping grouping>
__device__ Tile find_tile(const TileProblem& p, unsigned index, int tile_m, int tile_n, const int4& found) {
  const auto columns = static_cast<unsigned>((p.n + tile_n - 1) / tile_n);
  unsigned row_tile = index / columns;
  int expert = 0;
  if constexpr (grouping == Grouping::reduction) {
    const auto row_tiles = static_cast<unsigned>((p.m + tile_m - 1) / tile_m);
    expert = static_cast<int>(row_tile / row_tiles);
    if (p.order != nullptr) expert = p.order[expert];
    row_tile %= row_tiles;
  }
  Tile t{
      p.a,    p.b,  static_cast<char*>(p.c), int64_t{row_tile} * tile_m, p.m, int64_t{index % columns} * tile_n, 0, p.k,
      expert, false};
  if constexpr (grouping == Grouping::rows) {
    t.empty = found.x < 0;
    if (t.empty) return t;
    t.expert = expert = found.x;
    t.m_begin = found.y;
    t.m_end = found.z;
  } else if constexpr (grouping == Grouping::reduction) {
    t.k_begin = p.offsets[expert];
    t.k_end = p.offsets[expert + 1];
  }
  if constexpr (grouping == Grouping::rows) {
    t.b.data = static_cast<const char*>(p.b.data) + expert * p.b_expert;
  } else if constexpr (grouping == Grouping::reduction) {
    t.c += expert * p.c_expert * (p.c_bf16 ? 2 : 4);
  }
  return t;
}

template <Grouping grouping>
__device__ Tile find_tile(const TileProblem& p, unsigned index, int tile_m, int tile_n) {
  const int4 found = grouping == Grouping::rows ? look_up_tile(p, index, tile_n) : int4{};
  return find_tile<grouping>(p, index, tile_m, tile_n, found);
}

__device__ inline void store_element(const TileProblem& p, const Tile& t, int64_t at, float value) {
  if (p.c_bf16) {
    auto* const c = reinterpret_cast<__nv_bfloat16*>(t.c) + at;
    *c = __float2bfloat16_rn(value + (p.accumulate ? __bfloat162float(*c) : 0.0f));
  } else {
    auto* const c = reinterpret_cast<float*>(t.c) + at;
    *c = value + (p.accumulate ? *c : 0.0f);
  }
}

/// Stores two neighbouring columns of c. The second one may be outside.
__device__ inline void store_pair(const TileProblem& p, const Tile& t, int64_t row, int64_t column, float x, float y) {
  if (row >= t.m_end || column >= p.n) return;
  const int64_t at = p.c_transposed ? column * p.c_step + row : row * p.c_step + column;
  const bool both = column + 1 < p.n;
  if (both && p.c_wide && !p.c_bf16 && !p.c_transposed) {
    auto* const pair = reinterpret_cast<float2*>(reinterpret_cast<float*>(t.c) + at);
    const float2 old = p.accumulate ? *pair : make_float2(0, 0);
    *pair = make_float2(old.x + x, old.y + y);
  } else if (both && p.c_wide && !p.c_transposed && !p.accumulate) {
    *reinterpret_cast<__nv_bfloat162*>(reinterpret_cast<__nv_bfloat16*>(t.c) + at) = __floats2bfloat162_rn(x, y);
  } else {
    store_element(p, t, at, x);
    if (both) store_element(p, t, at + (p.c_transposed ? p.c_step : 1), y);
  }
}

}  // namespace moe::cuda
