#pragma once
/// Routing of few tokens: what takes a kernel for each operation elsewhere takes one here, because the start of a
/// kernel costs more than its work. Each function returns false, with nothing queued, for more tokens than it can take.

#include "backend/cuda/context.h"
#include "ops/routing.h"

namespace moe::cuda {

bool few_slots_plan(Context& context, const RoutePlan& op);
/// All four operations in two kernels: the logits, and the rest.
bool few_tokens_route(Context& context, const RouteTokens& op);

}  // namespace moe::cuda
