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

/// Panels that are packed side by side, so that a line of the stored rows is read once.
constexpr int kPanelsAtOnce = 4;

/// One k of some panels: `left` elements from `row` on, into `to`, `panel_step` floats from panel to panel.
template <int Width, class T>
inline void pack_row(const T* row, int64_t left, int panels, float* to, int64_t panel_step, bool last) {
  for (int panel = 0; panel < panels; ++panel) {
    for (int j = 0; j < Width; j += kLanes) {
      const int64_t here = left - panel * Width - j;
      const T* const p = row + panel * Width + j;
      const vf x = here >= kLanes ? load(p) : (here > 0 ? load_part(p, static_cast<int>(here)) : zero());
      // What a vector holds beyond Width is overwritten by the next k.
      float* const at = to + panel * panel_step + j;
      j + kLanes <= Width || !last ? store(at, x) : store_part(at, x, Width - j);
    }
  }
}

/// pack_row where all panels are there, elements can be read beyond them, and another k follows.
template <int Width, class T>
inline void pack_inner_row(const T* row, float* to, int64_t panel_step) {
#pragma GCC unroll 4
  for (int panel = 0; panel < kPanelsAtOnce; ++panel) {
#pragma GCC unroll 2
    for (int j = 0; j < Width; j += kLanes) store(to + panel * panel_step + j, load(row + panel * Width + j));
  }
}

/// Packs columns [column, column + count) of stored rows [first, first + depth), which run along K, as consecutive
/// panels.
template <int Width, class T>
inline void pack_rows(const Stored<T>& from, int64_t first, int64_t depth, int64_t column, int64_t count, float* to) {
  constexpr int64_t kColumns = kPanelsAtOnce * Width;
  constexpr int64_t kReadable = kColumns - Width + round_up(Width, kLanes);
  const int64_t step = depth * Width;
  for (int64_t begin = 0; begin < count; begin += kColumns, to += kPanelsAtOnce * step) {
    const int64_t left = count - begin;
    const int panels = static_cast<int>(least(kPanelsAtOnce, (left + Width - 1) / Width));
    int64_t k = 0;
    for (; left >= kReadable && k + 1 < depth; ++k) {
      pack_inner_row<Width>(from.row(first + k) + column + begin, to + k * Width, step);
    }
    for (; k < depth; ++k) {
      pack_row<Width>(from.row(first + k) + column + begin, left, panels, to + k * Width, step, k + 1 == depth);
    }
  }
}

/// Transposes kLanes elements from each of up to kLanes addresses into [kLanes][Width].
template <int Width, class T>
inline void pack_square(const T* const* lines, int count, int64_t k, int depth, float* to) {
  constexpr int kLines = Width < kLanes ? Width : kLanes;
  vf block[kLanes] = {};
  if (count >= kLines && depth == kLanes) {
#pragma GCC unroll 16
    for (int i = 0; i < kLines; ++i) block[i] = load(lines[i] + k);
    transpose(block);
#pragma GCC unroll 16
    for (int i = 0; i < kLanes; ++i) store(to + i * Width, block[i]);
    return;
  }
  vf edge[kLanes] = {};
  for (int i = 0; i < kLines && i < count; ++i) edge[i] = load_part(lines[i] + k, depth);
  transpose(edge);
  for (int i = 0; i < depth; ++i) store(to + i * Width, edge[i]);
}

/// Packs `depth` elements from each of `count` addresses, which run along M or N: [depth][Width].
template <int Width, class T>
inline void pack_lines(const T* const* lines, int count, int64_t depth, float* to) {
  constexpr int64_t kCacheLine = 64 / sizeof(T);
  constexpr int64_t kStep = kCacheLine > kLanes ? kCacheLine : kLanes;
  for (int64_t k = 0; k < depth; k += kStep) {
    const int64_t end = least(depth, k + kStep);
    for (int group = 0; group < Width; group += kLanes) {
      for (int64_t i = k; i < end; i += kLanes) {
        pack_square<Width>(lines + group, count - group, i, static_cast<int>(least(kLanes, end - i)),
                           to + i * Width + group);
      }
    }
  }
}

template <int Width, class T>
inline void pack_stored(const Stored<T>& from, bool rows_are_reduced, int64_t first, int64_t depth, int64_t begin,
                        int64_t count, float* to) {
  if (rows_are_reduced) return pack_rows<Width>(from, first, depth, begin, count, to);
  for (int64_t i = 0; i < count; i += Width, to += Width * depth) {
    const int width = static_cast<int>(least(Width, count - i));
    const T* lines[Width];
    for (int line = 0; line < width; ++line) lines[line] = from.row(begin + i + line) + first;
    pack_lines<Width>(lines, width, depth, to);
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
