#pragma once
/// The three products of the contract by our own tile kernels.

#include "backend/cuda/context.h"
#include "ops/dense.h"

namespace moe::cuda {

void tile_product(Context& context, const Gemm& op);
void tile_product(Context& context, const GroupedGemm& op);
void tile_product(Context& context, const GroupedGemmReduce& op);

}  // namespace moe::cuda
