#pragma once
/// A product of an f32 and a bf16 matrix on the tensor cores, as exact as in f32. The f32 operand is split into three
/// bf16 matrices (8 significant bits each, 24 in all), and the products are added in f32.

#include "backend/cuda/context.h"
#include "ops/dense.h"

namespace moe::cuda {

/// Queues the product and returns true. Returns false, with nothing queued, if the product is of another kind or its
/// parts do not fit the workspace.
bool mixed_product(Context& context, const Gemm& op);

}  // namespace moe::cuda
