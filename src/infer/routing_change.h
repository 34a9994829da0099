#pragma once
/// What a change of routing switches leaves of a cache of keys and values.

#include <cstdint>
#include <span>

#include "infer/switches.h"

namespace moe {

/// True if a mask of an expert, or a lower score, changes the choice of no token that did not choose the expert.
/// `config` has the switches in it.
bool choosers_alone_feel_masks(const ModelConfig& config);

/// How many of the first tokens have the same keys and values, bit for bit, after the change. A layer's keys and values
/// come from the layers before it, so a change in the last layer leaves all of them. In another layer, a token's choice
/// stays the same if only scores fall of experts that it did not choose; but a token also depends on all tokens before
/// it. `own` is the configuration without switches. `chosen` has the experts of each token under `before`:
/// [tokens, MoE layers, S].
int64_t tokens_that_hold(const ModelConfig& own, const RoutingSwitches& before, const RoutingSwitches& after,
                         std::span<const int32_t> chosen, int64_t tokens);

}  // namespace moe
