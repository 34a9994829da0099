#pragma once
/// Packing of operands: a as [k][kTileRows] panels and b as [k][kTileColumns] panels, in f32 whatever the storage, with
/// zeros beyond the edges. Gathered rows are gathered here.

#include "backend/cpu/kernels/matrix.h"
#include "backend/cpu/kernels/micro.h"

namespace moe::cpu::MOE_ISA {

/// Floats that the last store of a run of panels may write beyond its end.
constexpr int kPanelSlack = kLanes;

/// A stored matrix: element (row, column) at row(row)[column].
template <class T>
struct Stored {
  const T* data;
  int64_t step;
  const int32_t* rows;
  const T* row(int64_t i) const { return data + (rows == nullptr ? i : static_cast<int64_t>(rows[i])) * step; }
};

/// Packs columns [column, column + count) of stored rows [first, first + depth), which run along K: [depth][Width].
template <int Width, class T>
inline void pack_rows(const Stored<T>& from, int64_t first, int64_t depth, int64_t column, int count, float* to) {
  for (int64_t k = 0; k < depth; ++k) {
    const T* row = from.row(first + k) + column;
#pragma GCC unroll 2
    for (int j = 0; j < Width; j += kLanes) {
      const int left = count - j;
      // A full vector may be stored: what lies beyond Width is overwritten by the next k.
      store(to + k * Width + j, left >= kLanes ? load(row + j) : load_part(row + j, left > 0 ? left : 0));
    }
  }
}

/// Packs `depth` elements from each of `count` addresses, which run along M or N: [depth][Width].
template <int Width, class T>
inline void pack_lines(const T* const* lines, int count, int64_t depth, float* to) {
  constexpr int kGroups = (Width + kLanes - 1) / kLanes;
  for (int64_t k = 0; k < depth; k += kLanes) {
    const int left = static_cast<int>(least(kLanes, depth - k));
#pragma GCC unroll 2
    for (int group = 0; group < kGroups; ++group) {
      vf block[kLanes];
#pragma GCC unroll 16
      for (int i = 0; i < kLanes; ++i) {
        const int line = group * kLanes + i;
        block[i] = line >= count ? zero() : (left == kLanes ? load(lines[line] + k) : load_part(lines[line] + k, left));
      }
      transpose(block);
      if (left == kLanes) {
#pragma GCC unroll 16
        for (int i = 0; i < kLanes; ++i) store(to + (k + i) * Width + group * kLanes, block[i]);
      } else {
        for (int i = 0; i < left; ++i) store(to + (k + i) * Width + group * kLanes, block[i]);
      }
    }
  }
}

template <int Width, class T>
inline void pack_stored(const Stored<T>& from, bool rows_are_reduced, int64_t first, int64_t depth, int64_t begin,
                        int64_t count, float* to) {
  for (int64_t i = 0; i < count; i += Width, to += Width * depth) {
    const int width = static_cast<int>(least(Width, count - i));
    if (rows_are_reduced) {
      pack_rows<Width>(from, first, depth, begin + i, width, to);
    } else {
      const T* lines[Width];
      for (int line = 0; line < width; ++line) lines[line] = from.row(begin + i + line) + first;
      pack_lines<Width>(lines, width, depth, to);
    }
  }
}

/// Packs [begin, begin + count) of M or N over the K-block [first, first + depth) as consecutive panels.
template <int Width>
inline void pack(const Operand& from, int64_t first, int64_t depth, int64_t begin, int64_t count, float* to) {
  if (from.elements.is_bf16) {
    const Stored<bf16> stored{static_cast<const bf16*>(from.elements.data), from.step, from.rows};
    pack_stored<Width>(stored, from.rows_are_reduced, first, depth, begin, count, to);
  } else {
    const Stored<float> stored{static_cast<const float*>(from.elements.data), from.step, from.rows};
    pack_stored<Width>(stored, from.rows_are_reduced, first, depth, begin, count, to);
  }
}

}  // namespace moe::cpu::MOE_ISA
