#include "backend/cpu/kernels/few_rows.h"
#include "backend/cpu/kernels/matrix.h"
#include "backend/cpu/kernels/micro.h"
#include "backend/cpu/kernels/pack.h"

namespace moe::cpu::MOE_ISA {
namespace {

/// With this depth, a K-block of a panel of b stays in the first-level cache together with a panel of a. Counted in
/// elements of a panel, like all depths here.
constexpr int64_t kMostDepth = 384;
/// The number of rows of a whose K-block stays in the second-level cache.
constexpr int64_t kRowsAtOnce = kTileRows * (192 / kTileRows);
/// The number of rows of c whose partial sums over some panels of columns fit in the scratch.
constexpr int64_t kMostRows = 4096;
/// Floats of packed a if it is packed as a whole, and of packed b otherwise: parts of the last-level cache.
constexpr int64_t kMostOfA = int64_t{3} << 19;
constexpr int64_t kMostOfB = int64_t{3} << 18;
/// Columns of b that are packed at a time if all of a is packed before. Their K-block stays in the second-level cache.
constexpr int64_t kColumnsAtOnce = 128;

struct Blocking {
  int64_t k;        ///< elements of a panel along all of K: numbers, or pairs of them
  int64_t depth;    ///< depth of a K-block; the last one may be smaller. It depends only on K
  bool whole_a;     ///< a is packed once, as a whole; otherwise again for each block of columns
  int64_t columns;  ///< of b packed at a time
  bool partial;     ///< sums of K-blocks stay in f32 scratch, because c would round them
};

/// The number of columns, in whole panels, that fit in `room` floats.
int64_t columns_in(int64_t room, const Product& p, const Blocking& blocking) {
  const int64_t floats = blocking.depth + (blocking.partial ? p.m : 0);
  return room <= 0 ? 0 : room / floats / kTileColumns * kTileColumns;
}

int64_t block_depth(int64_t k) {
  const int64_t blocks = (k + kMostDepth - 1) / kMostDepth;
  return round_up((k + blocks - 1) / blocks, 16);
}

Blocking choose_blocking(const Product& p, int64_t k) {
  Blocking blocking{};
  blocking.k = k;
  blocking.depth = block_depth(k);
  blocking.partial = p.c_type == Storage::bf16 && k > blocking.depth;
  const int64_t room = kScratchFloats - 2 * kPanelSlack;
  const int64_t all_columns = round_up(p.n, kTileColumns);

  const int64_t a_floats = round_up(p.m, kTileRows) * k;
  blocking.whole_a = a_floats <= kMostOfA;
  const int64_t left = room - (blocking.whole_a ? a_floats : kRowsAtOnce * blocking.depth);
  const int64_t packed_at_once = blocking.whole_a ? kColumnsAtOnce : kMostOfB / blocking.depth;
  blocking.columns = least(all_columns, least(columns_in(left, p, blocking), round_up(packed_at_once, kTileColumns)));
  return blocking;
}

/// All tiles of packed rows and packed columns for one K-block.
template <bool kPairs>
void multiply_panels(int64_t depth, const float* a, int64_t rows, const float* b, int64_t columns,
                     const TileTarget& to) {
  const int64_t whole_rows = rows / kTileRows * kTileRows, panel = kTileColumns * depth;
  for (int64_t j = 0; j < columns; j += kTileColumns, b += panel) {
    const int width = static_cast<int>(least(kTileColumns, columns - j));
    for (int64_t i = 0; i < whole_rows; i += kTileRows) {
      const TileTarget tile_to = moved(to, i, j);
      prefetch(tile_to, kTileRows);
      tile<kTileRows, kPairs>(depth, a + i * depth, b, tile_to, kTileRows, width);
    }
    if (whole_rows == rows) continue;
    any_tile<kPairs>(depth, a + whole_rows * depth, b, moved(to, whole_rows, j), static_cast<int>(rows - whole_rows),
                     width);
  }
}

/// The destination of the sums of the K-block that starts at `first`, for the columns from `column` on.
TileTarget target(const Product& p, const Blocking& blocking, int64_t first, int64_t column, float* partial) {
  const TileTarget c{p.c, p.c_type, p.c_step, p.c, p.c_type, p.c_step};
  const TileTarget at_c = moved(c, 0, column);
  TileTarget to = at_c;
  if (first > 0 && blocking.partial) to.add = partial, to.add_type = Storage::f32, to.add_step = blocking.columns;
  if (first == 0 && !p.accumulate) to.add = nullptr;
  if (first + blocking.depth < blocking.k && blocking.partial) {
    to.out = partial, to.out_type = Storage::f32, to.out_step = blocking.columns;
  }
  return to;
}

void clear(const Product& p) {
  for (int64_t i = 0; i < p.m; ++i) {
    const auto size = static_cast<size_t>(size_of(p.c_type));
    __builtin_memset(static_cast<char*>(p.c) + static_cast<size_t>(i * p.c_step) * size, 0,
                     static_cast<size_t>(p.n) * size);
  }
}

template <bool kPairs>
void multiply(const Product& p, float* scratch) {
  constexpr int64_t kNumbers = kPairs ? 2 : 1;  // in an element of a panel
  const Blocking blocking = choose_blocking(p, (p.k + kNumbers - 1) / kNumbers);
  const int64_t padded_rows = round_up(p.m, kTileRows);
  float* const b = scratch;
  float* const partial = b + blocking.columns * blocking.depth + kPanelSlack;
  float* const a = partial + (blocking.partial ? blocking.columns * p.m : 0);

  for (int64_t n = 0; n < p.n; n += blocking.columns) {
    const int64_t columns = least(blocking.columns, p.n - n);
    for (int64_t k = 0; k < blocking.k; k += blocking.depth) {
      const int64_t depth = least(blocking.depth, blocking.k - k);
      const int64_t first = k * kNumbers, numbers = least(depth * kNumbers, p.k - first);
      const TileTarget to = target(p, blocking, k, n, partial);
      pack<kTileColumns, kPairs>(p.b, first, numbers, n, columns, b);
      for (int64_t m = 0; m < p.m; m += kRowsAtOnce) {
        const int64_t rows = least(kRowsAtOnce, p.m - m);
        float* const a_block = blocking.whole_a ? a + padded_rows * k + m * depth : a;
        if (n == 0 || !blocking.whole_a) pack<kTileRows, kPairs>(p.a, first, numbers, m, rows, a_block);
        multiply_panels<kPairs>(depth, a_block, rows, b, columns, moved(to, m, 0));
      }
    }
  }
}

void multiply_part(const Product& p, float* scratch) {
  const bool few = has_few_rows(p);
  if (kMultipliesPairs && p.a.elements.type == Storage::bf16 && p.b.elements.type == Storage::bf16) {
    return few ? multiply_few<FewElements::pairs>(p, scratch, block_depth(p.k / 2))
               : multiply<kMultipliesPairs>(p, scratch);
  }
  if (!few) return multiply<false>(p, scratch);
  if (p.b.elements.type == Storage::f32) return multiply_few<FewElements::floats>(p, scratch, block_depth(p.k));
  multiply_few<FewElements::bf16_of_b>(p, scratch, block_depth(p.k) / 2);
}

template <bool kPairs>
int64_t multiply_add_chains(int64_t steps) {
  constexpr int kChains = 12;
  vf sum[kChains];
  vf a = splat(1.0f), b = splat(1e-20f);
  for (int chain = 0; chain < kChains; ++chain) sum[chain] = splat(static_cast<float>(chain));
  for (int64_t i = 0; i < steps; ++i) {
    asm volatile("" : "+x"(a), "+x"(b));
#pragma GCC unroll 12
    for (int chain = 0; chain < kChains; ++chain) {
      sum[chain] = kPairs ? fma_pairs(a, b, sum[chain]) : fma(a, b, sum[chain]);
    }
  }
  for (vf& x : sum) asm volatile("" ::"x"(x));
  return steps * kChains * kLanes * (kPairs ? 4 : 2);
}

}  // namespace

void product(const Product& p, float* scratch) {
  if (p.m == 0 || p.n == 0) return;
  if (p.k == 0) {
    if (!p.accumulate) clear(p);
    return;
  }
  for (int64_t m = 0; m < p.m; m += kMostRows) {
    Product part = p;
    part.m = least(kMostRows, p.m - m);
    if (p.a.rows_are_reduced) {
      part.a.elements.data = static_cast<const char*>(p.a.elements.data) + m * size_of(p.a.elements.type);
    } else if (p.a.rows != nullptr) {
      part.a.rows += m;
    } else {
      part.a.elements.data = static_cast<const char*>(p.a.elements.data) + m * p.a.step * size_of(p.a.elements.type);
    }
    part.c = static_cast<char*>(p.c) + m * p.c_step * size_of(p.c_type);
    multiply_part(part, scratch);
  }
}

int64_t multiply_add(int64_t steps, bool pairs) {
  if (pairs) return kMultipliesPairs ? multiply_add_chains<kMultipliesPairs>(steps) : 0;
  return multiply_add_chains<false>(steps);
}

}  // namespace moe::cpu::MOE_ISA
