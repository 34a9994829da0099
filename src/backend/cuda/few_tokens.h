#pragma once
/// Routing of few tokens: what takes a kernel for each operation elsewhere takes one here, because the start of a
/// kernel costs more than its work. Each function returns false, with nothing queued, for more tokens or experts than
/// it can take.

#include "backend/cuda/context.h"
#include "ops/routing.h"

namespace moe::cuda {

bool few_slots_plan(Context& context, const RoutePlan& op);
/// All four operations in two kernels: the logits, and the rest.
bool few_tokens_route(Context& context, const RouteTokens& op);

/// The same in its two parts: the logits of tokens that suit, and the rest, which may wait for the logits alone.
bool suits_few_tokens(const RouteTokens& op);
bool few_tokens_logits(Context& context, const RouteTokens& op);
/// `done`: a counter that is 0, for several blocks that divide the tokens; null: one block takes all.
void few_tokens_choice(Context& context, const RouteTokens& op, const Handover* handover, int* done);

}  // namespace moe::cuda
