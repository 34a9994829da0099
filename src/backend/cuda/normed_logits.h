#pragma once
/// A norm and the router's logits of what it gives in one kernel, for one or two tokens: the start of a kernel costs
/// more than either.

#include "backend/cuda/context.h"
#include "ops/routed_ffn.h"

namespace moe::cuda {

/// False, with nothing queued, if it does not support these operations.
bool normed_logits(Context& context, const RmsNorm& norm, const RouterScores& scores);

}  // namespace moe::cuda
