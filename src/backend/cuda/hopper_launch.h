#pragma once
/// Starts Hopper's grouped products. Each kernel is compiled in a separate file, so that several compile at the same
/// time.

#include "backend/cuda/hopper_tiles.h"
#include "backend/cuda/row_activation.h"
#include "backend/cuda/tile_problem.cuh"

namespace moe::cuda::hopper {

/// A grouped product with its stored operands. `p` holds all but the tiles' shape; `tall`: tiles of kTileRows *
/// choice.pair rows, at most.
struct Launch {
  const Context& context;
  const TileProblem& p;
  const View& a;
  const View& b;
  TileChoice choice;
  int64_t tall;
  RowActivation activation = {};  ///< of a product that ends in it
  View added_a = {};              ///< [R, k_added] in bf16, of a product that is added
  View added_b = {};              ///< as b, with k_added instead of k
};

/// c = a b^T by an expert's rows.
void start_by_rows(const Launch& launch);
/// The same ending in SwiGLU, in tiles of kSwigluColumns.
void start_by_rows_and_swiglu(const Launch& launch);
/// c = a b by an expert's rows.
void start_by_rows_across(const Launch& launch);
/// c = a^T b, reduced over an expert's rows.
void start_reduction(const Launch& launch);

}  // namespace moe::cuda::hopper
