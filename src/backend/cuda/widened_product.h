#pragma once
/// Products of many rows of bf16 with weights in blocks: the blocks are widened to bf16 in the workspace, some rows,
/// columns or experts at a time, and multiplied by `product`. A weight is rounded once, to bf16. Each function returns
/// false, with nothing queued, if it does not support the operation.

#include <functional>

#include "backend/cuda/context.h"
#include "ops/dense.h"

namespace moe::cuda {

bool widened_product(Context& context, const Gemm& op, const std::function<void(const Gemm&)>& product);
/// Calls product(part, first) for each part: the product of some experts, whose first one is number `first`.
bool widened_product(Context& context, const GroupedGemm& op,
                     const std::function<void(const GroupedGemm&, int64_t)>& product);

}  // namespace moe::cuda
