#pragma once
/// Matrix products of any kind, with the fastest kernel that supports them.

#include "backend/cuda/context.h"
#include "ops/dense.h"

namespace moe::cuda {

/// Queues a Gemm. Other operations use it too.
void product(Context& context, const Gemm& op);

}  // namespace moe::cuda
