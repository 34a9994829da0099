#pragma once
/// Packs operands: a as [k][kTileRows] panels and b as [k][kTileColumns] panels, in f32 for every storage type, with
/// zeros beyond the edges. Gathered rows are gathered here. If both operands are bf16 and the processor multiplies
/// pairs of them, an element of a panel is the pair 2k, 2k + 1 in 32 bits, instead of one f32.

#include "backend/cpu/kernels/matrix.h"
#include "backend/cpu/kernels/micro.h"

namespace moe::cpu::MOE_ISA {

/// The number of floats that the last store of a run of panels may write beyond its end.
constexpr int kPanelSlack = kLanes;

/// A stored matrix: element (row, column) is at row(row)[column].
template <class T>
struct Stored {
  const T* data;
  int64_t step;
  const int32_t* rows;
  const T* row(int64_t i) const { return data + (rows == nullptr ? i : static_cast<int64_t>(rows[i])) * step; }
};

/// The elements of a stored row, which give one k of a panel.
template <class T>
struct OneRow {
  const T* row;
  vf whole(int64_t j) const { return load(row + j); }
  vf part(int64_t j, int count) const { return load_part(row + j, count); }
};

/// The same for two rows, as pairs. A null `second` gives zeros.
struct TwoRows {
  const bf16 *first, *second;
  static vh at(const bf16* row, int64_t j) { return row == nullptr ? vh{} : *(const vh_memory*)(row + j); }
  vf whole(int64_t j) const { return join(at(first, j), at(second, j)); }
  vf part(int64_t j, int count) const {
    bf16 a[kLanes] = {}, b[kLanes] = {};
    for (int i = 0; i < count; ++i) a[i] = first[j + i];
    for (int i = 0; i < count && second != nullptr; ++i) b[i] = second[j + i];
    return join(at(a, 0), at(b, 0));
  }
};

/// The number of panels that are packed side by side, so that a line of the stored rows is read once.
constexpr int kPanelsAtOnce = 4;

/// One k of some panels: `left` elements of `row` from `begin` on, to `to`, with `panel_step` floats between panels.
template <int Width, class Row>
inline void pack_row(const Row& row, int64_t begin, int64_t left, int panels, float* to, int64_t panel_step,
                     bool last) {
  for (int panel = 0; panel < panels; ++panel) {
    for (int j = 0; j < Width; j += kLanes) {
      const int64_t here = left - panel * Width - j;
      const int64_t at_row = begin + panel * Width + j;
      const vf x = here >= kLanes ? row.whole(at_row) : (here > 0 ? row.part(at_row, static_cast<int>(here)) : zero());
      // The next k overwrites what a vector holds beyond Width.
      float* const at = to + panel * panel_step + j;
      j + kLanes <= Width || !last ? store(at, x) : store_part(at, x, Width - j);
    }
  }
}

/// pack_row for `Panels` panels, if elements beyond them can be read and another k follows.
template <int Width, int Panels, class Row>
inline void pack_inner_row(const Row& row, int64_t begin, float* to, int64_t panel_step) {
#pragma GCC unroll 4
  for (int panel = 0; panel < Panels; ++panel) {
#pragma GCC unroll 2
    for (int j = 0; j < Width; j += kLanes) store(to + panel * panel_step + j, row.whole(begin + panel * Width + j));
  }
}

/// Packs columns [column, column + count) of `depth` rows (or pairs of rows), which run along K, as consecutive panels,
/// `Panels` of them side by side.
template <int Width, int Panels, class RowAt>
inline void pack_rows_by(RowAt row_at, int64_t depth, int64_t column, int64_t count, float* to) {
  constexpr int64_t kColumns = Panels * Width;
  constexpr int64_t kReadable = kColumns - Width + round_up(Width, kLanes);
  const int64_t step = depth * Width;
  for (int64_t begin = 0; begin < count; begin += kColumns, to += Panels * step) {
    const int64_t left = count - begin;
    const int panels = static_cast<int>(least(Panels, (left + Width - 1) / Width));
    int64_t k = 0;
    for (; left >= kReadable && k + 1 < depth; ++k) {
      pack_inner_row<Width, Panels>(row_at(k), column + begin, to + k * Width, step);
    }
    for (; k < depth; ++k) {
      pack_row<Width>(row_at(k), column + begin, left, panels, to + k * Width, step, k + 1 == depth);
    }
  }
}

template <int Width, class RowAt>
inline void pack_rows(RowAt row_at, int64_t depth, int64_t column, int64_t count, float* to) {
  constexpr int kFew = kPanelsAtOnce / 2;  // for example the columns of a head
  if (count <= kFew * Width) return pack_rows_by<Width, kFew>(row_at, depth, column, count, to);
  pack_rows_by<Width, kPanelsAtOnce>(row_at, depth, column, count, to);
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
  if (rows_are_reduced) {
    return pack_rows<Width>([&](int64_t k) { return OneRow<T>{from.row(first + k)}; }, depth, begin, count, to);
  }
  for (int64_t i = 0; i < count; i += Width, to += Width * depth) {
    const int width = static_cast<int>(least(Width, count - i));
    const T* lines[Width];
    for (int line = 0; line < width; ++line) lines[line] = from.row(begin + i + line) + first;
    pack_lines<Width>(lines, width, depth, to);
  }
}

/// pack_stored of bf16 as pairs. `first` is even. A last number without a partner forms a pair with 0.
template <int Width>
inline void pack_pairs(const Stored<bf16>& from, bool rows_are_reduced, int64_t first, int64_t depth, int64_t begin,
                       int64_t count, float* to) {
  const int64_t pairs = depth / 2, all = (depth + 1) / 2;
  if (rows_are_reduced) {
    const auto two_rows = [&](int64_t k) {
      return TwoRows{from.row(first + 2 * k), k < pairs ? from.row(first + 2 * k + 1) : nullptr};
    };
    return pack_rows<Width>(two_rows, all, begin, count, to);
  }
  for (int64_t i = 0; i < count; i += Width, to += Width * all) {
    const int width = static_cast<int>(least(Width, count - i));
    const float* lines[Width];  // the pairs are already side by side
    for (int line = 0; line < width; ++line) lines[line] = (const float*)(from.row(begin + i + line) + first);
    if (pairs > 0) pack_lines<Width>(lines, width, pairs, to);
    if (all == pairs) continue;
    const auto last = [&](int64_t k) {
      bf16 number{};
      if (k < width) number = from.row(begin + i + k)[first + depth - 1];
      return uint32_t{number.bits};
    };
    for (int line = 0; line < Width; ++line) {
      const uint32_t pair = last(line);
      __builtin_memcpy(to + pairs * Width + line, &pair, sizeof(pair));
    }
  }
}

/// Packs [begin, begin + count) of M or N, over the K-block [first, first + depth), as consecutive panels.
template <int Width, bool kPairs = false>
inline void pack(const Operand& from, int64_t first, int64_t depth, int64_t begin, int64_t count, float* to) {
  if (from.elements.type == Storage::bf16) {
    const Stored<bf16> stored{static_cast<const bf16*>(from.elements.data), from.step, from.rows};
    if constexpr (kPairs) return pack_pairs<Width>(stored, from.rows_are_reduced, first, depth, begin, count, to);
    pack_stored<Width>(stored, from.rows_are_reduced, first, depth, begin, count, to);
  } else {
    const Stored<float> stored{static_cast<const float*>(from.elements.data), from.step, from.rows};
    pack_stored<Width>(stored, from.rows_are_reduced, first, depth, begin, count, to);
  }
}

}  // namespace moe::cpu::MOE_ISA
