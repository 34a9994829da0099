#pragma once
/// The three products of the contract by our own tile kernels, alone or with the activation that follows.

#include "backend/cuda/context.h"
#include "ops/adapted_product.h"

namespace moe::cuda {

void tile_product(Context& context, const Gemm& op);
void tile_product(Context& context, const GroupedGemm& op);
void tile_product(Context& context, const GroupedGemmReduce& op);

/// A product and the activation of what it gives (ops/expert_rows.h) in one kernel, where there is one; false, and
/// nothing queued, where there is none.
bool product_and_swiglu(Context& context, const GroupedGemm& product, const SwiGlu& activation);

/// Lists the tiles of a layer's experts for the products that are queued later with the same context.tile_lists. False,
/// and nothing queued, if they will not take them.
bool list_tiles_ahead(Context& context, const GroupedGemm& first);

/// A grouped product and what adapters add to it, in the same sums, on Hopper; false, and nothing queued, where
/// operands are of other types, or rows so few that other kernels are faster.
bool adapted_product(Context& context, const AdaptedProduct& op);

/// Whether the backward pass of experts is faster on rows that are gathered first: on Hopper, if experts have rows
/// enough. The copy engine loads the products' operands then, and no thread.
bool gathers(const Context& context, const ExpertsBackward& op);

}  // namespace moe::cuda
