#pragma once
/// What /experts, /mask, /boost and /experts-per-token say about the routing of a chat.

#include <string>
#include <vector>

#include "infer/conversation.h"

namespace moe {

/// For each MoE layer, the `most` experts that were chosen most often, with their share of the choices.
std::string experts_table(const std::vector<LayerUse>& layers, const RoutingSwitches& switches, int64_t most);

/// "1:3,5 2:0", or "none".
std::string masks_text(const RoutingSwitches& switches);
/// "1:3 +0.5, 2:0 -0.1", or "none".
std::string boosts_text(const RoutingSwitches& switches);

}  // namespace moe
