#pragma once
/// Matrix products of any kind, by the fastest kernel that can take them.

#include "backend/cuda/context.h"
#include "ops/dense.h"

namespace moe::cuda {

/// Queues a Gemm: the operation itself, and a part of others.
void product(Context& context, const Gemm& op);

}  // namespace moe::cuda
