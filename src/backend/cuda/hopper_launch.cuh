#pragma once
/// What the files that compile Hopper's grouped products share: operands for the copy engine, and the launch.

#include "backend/cuda/hopper_launch.h"
#include "backend/cuda/hopper_product.cuh"

namespace moe::cuda::hopper {

/// A stored operand, [rows, columns] or one such matrix per expert, for the bulk copy engine: boxes of 64 columns by
/// `box_rows` rows.
Bulk in_bulk(const View& stored, int box_rows);

template <Grouping grouping, bool across, int columns, Ending ending = Ending::none>
void start(const Launch& l) {
  using T = Tiles<columns, across>;
  const auto function = kernel<grouping, across, columns, ending>;
  // For each launch: which device is current may change, and it costs little.
  check(cudaFuncSetAttribute(function, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(T::kSharedBytes)),
        "asking for shared memory");
  const int pair = l.choice.pair;
  const int64_t tile_count = l.tall * ceil_div(l.p.n, kTileColumns<columns, ending>);
  const int64_t places = std::min<int64_t>(tile_count, std::max(1, processors(l.context) / pair));
  if (places == 0) return;
  Bulk a{}, b{};
  if (l.p.a.rows == nullptr) a = in_bulk(l.a, grouping == Grouping::reduction ? kDepth : kTileRows);
  constexpr bool kHalves = ending == Ending::swiglu;  // of b's rows, from two places
  const int lines_of_b = across ? kDepth : box_columns(columns, kHalves ? 2 : pair);
  if (l.p.b.rows == nullptr) b = in_bulk(l.b, lines_of_b);
  Added added{};
  if (l.p.k_added > 0) added = {.a = in_bulk(l.added_a, kTileRows), .b = in_bulk(l.added_b, lines_of_b)};
  cudaLaunchAttribute attributes[2] = {};
  attributes[0].id = cudaLaunchAttributeClusterDimension;
  attributes[0].val.clusterDim.x = static_cast<unsigned>(pair);
  attributes[0].val.clusterDim.y = attributes[0].val.clusterDim.z = 1;
  attributes[1].id = cudaLaunchAttributeProgrammaticStreamSerialization;
  attributes[1].val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = blocks(places * pair);
  config.blockDim = dim3(kThreads);
  config.dynamicSmemBytes = T::kSharedBytes;
  config.stream = l.context.stream;
  config.attrs = attributes;
  // Early behind a kernel: the one that lists the tiles, or another product (early.cuh).
  const bool behind_kernel = l.context.tile_lists == nullptr || l.context.tile_lists->may_start_early;
  config.numAttrs = grouping == Grouping::rows && l.context.recording != nullptr && behind_kernel ? 2 : 1;
  check(cudaLaunchKernelEx(&config, function, l.p, a, b, added, static_cast<int>(tile_count), l.activation),
        "starting a grouped product");
}

template <Grouping grouping, bool across>
void start_width(const Launch& launch) {
  switch (launch.choice.columns) {
    case 256:
      return start<grouping, across, 256>(launch);
    case 216:
      return start<grouping, across, 216>(launch);
    case 176:
      return start<grouping, across, 176>(launch);
    default:
      return start<grouping, across, 128>(launch);
  }
}

}  // namespace moe::cuda::hopper
