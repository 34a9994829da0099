#pragma once
/// The micro-kernel of all products, from one source for every instruction set. A tile of kTileRows x kTileColumns
/// elements of c stays in registers while K runs over packed panels (pack.h).

#include "backend/cpu/kernels/simd.h"

namespace moe::cpu::MOE_ISA {

/// As many accumulators as possible; the other registers hold one row of b and one element of a.
constexpr int kTileRows = kLanes == 16 ? 14 : (kLanes == 8 ? 6 : 4);
constexpr int kTileColumns = 2 * kLanes;

constexpr int64_t round_up(int64_t x, int64_t unit) { return (x + unit - 1) / unit * unit; }
constexpr int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

/// The destination of a tile: out = tile + add (add: null, or f32 or bf16 elements).
struct TileTarget {
  const void* add;
  Storage add_type;
  int64_t add_step;
  void* out;
  Storage out_type;
  int64_t out_step;
};

/// The part of a destination that starts at (row, column).
inline TileTarget moved(TileTarget to, int64_t row, int64_t column) {
  if (to.add != nullptr) {
    to.add = static_cast<const char*>(to.add) + (row * to.add_step + column) * size_of(to.add_type);
  }
  to.out = static_cast<char*>(to.out) + (row * to.out_step + column) * size_of(to.out_type);
  return to;
}

inline vf load_add(const TileTarget& to, int64_t row, int column, int count) {
  const int64_t at = row * to.add_step + column;
  if (to.add_type == Storage::bf16) {
    const bf16* p = static_cast<const bf16*>(to.add) + at;
    return count >= kLanes ? load(p) : load_part(p, count);
  }
  const float* p = static_cast<const float*>(to.add) + at;
  return count >= kLanes ? load(p) : load_part(p, count);
}

inline void store_out(const TileTarget& to, int64_t row, int column, int count, vf x) {
  const int64_t at = row * to.out_step + column;
  if (to.out_type == Storage::bf16) {
    bf16* p = static_cast<bf16*>(to.out) + at;
    count >= kLanes ? store(p, x) : store_part(p, x, count);
  } else {
    float* p = static_cast<float*>(to.out) + at;
    count >= kLanes ? store(p, x) : store_part(p, x, count);
  }
}

/// Prefetches the lines of the destination, which are needed when the sums are complete.
inline void prefetch(const TileTarget& to, int rows) {
  const char* p = static_cast<const char*>(to.out);
  const int64_t size = size_of(to.out_type);
  for (int i = 0; i < rows; ++i, p += to.out_step * size) {
    __builtin_prefetch(p, 1);
    __builtin_prefetch(p + kTileColumns * size - 1, 1);
  }
}

/// For tiles that are not whole tiles of f32: does what a whole tile does in registers.
inline void store_edge(const vf (*sum)[2], const TileTarget& to, int rows, int columns) {
  for (int i = 0; i < rows; ++i) {
    for (int column = 0; column < columns; column += kLanes) {
      vf x = sum[i][column / kLanes];
      if (to.add != nullptr) x += load_add(to, i, column, columns - column);
      store_out(to, i, column, columns - column, x);
    }
  }
}

/// The sums of one tile, in registers. a's element (i, k) is at a[i * RowStep + k * DepthStep], and b is a packed
/// panel. With kPairs, elements are pairs of bf16 (pack.h).
template <int Rows, int RowStep, int DepthStep, bool kPairs = false>
inline __attribute__((always_inline)) void sum_tile(int64_t depth, const float* a, const float* b, vf (&sum)[Rows][2]) {
#pragma GCC unroll 16
  for (int i = 0; i < Rows; ++i) sum[i][0] = sum[i][1] = zero();
  for (int64_t k = 0; k < depth; ++k) {
    const vf b0 = load(b), b1 = load(b + kLanes);
#pragma GCC unroll 16
    for (int i = 0; i < Rows; ++i) {
      const vf ai = splat(a[i * RowStep]);
      sum[i][0] = kPairs ? fma_pairs(ai, b0, sum[i][0]) : fma(ai, b0, sum[i][0]);
      sum[i][1] = kPairs ? fma_pairs(ai, b1, sum[i][1]) : fma(ai, b1, sum[i][1]);
    }
    a += DepthStep;
    b += kTileColumns;
  }
}

/// Writes a whole tile to f32 memory, or adds it.
template <int Rows, bool kAdd>
inline __attribute__((always_inline)) void store_tile(const vf (&sum)[Rows][2], float* out, int64_t step,
                                                      const float* add, int64_t add_step) {
#pragma GCC unroll 16
  for (int i = 0; i < Rows; ++i) {
    store(out + i * step, kAdd ? sum[i][0] + load(add + i * add_step) : sum[i][0]);
    store(out + i * step + kLanes, kAdd ? sum[i][1] + load(add + i * add_step + kLanes) : sum[i][1]);
  }
}

/// The product of kTileRows rows (or of Rows, for a panel with fewer) and a panel, in scratch.
template <int Rows, int RowStep, int DepthStep, bool kAdd, bool kPairs = false>
inline void scratch_tile(int64_t depth, const float* a, const float* b, float* out, int64_t step) {
  vf sum[Rows][2];
  sum_tile<Rows, RowStep, DepthStep, kPairs>(depth, a, b, sum);
  store_tile<Rows, kAdd>(sum, out, step, out, step);
}

/// Rows [0, rows) and columns [0, columns) of a packed tile with Rows >= rows, for any destination.
template <int Rows, bool kPairs>
inline __attribute__((always_inline)) void tile(int64_t depth, const float* a, const float* b, const TileTarget& to,
                                                int rows, int columns) {
  vf sum[Rows][2];
  sum_tile<Rows, 1, kTileRows, kPairs>(depth, a, b, sum);
  if (rows == Rows && columns == kTileColumns && to.out_type == Storage::f32 &&
      !(to.add != nullptr && to.add_type == Storage::bf16)) {
    float* const out = static_cast<float*>(to.out);
    if (to.add == nullptr) return store_tile<Rows, false>(sum, out, to.out_step, nullptr, 0);
    return store_tile<Rows, true>(sum, out, to.out_step, static_cast<const float*>(to.add), to.add_step);
  }
  // Copied, so that a variable never indexes the accumulators themselves, and they stay in registers.
  vf copy[Rows][2];
#pragma GCC unroll 16
  for (int i = 0; i < Rows; ++i) copy[i][0] = sum[i][0], copy[i][1] = sum[i][1];
  store_edge(copy, to, rows, columns);
}

/// The rows of the smallest tile that holds `rows`. Few rows (decoding, small experts) then need less than a whole
/// tile.
inline int computed_rows(int rows) { return rows > 4 ? kTileRows : (rows == 3 ? 4 : rows); }

template <bool kPairs>
inline void any_tile(int64_t depth, const float* a, const float* b, const TileTarget& to, int rows, int columns) {
  switch (computed_rows(rows)) {
    case 1:
      return tile<1, kPairs>(depth, a, b, to, rows, columns);
    case 2:
      return tile<2, kPairs>(depth, a, b, to, rows, columns);
    case 4:
      return tile<4, kPairs>(depth, a, b, to, rows, columns);
    default:
      return tile<kTileRows, kPairs>(depth, a, b, to, rows, columns);
  }
}

template <int RowStep, int DepthStep, bool kAdd, bool kPairs = false>
inline void any_scratch_tile(int64_t depth, const float* a, const float* b, float* out, int64_t step, int rows) {
  switch (computed_rows(rows)) {
    case 1:
      return scratch_tile<1, RowStep, DepthStep, kAdd, kPairs>(depth, a, b, out, step);
    case 2:
      return scratch_tile<2, RowStep, DepthStep, kAdd, kPairs>(depth, a, b, out, step);
    case 4:
      return scratch_tile<4, RowStep, DepthStep, kAdd, kPairs>(depth, a, b, out, step);
    default:
      return scratch_tile<kTileRows, RowStep, DepthStep, kAdd, kPairs>(depth, a, b, out, step);
  }
}

}  // namespace moe::cpu::MOE_ISA
