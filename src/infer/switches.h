#pragma once
/// Switches of routing that any model takes when it runs (docs/paper.md section 7): what they change is which experts
/// are chosen; gates are the scores that they always were.

#include <vector>

#include "formats/json.h"
#include "model/config.h"

namespace moe {

struct ExpertMask {
  int64_t layer = 0;
  std::vector<int64_t> experts;
};

struct RoutingSwitches {
  int64_t experts_per_token =
      0;                     ///< routed experts that a token uses; 0: the model's, and those for dropped shared ones
  int64_t skip = 0;          ///< each token's best experts that are passed over (Figure 4)
  bool drop_shared = false;  ///< without the shared experts, each in exchange for a routed one (section 4.5)
  std::vector<ExpertMask> masked = {};  ///< experts that nobody chooses

  bool any() const { return experts_per_token != 0 || skip != 0 || drop_shared || !masked.empty(); }
};

/// The model's configuration with the switches in it; n_shared_experts stays, as weights are read by it. Errors name
/// what does not fit the model: no routed experts, a layer without them, too few left to choose from.
ModelConfig switched(ModelConfig config, const RoutingSwitches& switches);

/// What was switched, for a report: "experts_per_token", "mask_best", "drop_shared", "masked" ({layer: [experts]}).
Json switches_json(const ModelConfig& config, const RoutingSwitches& switches);

/// Of each MoE layer's experts, in order, layer after layer: -infinity for masked ones, else 0. Empty without masks.
std::vector<float> expert_masks(const ModelConfig& config, const RoutingSwitches& switches);

}  // namespace moe
