#pragma once
/// Products of few rows of bf16 with weights in f32, as of a router beside weights in blocks: f32 arithmetic, and every
/// weight is read once.

#include "backend/cuda/context.h"
#include "ops/dense.h"

namespace moe::cuda {

/// False, with nothing queued, if it does not support the operation.
bool wide_rows_product(Context& context, const Gemm& op);

}  // namespace moe::cuda
