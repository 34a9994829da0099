#pragma once
/// The micro-kernel of all products; one source for every instruction set.
/// A tile of kTileRows x kTileColumns elements of c stays in registers while K runs over packed panels (pack.h).

#include "backend/cpu/kernels/simd.h"

namespace moe::cpu::MOE_ISA {

/// As many accumulators as leave registers for one row of b and one element of a.
constexpr int kTileRows = kLanes == 16 ? 14 : (kLanes == 8 ? 6 : 4);
constexpr int kTileColumns = 2 * kLanes;

constexpr int64_t round_up(int64_t x, int64_t unit) { return (x + unit - 1) / unit * unit; }
constexpr int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

/// Where a tile goes: out = tile + add (add: null, or f32 or bf16 elements).
struct TileTarget {
  const void* add;
  bool add_is_bf16;
  int64_t add_step;
  void* out;
  bool out_is_bf16;
  int64_t out_step;
};

inline vf load_add(const TileTarget& to, int64_t row, int column, int count) {
  const int64_t at = row * to.add_step + column;
  if (to.add_is_bf16) {
    const bf16* p = static_cast<const bf16*>(to.add) + at;
    return count >= kLanes ? load(p) : load_part(p, count);
  }
  const float* p = static_cast<const float*>(to.add) + at;
  return count >= kLanes ? load(p) : load_part(p, count);
}

inline void store_out(const TileTarget& to, int64_t row, int column, int count, vf x) {
  const int64_t at = row * to.out_step + column;
  if (to.out_is_bf16) {
    bf16* p = static_cast<bf16*>(to.out) + at;
    count >= kLanes ? store(p, x) : store_part(p, x, count);
  } else {
    float* p = static_cast<float*>(to.out) + at;
    count >= kLanes ? store(p, x) : store_part(p, x, count);
  }
}

/// Asks for the target's lines, which the sums will need when they are ready.
inline void prefetch(const TileTarget& to, int rows) {
  const char* p = static_cast<const char*>(to.out);
  const int64_t size = to.out_is_bf16 ? 2 : 4;
  for (int i = 0; i < rows; ++i, p += to.out_step * size) {
    __builtin_prefetch(p, 1);
    __builtin_prefetch(p + kTileColumns * size - 1, 1);
  }
}

/// What a whole tile of f32 does in registers, for the other tiles.
inline void store_edge(const vf (*sum)[2], const TileTarget& to, int rows, int columns) {
  for (int i = 0; i < rows; ++i) {
    for (int column = 0; column < columns; column += kLanes) {
      vf x = sum[i][column / kLanes];
      if (to.add != nullptr) x += load_add(to, i, column, columns - column);
      store_out(to, i, column, columns - column, x);
    }
  }
}

/// Rows [0, rows) and columns [0, columns) of the product of a (element (i, k) at a[i * RowStep + k * DepthStep]) and the
/// panel b. Computes Rows >= rows of them; the surplus must be readable.
template <int Rows, int RowStep, int DepthStep>
inline __attribute__((always_inline)) void tile(int64_t depth, const float* a, const float* b, const TileTarget& to,
                                                int rows, int columns) {
  vf sum[Rows][2] = {};
  for (int64_t k = 0; k < depth; ++k) {
    const vf b0 = load(b), b1 = load(b + kLanes);
#pragma GCC unroll 16
    for (int i = 0; i < Rows; ++i) {
      const vf ai = splat(a[i * RowStep]);
      sum[i][0] = fma(ai, b0, sum[i][0]);
      sum[i][1] = fma(ai, b1, sum[i][1]);
    }
    a += DepthStep;
    b += kTileColumns;
  }
  if (rows == Rows && columns == kTileColumns && !to.out_is_bf16 && !(to.add != nullptr && to.add_is_bf16)) {
    float* out = static_cast<float*>(to.out);
    const float* add = static_cast<const float*>(to.add);
#pragma GCC unroll 16
    for (int i = 0; i < Rows; ++i) {
      if (add != nullptr) {
        sum[i][0] += load(add + i * to.add_step);
        sum[i][1] += load(add + i * to.add_step + kLanes);
      }
      store(out + i * to.out_step, sum[i][0]);
      store(out + i * to.out_step + kLanes, sum[i][1]);
    }
    return;
  }
  // Copied, so that the accumulators themselves are never indexed by a variable and stay in registers.
  vf copy[Rows][2];
#pragma GCC unroll 16
  for (int i = 0; i < Rows; ++i) copy[i][0] = sum[i][0], copy[i][1] = sum[i][1];
  store_edge(copy, to, rows, columns);
}

/// Rows of the smallest tile that holds `rows`: few rows (decoding, small experts) need not pay for a whole tile.
inline int computed_rows(int rows) { return rows > 4 ? kTileRows : (rows == 3 ? 4 : rows); }

template <int RowStep, int DepthStep>
inline void any_tile(int64_t depth, const float* a, const float* b, const TileTarget& to, int rows, int columns) {
  switch (computed_rows(rows)) {
    case 1: return tile<1, RowStep, DepthStep>(depth, a, b, to, rows, columns);
    case 2: return tile<2, RowStep, DepthStep>(depth, a, b, to, rows, columns);
    case 4: return tile<4, RowStep, DepthStep>(depth, a, b, to, rows, columns);
    default: return tile<kTileRows, RowStep, DepthStep>(depth, a, b, to, rows, columns);
  }
}

}  // namespace moe::cpu::MOE_ISA
