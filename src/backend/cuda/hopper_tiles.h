#pragma once
/// The tiles of Hopper's grouped products, and which of them a product gets: data and arithmetic that need no GPU.

#include <algorithm>
#include <cstdint>
#include <limits>

namespace moe::cuda::hopper {

constexpr int kTileRows = 128;
constexpr int kMultiplyingWarps = 8;  ///< of a block
/// Columns of a tile, widest first. The widths of experts are no multiples of 256: 864, 1728 = 4, 8 times 216; 1408 = 8
/// times 176.
constexpr int kWidths[] = {256, 216, 176, 128};

/// Blocks of a pair take two neighbouring tiles of rows and share what they load of b.
struct TileChoice {
  int columns;
  int pair;  ///< 1 or 2

  friend bool operator==(const TileChoice&, const TileChoice&) = default;
};

/// A product of row tiles of each of `experts`. `rows`: by an expert's rows, of all together; by reduction, of one
/// result.
struct TileDemand {
  bool reduction;
  bool gathered;  ///< rows of a are picked
  int64_t experts, rows, columns;
};

/// Tiles of kTileRows * pair rows, of all experts, that surely suffice.
inline int64_t row_tiles(const TileDemand& demand, int pair) {
  const int64_t height = int64_t{kTileRows} * pair, whole = (demand.rows + height - 1) / height;
  return demand.reduction ? demand.experts * whole : whole + demand.experts;
}

/// Pairs where an expert has rows for them.
inline int choose_pair(const TileDemand& demand, int multiprocessors) {
  constexpr int64_t kPairRows = 1024;  // of an expert; half of a pair of tiles is empty at each one's end
  const int64_t mean = demand.reduction ? demand.rows : demand.rows / std::max<int64_t>(demand.experts, 1);
  const bool even = (demand.rows + kTileRows - 1) / kTileRows % 2 == 0;
  return multiprocessors >= 2 && mean >= kPairRows && (even || !demand.reduction) ? 2 : 1;
}

/// Whether the products of a backward pass, of `rows` rows in all, win more on gathered rows than gathering costs. Both
/// grow with the rows. Experts of few rows are bound by storing their weights' gradients, which gathering leaves alone.
inline bool worth_gathering(int64_t rows, int64_t experts) {
  constexpr int64_t kLeastRows = 512;  // of an expert
  return rows >= kLeastRows * std::max<int64_t>(experts, 1);
}

/// The width that leaves the tensor cores least to do: what a tile multiplies beyond the last column is lost, and so
/// are kEnd columns' worth of time at each tile's end and the processors without a tile in the last round.
inline TileChoice choose_tiles(const TileDemand& demand, int multiprocessors) {
  constexpr int64_t kEnd = 16, kManyRounds = 8;
  const int pair = choose_pair(demand, multiprocessors);
  const int64_t places = multiprocessors / pair;
  // Half of the experts' last tiles exist.
  const int64_t height = int64_t{kTileRows} * pair;
  const int64_t tall = demand.reduction ? row_tiles(demand, pair) : demand.rows / height + (demand.experts + 1) / 2;
  TileChoice best{kWidths[0], pair};
  int64_t least = std::numeric_limits<int64_t>::max();
  for (const int width : kWidths) {
    const int64_t tiles = tall * ((demand.columns + width - 1) / width);
    const int64_t rounds = (tiles + places - 1) / places;
    // Of many rounds the last one matters little: it is what the shape says, not chance.
    const int64_t cost = (rounds < kManyRounds ? rounds * places : tiles) * (width + kEnd);
    if (cost >= least) continue;
    least = cost;
    best.columns = width;
    // What is gathered comes at the load units' pace: the wider the tile, the less often. (Measured: 256 columns of
    // which 216 are needed take less time than 216.)
    if (demand.gathered && rounds >= kManyRounds) break;
  }
  return best;
}

/// Columns of a product by rows that ends in SwiGLU, half of them the gate's.
constexpr int kSwigluColumns = 256;

}  // namespace moe::cuda::hopper
