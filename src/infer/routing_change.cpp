#include "infer/routing_change.h"

#include <algorithm>
#include <vector>

#include "base/error.h"

namespace moe {
namespace {

/// For each MoE layer but the model's last layer: the experts whose scores fall.
struct Change {
  bool any_token = false;  // a token's choice may change without its having chosen such an expert
  std::vector<std::vector<int64_t>> fallen;
};

Change change_of(const ModelConfig& before, const ModelConfig& after, const RoutingSwitches& old_switches,
                 const RoutingSwitches& new_switches) {
  const int64_t layers = before.moe_layers(), experts = before.n_routed_experts;
  const int64_t last = before.num_hidden_layers - 1;
  const int64_t watched = layers - (before.is_moe_layer(last) ? 1 : 0);
  Change change{.any_token = false, .fallen = std::vector<std::vector<int64_t>>(static_cast<size_t>(watched))};
  const bool same_numbers = before.num_experts_per_tok == after.num_experts_per_tok &&
                            before.skipped_experts == after.skipped_experts &&
                            old_switches.drop_shared == new_switches.drop_shared &&
                            old_switches.without_shared == new_switches.without_shared;
  if (!same_numbers) {
    change.any_token = watched > 0;
    return change;
  }
  std::vector<float> was = score_changes(before, old_switches), is = score_changes(after, new_switches);
  was.resize(static_cast<size_t>(layers * experts));
  is.resize(was.size());
  const bool others_count = !choosers_alone_feel_masks(before);
  for (int64_t layer = 0; layer < watched; ++layer) {
    for (int64_t expert = 0; expert < experts; ++expert) {
      const auto at = static_cast<size_t>(layer * experts + expert);
      if (was[at] == is[at]) continue;
      if (is[at] > was[at] || others_count) change.any_token = true;
      change.fallen[static_cast<size_t>(layer)].push_back(expert);
    }
  }
  return change;
}

}  // namespace

bool choosers_alone_feel_masks(const ModelConfig& config) {
  // A skipped expert is not among the chosen ones, and groups are ranked by experts that need not be chosen.
  return config.skipped_experts == 0 && config.topk_group >= config.n_group;
}

int64_t tokens_that_hold(const ModelConfig& own, const RoutingSwitches& before, const RoutingSwitches& after,
                         std::span<const int32_t> chosen, int64_t tokens) {
  if (own.n_routed_experts == 0 || tokens == 0) return tokens;
  const ModelConfig old_config = switched(own, before), new_config = switched(own, after);
  const Change change = change_of(old_config, new_config, before, after);
  if (change.any_token) return 0;
  const int64_t layers = own.moe_layers(), slots = old_config.router().slots();
  MOE_CHECK(static_cast<int64_t>(chosen.size()) == tokens * layers * slots);
  for (int64_t token = 0; token < tokens; ++token) {
    for (size_t layer = 0; layer < change.fallen.size(); ++layer) {
      const auto ids = chosen.subspan(static_cast<size_t>((token * layers + static_cast<int64_t>(layer)) * slots),
                                      static_cast<size_t>(slots));
      for (const int64_t expert : change.fallen[layer]) {
        if (std::find(ids.begin(), ids.end(), static_cast<int32_t>(expert)) != ids.end()) return token;
      }
    }
  }
  return tokens;
}

}  // namespace moe
